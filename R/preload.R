# The template's side of `preload = TRUE`: an R process that has loaded the app, and forks the workers.

# Run in each worker after the fork, in this order.
forks <- new.env(parent = emptyenv())
forks$hooks <- list()

#' Make something anew in each worker
#'
#' With `run(preload = TRUE)` the app's code runs once, in a template process, and workers are forked
#' from it. They share what it has loaded, but there are things that two processes must not share: connections
#' to databases, open sockets, threads. `after_fork()` says how each worker makes its own.
#'
#' In a process that is not going to be forked (a worker without `preload`, or plumber by itself) `fun` is
#' called at once, so that the same code runs everywhere.
#'
#' Each worker draws its own random numbers anyway: `.Random.seed` is removed after the fork. [worker_id()] is right in
#' `fun` and later; while the app loads in a template it is 0.
#'
#' @param fun Function without arguments, called for what it does. Assign with `<<-` what the app needs.
#'   Several are called in the order of their registration. If one fails, so does the worker's start.
#' @return `NULL`, invisibly.
#'
#' @section Error conditions:
#' `faucet_error_option` if `fun` is not a function.
#'
#' @seealso The setting `preload` in [`faucet-options`], and `vignette("workers", package = "faucet")`.
#' @export
#' @examples
#' connection <- NULL
#' after_fork(function() connection <<- file(tempfile(), "w+"))
#' close(connection)
after_fork <- function(fun) {
  if (!is.function(fun)) {
    got <- describe_value(fun)
    abort("option", "{.arg fun} must be a function, not {got}.", option = "fun", call = rlang::current_env())
  }
  if (is_template()) {
    forks$hooks <- c(forks$hooks, fun)
  } else {
    fun()
  }
  invisible()
}

is_template <- function() {
  nzchar(Sys.getenv("FAUCET_TEMPLATE"))
}

# The app cannot be preloaded: the front starts ordinary workers instead.
end_template <- function(why) {
  template_say(paste("unable", gsub("[\r\n]+", " ", why)))
  invisible()
}

# Returns in the template when the front is gone, and in each worker when that is told to leave.
serve_forks <- function(app, host) {
  compile_app(app)
  warm_up()
  gc(full = TRUE)
  template_say("ready")
  worker <- suspendInterrupts(fork_workers())
  if (is.null(worker)) {
    return(invisible())
  }
  become_worker(worker)
  serve_native(app, host, worker$port, worker$socket)
}

# The template that all of a server's pools share: it has loaded packages, and no app. FALSE in the template, at the end; TRUE in
# a worker, whose environment and working directory say what it is to serve.
share_template <- function(packages) {
  for (package in packages) {
    tryCatch(
      loadNamespace(package),
      error = function(error) message("Package ", package, " is not loaded before it is needed: ", conditionMessage(error))
    )
  }
  # What nearly every function needs.
  for (package in c("jsonlite", "yaml")) requireNamespace(package, quietly = TRUE)
  warm_up()
  warm_up_functions()
  gc(full = TRUE)
  template_say("ready")
  worker <- suspendInterrupts(fork_workers())
  if (is.null(worker)) {
    return(FALSE)
  }
  become_worker(worker)
  TRUE
}

# NULL in the template, at the end; in a worker, what the front says of it.
fork_workers <- function() {
  repeat {
    order <- template_next(as.integer(longest_wait))
    if (isTRUE(order$end) || is_interrupted()) {
      return(NULL)
    }
    if (!is.null(order)) {
      flush_streams()
      if (template_fork()) {
        return(order)
      }
    }
  }
}

become_worker <- function(worker) {
  Sys.unsetenv("FAUCET_TEMPLATE")
  # Among these is its own folder for temporary files of libraries and of other processes.
  if (length(worker$env) > 0) do.call(Sys.setenv, as.list(worker$env))
  Sys.setenv(
    FAUCET_FORK = "true", FAUCET_WORKER_ID = worker$id, FAUCET_PORT = worker$port, FAUCET_SOCKET = worker$socket
  )
  # R's own temporary folder is the template's, unless this is another user, who cannot write there.
  tempdir(check = TRUE)
  if (!is.null(worker$dir)) setwd(worker$dir)
  # When the environment is the worker's, as it looks there.
  worker_watch()
  exit_with_errors()
  suppressWarnings(rm(".Random.seed", envir = globalenv()))
  for (hook in forks$hooks) hook()
}

# However a forked worker ends, by quit() or by an error, it must not remove R's temporary folder, which is its template's.
# inst/worker/worker.R sees to it that this is called before that, after all other finalizers.
leave_fork <- function() {
  grDevices::graphics.off()
  fork_exit(forks$status)
}

exit_with_errors <- function() {
  forks$status <- 0L
  if (is.null(getOption("error"))) {
    # What C code keeps to itself comes here, too, and ends no other worker either: an error in a finalizer, and an interrupt
    # that C code has looked for, as `later` does while it waits.
    options(error = function() if (forks$status != 0L) quit(save = "no", status = forks$status, runLast = FALSE))
  }
}

# Called by inst/worker/worker.R for an error that nobody in this worker takes.
note_error <- function() {
  forks$status <- 1L
}

# The first requests of a process are slow, as R compiles functions when they are called for the second time. Those of
# faucet, and of plumber as far as every app uses them, are compiled before the fork, so that no worker has to.
warm_up <- function() {
  constants <- rook_constants()
  app <- list(call = function(req) list(status = 200L, headers = list("Content-Type" = "text/plain"), body = "x"))
  if (isNamespaceLoaded("plumber")) {
    plumber <- asNamespace("plumber")
    app <- plumber$pr_get(plumber$pr(), "/", function(x = 1) list(x = x))
  }
  fields <- list(
    REQUEST_METHOD = "GET", PATH_INFO = "/", QUERY_STRING = "?x=2", SERVER_NAME = "localhost", SERVER_PORT = "80",
    HTTP_HOST = "localhost", HTTP_ACCEPT = "*/*", HEADERS = c(accept = "*/*", host = "localhost")
  )
  # What fails here fails for real requests too, where it is seen.
  tryCatch(
    for (i in 1:5) answer(respond(app, NULL, list(fields = fields, length = 0), constants)),
    error = function(error) NULL
  )
}

# The same for what functions are called by.
warm_up_functions <- function() {
  fun <- function(x = "", n = 1) list(x = x, n = n)
  app <- function_app(fun, "f")
  fields <- list(QUERY_STRING = "?n=2", HTTP_ACCEPT = "application/json;q=0.9, */*;q=0.1")
  body <- list(QUERY_STRING = "?n=2", CONTENT_TYPE = "application/json", CONTENT_LENGTH = "1")
  tryCatch(
    for (i in 1:3) {
      answer(app$direct(list(fields = fields, length = 0)))
      answer(app$call(c(body, list(rook.input = list(read = function(l = -1L) charToRaw("1"))))))
    },
    error = function(error) NULL
  )
}
