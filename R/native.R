# A native worker's own side: R takes requests from the thread that speaks HTTP, one at a time, and hands them to the
# app as httpuv would. All of this runs in a worker's process, called by inst/worker/worker.R.

# Stands in for httpuv::runServer(), which `original` is.
run_server <- function(original, host, port, app, ...) {
  why <- why_not_native(app, port)
  if (is.null(why)) {
    if (is_template()) serve_forks(app, host) else serve_native(app, host, port)
  } else if (is_template()) {
    end_template(why)
  } else if (Sys.getenv("FAUCET_WORKER") == "native") {
    stop("worker = \"native\" cannot be had: ", why, call. = FALSE)
  } else {
    original(host, port, app, ...)
  }
}

# NULL if this app can be served natively.
why_not_native <- function(app, port) {
  if (!identical(as.character(port), Sys.getenv("FAUCET_PORT"))) {
    paste0("the app asks for port ", port, " instead of FAUCET_PORT.")
  } else if (!is.function(app$call)) {
    "the app has no function `call`."
  } else if (!inherits(app, "Plumber") && is.function(app$onWSOpen)) {
    "the app takes WebSockets, which httpuv serves."
  } else if (length(app$staticPaths) > 0) {
    "the app has static paths, which httpuv serves."
  }
}

# Returns when the worker is told to leave.
serve_native <- function(app, host, port, socket = Sys.getenv("FAUCET_SOCKET")) {
  check_result(serve_start(socket, host, as.character(port)))
  on.exit(
    {
      serve_stop()
      clear_files()
    },
    add = TRUE
  )
  suspendInterrupts(serve_requests(app))
  # The front asks again and again. What runs from here on, exit hooks among it, is not to be interrupted: even a call
  # of Sys.sleep() that is resumed begins anew each time.
  worker_leave()
  # The interrupt that ended it, for whoever waits for one further up.
  signal_interrupt()
  invisible()
}

signal_interrupt <- function() {
  signalCondition(structure(class = c("interrupt", "condition"), list()))
}

# The longest wait for a request, in milliseconds: then R looks for interrupts and for what `later` has to do.
longest_wait <- 100

# The longest time without a look at what `later` has to do, in milliseconds. A look takes longer than all else between two
# requests, so that not every request gets one.
longest_rush <- 5

# Between two requests all interrupts are suspended: one that is meant for the server is taken here, and one that was meant
# for the last request never hits the next.
serve_requests <- function(app) {
  constants <- rook_constants()
  on_headers <- app$onHeaders
  wait <- 0
  repeat {
    request <- serve_next(wait)
    # One that is meant for this very request, just taken, is left to it.
    if (serve_has_interrupt() && !serve_is_cancelled() && is_interrupted()) {
      if (!is.null(request)) answer_text(503L, ending)
      return(invisible())
    }
    if (!is.null(request) && !handle_request(app, on_headers, request, constants)) {
      return(invisible())
    }
    if (serve_is_rushed(longest_rush)) {
      wait <- longest_rush
    } else {
      due <- look_at_later()
      if (is.null(due)) {
        return(invisible())
      }
      wait <- min(longest_wait, 1000 * due)
    }
    if (is.null(request) && serve_is_closed()) {
      stop("The thread that serves HTTP has ended.", call. = FALSE)
    }
  }
}

# Runs what is due, and returns the seconds until there is more. NULL if the worker is to end.
look_at_later <- function() {
  due <- later::next_op_secs()
  if (due <= 0) {
    if (!run_callbacks()) {
      return(NULL)
    }
    due <- later::next_op_secs()
  }
  max(due, 0)
}

# Takes an interrupt that is pending. Sys.sleep() looks for one, whatever its time.
is_interrupted <- function() {
  tryCatch(
    {
      allowInterrupts(Sys.sleep(0))
      FALSE
    },
    interrupt = function(condition) TRUE
  )
}

# Whether the worker goes on.
handle_request <- function(app, on_headers, request, constants) {
  clear_files()
  interrupted <- FALSE
  tryCatch(
    answer(allowInterrupts(respond(app, on_headers, request, constants))),
    error = answer_failure,
    interrupt = function(condition) interrupted <<- TRUE
  )
  # Somebody ends this process, not this request.
  stopped <- interrupted && !serve_is_cancelled()
  if (stopped) answer_text(503L, ending)
  if (serve_finish()) {
    # The interrupt that was sent for this request may have come too late for it.
    is_interrupted()
  }
  !stopped
}

ending <- "This worker is about to end."

respond <- function(app, on_headers, request, constants) {
  req <- rook_request(request, constants)
  response <- if (is.function(on_headers)) on_headers(req)
  if (is.null(response)) response <- app$call(req)
  if (inherits(response, "promise")) await(response) else response
}

# The value of a promise; meanwhile `later` runs.
await <- function(promise) {
  result <- NULL
  promises::then(
    promise,
    onFulfilled = function(value) result <<- list(value = value),
    onRejected = function(error) result <<- list(error = error)
  )
  while (is.null(result)) later_step(longest_wait / 1000)
  if (!is.null(result$error)) stop(result$error)
  result$value
}

# An error in a callback is nobody's answer: it is shown, and the others go on.
later_step <- function(timeout = 0) {
  tryCatch(
    later::run_now(timeout),
    error = function(error) {
      # All that `later` says of a callback that was interrupted.
      if (!nzchar(conditionMessage(error))) signal_interrupt()
      message("Error in a callback: ", conditionMessage(error))
    }
  )
}

# Whether the worker goes on.
run_callbacks <- function() {
  tryCatch(
    {
      allowInterrupts(later_step())
      TRUE
    },
    interrupt = function(condition) FALSE
  )
}

# Sends a Rook response: status, headers, and a body that is raw, text, or c(file = path).
answer <- function(response) {
  if (serve_has_streamed()) {
    # Its head is sent, and all that the app has to say.
    return(invisible())
  }
  body <- response$body
  if ("file" %in% names(body)) {
    owned <- isTRUE(as.logical(as.list(body)$owned))
    body <- served_file(body[["file"]])
    # httpuv's word for a file that nobody needs any more.
    if (owned) files$used <- c(files$used, body)
  } else if (is.character(body)) {
    body <- if (length(body) > 0) charToRaw(enc2utf8(body[[1]]))
  } else if (!is.null(body) && !is.raw(body)) {
    got <- describe_value(body)
    stop("The body of a response must be raw, text or c(file = path), not ", got, ".", call. = FALSE)
  }
  head <- response_head(response$status, response$headers)
  failure <- serve_answer(head$status, head$names, head$values, body)
  if (!is.null(failure)) raise_failure(failure)
}

response_head <- function(status, headers) {
  if (!is.numeric(status) || length(status) != 1 || is.na(status)) {
    stop("The status of a response must be a number, not ", describe_value(status), ".", call. = FALSE)
  }
  names <- as.character(names(headers))
  if (length(names) != length(headers)) {
    stop("The headers of a response must have names.", call. = FALSE)
  }
  values <- vapply(headers, function(value) enc2utf8(paste(value, collapse = ", ")), "", USE.NAMES = FALSE)
  list(status = as.numeric(status), names = names, values = as.character(values))
}

# In httpuv's words, so that an app's errors look the same however it is served.
answer_failure <- function(error) {
  message("Error while handling a request: ", conditionMessage(error))
  answer_text(500L, paste("ERROR:", conditionMessage(error), collapse = "\n"))
}

answer_text <- function(status, text) {
  if (!serve_has_streamed()) {
    answer(list(status = status, headers = list("Content-Type" = "text/plain; charset=UTF-8"), body = text))
  }
}

served_file <- function(path) {
  if (!rlang::is_string(path) || !file.exists(path) || dir.exists(path)) {
    stop("The file of a response does not exist: ", describe_value(path), call. = FALSE)
  }
  normalizePath(path)
}

# Files that are to be removed. When the next request comes, the front has opened that of the last one.
files <- new.env(parent = emptyenv())

clear_files <- function() {
  if (length(files$used) > 0) {
    unlink(files$used)
    files$used <- NULL
  }
}
