#' A running server
#'
#' @description The handle that [run()], [run_k8s()], [run_hub()] and [run_worker()] return: it tells how the server is
#'   doing, changes it, and stops it.
#'
#' A server belongs to the R process that started it. It ends when `$stop()` is called, when the handle is
#' garbage collected, and when the process ends, however it ends. Workers that [run()] or [run_worker()] started end with it;
#' replicas of [run_k8s()] go on, and so do workers that dialled in at [run_hub()].
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
#'   another reload is under way; or the files of `tls` cannot be used, and what was read before stays in use. Field
#'   `lines`: the last lines that R wrote.
#' - `faucet_error_lookup`: the name that `$reload()` looked up again led to nothing. The replicas that are known serve on.
#' - `faucet_error_unsupported`: `$scale()` of [run_k8s()] or [run_hub()], which do not start their workers; `$add_pool()` and
#'   `$remove_pool()` of [run_hub()], whose pools are made by the routes of its workers, or of [run_worker()], which has one.
#' - `faucet_error_timeout`: requests were still in flight when the time of `$drain()` was over.
#' - `faucet_error_stopped`: the server has stopped, or is about to.
#'
#' @seealso [run()], [run_k8s()], [run_hub()] and [run_worker()], which make one.
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
    #' @description Made by [run()] and the like, not by users.
    #' @param link The session's end of the server.
    initialize = function(link) {
      private$link <- link
    },

    #' @description How each worker is doing.
    #' @return A data frame with a row for each worker:
    #'
    #'   - `pool` (character): the route of its pool, `"/"` if there is only one.
    #'   - `worker` (integer): its number, in its pool.
    #'   - `pid` (integer): its process. `NA` while it has none, and for replicas.
    #'   - `name` (character): what it calls itself, if it has dialled in. `NA` otherwise.
    #'   - `address` (character): where it listens, such as `"10.0.0.7:8000"`, or the path of its socket. `NA` while it does
    #'     not.
    #'   - `state` (character): `"starting"`; `"ready"`; `"busy"`, which has a request; `"suspended"`, which is a replica that
    #'     cannot be reached and is tried again and again; `"draining"`, which finishes what it has; `"stopping"`; `"dead"`;
    #'     `"failed"`, whose last starts have all failed (`max_failures`), and which is tried again now and then.
    #'   - `worker_type` (character): who serves in it. `"native"` or `"http"`, and for a replica `"faucet"` if it runs
    #'     faucet itself, or else `"http"`. `NA` while that is not known.
    #'   - `compiled` (character): how many routes of its app are compiled, such as `"3 of 5"`; see [compiled_routes()]. `NA`
    #'     where that is not known, as of a worker of type `http`.
    #'   - `slots` (integer): how many requests it takes at a time, or with `sticky`, how many sessions. `0` while it takes none.
    #'   - `in_flight` (integer): requests it is working on.
    #'   - `sessions` (integer): sessions that it has. `NA` without `sticky`.
    #'   - `requests` (double): those it has answered.
    #'   - `restarts` (integer).
    #'   - `memory` (double): resident, in bytes. `NA` for replicas.
    #'   - `started` (POSIXct): when its process was started, or when the replica was found.
    #'   - `boot` (double): seconds from then, or from its fork, until it accepted requests.
    #'   - `next_try` (POSIXct): when it is started again, if it is `"dead"` or `"failed"`. `NA` otherwise.
    status = function() {
      status <- server_state(private$link, call = rlang::current_env())
      data.frame(
        pool = status$pool,
        worker = status$worker,
        pid = status$pid,
        name = status$name,
        address = status$address,
        state = status$state,
        worker_type = status$worker_type,
        compiled = status$compiled,
        slots = status$slots,
        in_flight = status$in_flight,
        sessions = status$sessions,
        requests = status$requests,
        restarts = status$restarts,
        memory = status$memory,
        started = .POSIXct(status$started),
        boot = status$boot,
        next_try = .POSIXct(status$next_try)
      )
    },

    #' @description How the lookup of the replicas' name is doing, or what comes of offers to hubs.
    #' @return For [run()] and [run_hub()] `NULL`. For [run_worker()] a data frame with a row for each address of each hub:
    #'
    #'   - `hub` (character): as it was given, with its port.
    #'   - `address` (character): `NA` if the name leads nowhere.
    #'   - `offers` (integer): slots that are offered there now.
    #'   - `connections` (integer): those that are open, which are offers, or have a request.
    #'   - `trouble` (character): what went wrong last, until something goes well. `NA` if nothing did.
    #'
    #'   For [run_k8s()] a list:
    #'
    #'   - `url` (string): what is looked up.
    #'   - `state` (string): `"ok"`; `"pending"`, before the first answer; `"failed"`, if DNS did not answer; `"empty"`,
    #'     if it knows no such name, or no address of it. The latter two do no harm to replicas that are known.
    #'   - `message` (string): what went wrong, `NA` if nothing did.
    #'   - `since` (POSIXct): when this state began.
    #'   - `addresses` (integer): how many are known.
    lookup = function() {
      lookup_state(private$link, call = rlang::current_env())
    },

    #' @description Change the number of workers, and wait until there are that many. Workers that leave
    #'   finish their request first. Not for [run_k8s()]: there, `kubectl scale` does it.
    #' @param n The new number of workers; or two numbers, the least and the most, as for [run()].
    #' @param pool Of which pool, by its route. Not needed if there is only one.
    #' @return The handle, invisibly.
    scale = function(n, pool = NULL) {
      call <- rlang::current_env()
      refuse_change(private$link, "workers", call)
      n <- check_setting(n, "n", setting_definitions()$workers, call = call)
      private$command(list(name = "scale", n = n, pool = private$check_pool(pool, call)), call)
    },

    #' @description Replace all workers by new ones that run the current code, without losing a request. They, and those
    #'   that are started after them, get this session's environment variables as they are now. If
    #'   the new code does not start, the old workers stay and an error says why. Of [run_k8s()]: look the
    #'   replicas' name up again, now.
    #'
    #'   The files of `tls` are read again, too, if all pools reload.
    #'
    #'   A server that was started from a configuration file reads it again, and adds, replaces and removes what differs.
    #' @param pool Of which pool, by its route. By default of all, one after the other.
    #' @return The handle, invisibly.
    reload = function(pool = NULL) {
      call <- rlang::current_env()
      private$command(reload_command(private$link, private$check_pool(pool, call)), call)
    },

    #' @description Serve another app at a route of its own, and wait until its first worker is ready: from then on, requests
    #'   find it. If it does not start, an error of class `faucet_error_boot` says why, and all is as before.
    #' @param route Where: see [pool()].
    #' @param pool A [pool()], or a directory.
    #' @return The handle, invisibly.
    add_pool = function(route, pool) {
      call <- rlang::current_env()
      refuse_change(private$link, "pools", call)
      settings <- resolve_pool(route, pool, private$link$given %||% list(), call = call)
      private$command(list(name = "add_pool", settings = settings), call)
    },

    #' @description Serve an app no longer: its route is taken away, requests that it has are answered, and its workers end.
    #' @param route Of which pool.
    #' @param timeout How long requests that it has may take, and its sessions last, in seconds. The default is the server's
    #'   `shutdown_timeout`.
    #' @return The handle, invisibly.
    remove_pool = function(route, timeout = NULL) {
      call <- rlang::current_env()
      refuse_change(private$link, "pools", call)
      route <- check_route(route, call = call)
      private$command(
        list(name = "remove_pool", pool = route, timeout = private$check_timeout(timeout, call)), call
      )
    },

    #' @description Take no new requests, and wait until those in flight and in the queue are answered.
    #' @param timeout How long to wait, in seconds. The default is the server's `shutdown_timeout`.
    #' @return The handle, invisibly.
    drain = function(timeout = NULL) {
      call <- rlang::current_env()
      private$command(list(name = "drain", timeout = private$check_timeout(timeout, call)), call)
    },

    #' @description Drain, then end the workers of [run()], so that R's exit hooks run in each. It is no
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
    #' @field url Address of the server, such as `"http://127.0.0.1:8080"`, or `"unix:/run/app.sock"`. `NULL` for [run_worker()]
    #'   without a port.
    url = function(value) {
      if (!missing(value)) read_only("url")
      private$link$url
    },
    #' @field worker_address Where workers dial in, such as `"127.0.0.1:4040"`; `NULL` if it is no [run_hub()].
    worker_address = function(value) {
      if (!missing(value)) read_only("worker_address")
      private$link$worker_address
    },
    #' @field admin_url Address of `/metrics` and `/status`, or `NULL` without an admin port.
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

    check_pool = function(pool, call) {
      if (!is.null(pool)) check_route(pool, call = call)
    },

    check_timeout = function(timeout, call) {
      if (is.null(timeout)) {
        return(private$link$shutdown_timeout)
      }
      check_setting(timeout, "timeout", setting_definitions()$shutdown_timeout, call = call)
    }
  )
)

# For `str()` of a handle or of what holds it, and for lists of variables, which show it with `str()`: what `print()` shows,
# but no row for each worker.
#' @importFrom utils str
#' @export
#' @noRd
str.faucet_server <- function(object, ..., indent.str = " ") { # nolint: object_name_linter. The generic's name for it.
  lines <- summarise_server(object$.__enclos_env__$private$link)
  cat(lines[[1]], paste0(indent.str, lines[[2]]), sep = "\n")
}

read_only <- function(field) {
  abort("option", "{.field {field}} of a server cannot be set.", option = field)
}
