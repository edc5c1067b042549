#' A running server
#'
#' @description
#' The handle that [run()] returns: it tells how the server is doing, changes it, and stops it.
#'
#' A server belongs to the R process that started it. Its workers end when `$stop()` is called,
#' when the handle is garbage collected, and when the process ends, however it ends.
#'
#' Methods that wait can be interrupted with Ctrl-C: what they started then goes on by itself.
#'
#' @section Error conditions:
#' - `faucet_error_handle`: the handle comes from another R process: it was saved and read again, or the
#'   process was forked since.
#' - `faucet_error_option`: an argument has a value that the method does not take.
#' - `faucet_error_boot`: workers that `$scale()` started have failed. The others serve on. Field
#'   `lines`: the last lines that R wrote.
#' - `faucet_error_reload`: the new code that `$reload()` started has failed, and the old workers serve on; or
#'   another reload is under way. Field `lines`: the last lines that R wrote.
#' - `faucet_error_timeout`: requests were still in flight when the time of `$drain()` was over.
#' - `faucet_error_stopped`: the server has stopped, or is about to.
#'
#' @seealso [run()], which makes one.
#' @examples
#' \dontrun{
#' server <- run("api", workers = 2, port = 0, block = FALSE)
#' server$url
#' server$status()
#' server$scale(4)
#' server$stop()
#' }
faucet_server <- R6::R6Class(
  "faucet_server",
  cloneable = FALSE,
  public = list(
    #' @description Made by [run()], not by users.
    #' @param link The session's end of the server.
    initialize = function(link) {
      private$link <- link
    },

    #' @description How each worker is doing.
    #' @return A data frame with a row for each worker: `worker` (its number), `pid` (`NA` while it
    #'   has no process), `state` (`"starting"`, `"ready"`, `"busy"`, `"draining"`, `"stopping"`,
    #'   `"dead"` or `"failed"`, the latter meaning that it was given up), `type` (`"native"` or `"http"`:
    #'   who serves in it, `NA` while it starts), `in_flight` (requests it is working on), `requests`
    #'   (those it has answered), `restarts`, `memory` (resident, in bytes), `started` (when the process
    #'   was started) and `boot` (seconds from then, or from its fork, until it accepted requests).
    status = function() {
      status <- server_state(private$link, call = rlang::current_env())
      data.frame(
        worker = status$worker,
        pid = status$pid,
        state = status$state,
        type = status$type,
        in_flight = status$in_flight,
        requests = status$requests,
        restarts = status$restarts,
        memory = status$memory,
        started = .POSIXct(status$started),
        boot = status$boot
      )
    },

    #' @description Change the number of workers, and wait until there are that many. Workers that leave
    #'   finish their request first.
    #' @param n The new number of workers.
    #' @return The handle, invisibly.
    scale = function(n) {
      call <- rlang::current_env()
      n <- check_setting(n, "n", setting_definitions()$workers, call = call)
      private$command(list(name = "scale", n = n), call)
    },

    #' @description Replace all workers by new ones that run the current code, without losing a request. If
    #'   the new code does not start, the old workers stay and an error says why.
    #' @return The handle, invisibly.
    reload = function() {
      private$command(list(name = "reload"), rlang::current_env())
    },

    #' @description Take no new requests, and wait until those in flight and in the queue are answered.
    #' @param timeout How long to wait, in seconds. The default is the server's `shutdown_timeout`.
    #' @return The handle, invisibly.
    drain = function(timeout = NULL) {
      call <- rlang::current_env()
      private$command(list(name = "drain", timeout = private$check_timeout(timeout, call)), call)
    },

    #' @description Drain, then end the workers, so that R's exit hooks run in each. It is no
    #'   error if the server has stopped already.
    #' @param timeout How long requests in flight may take, in seconds. The default is the server's
    #'   `shutdown_timeout`.
    #' @return The handle, invisibly.
    stop = function(timeout = NULL) {
      call <- rlang::current_env()
      private$command(list(name = "stop", timeout = private$check_timeout(timeout, call)), call)
    },

    #' @description Wait until the server has stopped. Meanwhile Ctrl-C and signals do what they do in
    #'   [run()] with `block = TRUE`.
    #' @param timeout How long to wait, in seconds.
    #' @return `TRUE` if the server has stopped, `FALSE` if time ran out, invisibly.
    wait = function(timeout = Inf) {
      call <- rlang::current_env()
      timeout <- check_setting(timeout, "timeout", setting("duration", Inf, "", infinite = TRUE), call = call)
      invisible(block_on(private$link, timeout = timeout, call = call))
    },

    #' @description Whether the server runs.
    #' @return `TRUE` or `FALSE`.
    is_running = function() {
      is_running(private$link, call = rlang::current_env())
    },

    #' @description The lines that `print()` shows.
    #' @param ... Not used.
    #' @return A character vector.
    format = function(...) {
      format_server(private$link)
    },

    #' @description Show the server as a short table.
    #' @param ... Not used.
    #' @return The handle, invisibly.
    print = function(...) {
      cat(self$format(...), sep = "\n")
      invisible(self)
    }
  ),
  active = list(
    #' @field url Address of the server, such as `"http://127.0.0.1:8080"`.
    url = function(value) {
      if (!missing(value)) read_only("url")
      private$link$url
    },
    #' @field admin_url Address of `/metrics` and `/status`, or `NULL` without `admin_port`.
    admin_url = function(value) {
      if (!missing(value)) read_only("admin_url")
      private$link$admin_url
    }
  ),
  private = list(
    link = NULL,

    command = function(command, call) {
      run_command(private$link, command, call = call)
      invisible(self)
    },

    check_timeout = function(timeout, call) {
      if (is.null(timeout)) {
        return(private$link$shutdown_timeout)
      }
      check_setting(timeout, "timeout", setting_definitions()$shutdown_timeout, call = call)
    }
  )
)

read_only <- function(field) {
  abort("option", "{.field {field}} of a server cannot be set.", option = field)
}

format_server <- function(link) {
  head <- paste0(cli::col_grey("<faucet_server> "), cli::style_bold(link$url))
  status <- tryCatch(server_state(link), faucet_error_handle = function(condition) NULL)
  if (is.null(status)) {
    return(c(head, "This handle belongs to another R process."))
  }
  if (!is_running(link)) {
    return(c(head, cli::col_grey(link$dir), "stopped"))
  }
  # One that leaves and the one that takes its place have the same number.
  workers <- length(unique(status$worker))
  counts <- paste(
    workers, if (workers == 1) "worker," else "workers,",
    sum(status$in_flight), "in flight,", status$queue, "waiting"
  )
  c(head, cli::col_grey(link$dir), counts, format_workers(status))
}

format_workers <- function(status) {
  if (length(status$worker) == 0) {
    return(NULL)
  }
  columns <- list(
    worker = status$worker,
    pid = ifelse(is.na(status$pid), "-", status$pid),
    state = status$state,
    type = ifelse(is.na(status$type), "-", status$type),
    in_flight = status$in_flight,
    requests = format(status$requests, scientific = FALSE, trim = TRUE),
    restarts = status$restarts,
    memory = format_memory(status$memory),
    started = ifelse(is.na(status$started), "-", format(.POSIXct(status$started), "%Y-%m-%d %H:%M:%S")),
    boot = ifelse(is.na(status$boot), "-", sprintf("%.2f s", status$boot))
  )
  cells <- Map(function(name, values) format(c(name, values), justify = "right"), names(columns), columns)
  lines <- do.call(paste, c(unname(cells), sep = "  "))
  c(cli::style_bold(lines[[1]]), lines[-1])
}
