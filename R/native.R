# A native worker's own side: R takes requests from the thread that speaks HTTP, one at a time, and hands them to the
# app as httpuv would. All of this runs in a worker's process, called by inst/worker/worker.R.

# Stands in for httpuv::runServer(), which `original` is. Whatever port the app asks for, it is this worker's server, unless it
# has one on FAUCET_PORT already.
run_server <- function(original, host, port, app, ...) {
  if (!identical(as.character(port), Sys.getenv("FAUCET_PORT"))) {
    if (serves_own_port()) {
      return(original(host, port, app, ...))
    }
    tell_of_port(port)
    port <- as.integer(Sys.getenv("FAUCET_PORT"))
    host <- Sys.getenv("FAUCET_HOST")
  }
  why <- why_not_native(app)
  if (is.null(why)) {
    if (inherits(app, "Plumber")) tell_handler_errors(app)
    if (is_template()) serve_forks(app, host) else serve_native(app, host, port)
  } else if (is_template()) {
    end_template(why)
  } else if (Sys.getenv("FAUCET_WORKER_TYPE") == "native") {
    stop("worker_type = \"native\" cannot be had: ", why, call. = FALSE)
  } else {
    original(host, port, app, ...)
  }
}

# Whether httpuv listens on FAUCET_PORT in this process.
serves_own_port <- function() {
  ports <- lapply(httpuv::listServers(), function(server) tryCatch(server$getPort(), error = function(error) NULL))
  Sys.getenv("FAUCET_PORT") %in% unlist(lapply(ports, as.character))
}

# Once, not by each of many workers. A template is number 0.
tell_of_port <- function(port) {
  front <- Sys.getenv("FAUCET_SERVER_PORT")
  if (Sys.getenv("FAUCET_WORKER_ID") %in% c("0", "1") && !identical(as.character(port), front)) {
    message(
      "The port that the app asks for, ", paste(port, collapse = " "), ", is ignored: faucet brings the requests to it",
      if (nzchar(front)) paste(", and listens on port", front), ". The code can stay as it is."
    )
  }
}

# NULL if this app can be served natively.
why_not_native <- function(app) {
  if (!is.function(app$call)) {
    "the app has no function `call`."
  } else if (!inherits(app, "Plumber") && is.function(app$onWSOpen)) {
    "the app takes WebSockets, which httpuv serves."
  } else if (length(app$staticPaths) > 0) {
    "the app has static paths, which httpuv serves."
  }
}

# Returns when the worker is told to leave.
serve_native <- function(app, host, port, socket = Sys.getenv("FAUCET_SOCKET")) {
  # Where the request has arrived is where the front listens.
  name <- Sys.getenv("FAUCET_SERVER_NAME", host)
  server_port <- Sys.getenv("FAUCET_SERVER_PORT", as.character(port))
  routes <- routes_of(app, compile_app(app))
  check_result(serve_start(socket, name, server_port, docs_of(app) %||% "", signature_of(app) %||% "", routes %||% ""))
  on.exit(
    {
      serve_stop()
      clear_files()
    },
    add = TRUE
  )
  suspendInterrupts(with_own_execs(serve_requests(app)))
  # The front asks again and again. What runs from here on, exit hooks among it, is not to be interrupted: even a call
  # of Sys.sleep() that is resumed begins anew each time.
  worker_leave()
  # The interrupt that ended it, for whoever waits for one further up.
  signal_interrupt()
  invisible()
}

# The path of an app's page of documentation, if it has one: while a router of plumber's runs, it is mounted.
docs_of <- function(app) {
  page <- "/__docs__/"
  mounted <- if (inherits(app, "Plumber")) tryCatch(names(app$mounts), error = function(error) NULL)
  if (page %in% mounted) page
}

# What a function takes, as JSON; other apps say nothing of that.
signature_of <- function(app) {
  if (rlang::is_string(app$signature)) app$signature
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
  warn <- options("warn")
  repeat {
    # stop() with a condition that is no error goes to R's top level, past every handler but this restart.
    over <- withRestarts(
      tryCatch(serve_until_over(app, constants), error = identity),
      abort = function() "aborted"
    )
    if (inherits(over, "error")) stop(over)
    if (!identical(over, "aborted")) {
      return(invisible())
    }
    options(warn)
    if (serve_is_busy()) {
      answer_text(500L, "An exception occurred.")
      end_request(FALSE)
    }
  }
}

serve_until_over <- function(app, constants) {
  on_headers <- app$onHeaders
  wait <- 0
  while (!is.null(wait)) {
    request <- serve_next(wait)
    if (is_told_to_leave()) {
      if (!is.null(request)) answer_text(503L, ending)
      return(invisible())
    }
    if (is.null(request)) {
      check_thread()
    } else {
      handle <- if (is.null(request$route)) handle_request else handle_compiled
      if (!handle(app, on_headers, request, constants)) {
        return(invisible())
      }
    }
    wait <- look_around()
  }
}

# One for the request that was just taken is left for that.
is_told_to_leave <- function() {
  serve_has_interrupt() && !serve_is_interrupted() && is_interrupted()
}

check_thread <- function() {
  if (serve_is_closed()) {
    stop("The thread that serves HTTP has ended.", call. = FALSE)
  }
}

# Runs what `later` has to do, if it is time to look. Returns how long to wait for a request, in milliseconds; NULL if the
# worker is to leave.
look_around <- function() {
  if (serve_is_rushed(longest_rush)) {
    return(longest_rush)
  }
  due <- next_due()
  if (due <= 0) {
    if (!run_callbacks()) {
      return(NULL)
    }
    due <- next_due()
  }
  min(longest_wait, 1000 * max(due, 0))
}

# Seconds until `later` has something to do. Where nobody has loaded it there is nothing; to load it takes longer than to fork a
# worker, whose first call would wait for that.
next_due <- function() {
  if (isNamespaceLoaded("later")) later::next_op_secs() else Inf
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
  if (isTRUE(request$changed)) tell_change()
  begin_request(request$fields)
  end_request(attempt(respond(app, on_headers, request, constants)))
}

begin_request <- function(fields) {
  clear_files()
  refusals_are_past()
  current$fields <- fields
}

# Answers a request with what `response` is, which is evaluated in here. Whether it was interrupted.
attempt <- function(response) {
  interrupted <- FALSE
  # Until there is an answer, whatever fails is the app's.
  is_apps <- TRUE
  tryCatch(
    {
      allowInterrupts(response)
      is_apps <- FALSE
      answer(response)
    },
    error = function(error) answer_failure(error, is_apps),
    interrupt = function(condition) interrupted <<- TRUE
  )
  interrupted
}

# Whether the worker goes on.
end_request <- function(interrupted) {
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
  if (is.function(app$direct)) {
    return(app$direct(request))
  }
  req <- rook_request(request, constants)
  response <- if (is.function(on_headers)) on_headers(req)
  awaited(if (is.null(response)) app$call(req) else response)
}

awaited <- function(response) {
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
  while (is.null(result)) {
    later_step(longest_wait / 1000)
    # An interrupt in a callback comes out of `later` as an error, and the promise would never be kept.
    if (serve_is_interrupted()) signal_interrupt()
  }
  if (!is.null(result$error)) stop(result$error)
  result$value
}

# An error in a callback is nobody's answer: it is shown, and the others go on.
later_step <- function(timeout = 0) {
  tryCatch(
    later::run_now(timeout),
    error = function(error) message("Error in a callback: ", conditionMessage(error))
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
    # As httpuv does it: the bytes that the first string has. None at all is an error.
    body <- charToRaw(body)
  } else if (!is.null(body) && !is.raw(body)) {
    got <- describe_value(body)
    stop("The body of a response must be raw, text or c(file = path), not ", got, ".", call. = FALSE)
  }
  head <- response_head(response$status, with_refusals(response$headers))
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
  values <- lapply(headers, paste)
  counts <- lengths(values)
  if (!all(counts == 1)) {
    at <- which(counts != 1)[[1]]
    stop("The header ", names[[at]], " of a response must have one value, not ", counts[[at]], ".", call. = FALSE)
  }
  values <- as.character(unlist(values, use.names = FALSE))
  # As httpuv does it: the bytes that a string has, whatever they mean.
  if (!all(validUTF8(values))) values <- lapply(values, charToRaw)
  list(status = as.numeric(status), names = names, values = values)
}

# What httpuv tells the client: an app's own error in its words, so that it looks the same however the app is served. What is
# wrong with the answer itself, and all that faucet has to say, is for whoever reads the log. Nothing in here may fail.
answer_failure <- function(error, is_apps = FALSE) {
  why <- tryCatch(paste(conditionMessage(error), collapse = "\n"), error = function(error) "(an error without a message)")
  cat(paste0(error_head(), why, "\n"), file = stderr())
  if (!is_apps && inherits(error, "no_file")) {
    return(answer(list(status = 500L, headers = list(), body = "500 Internal Server Error\n")))
  }
  is_told <- is_apps && !inherits(error, "faucet_error")
  answer_text(500L, if (is_told) paste("ERROR:", why) else "An exception occurred.")
}

answer_text <- function(status, text) {
  if (!serve_has_streamed()) {
    answer(list(status = status, headers = list("Content-Type" = "text/plain; charset=UTF-8"), body = enc2utf8(text)))
  }
}

served_file <- function(path) {
  if (!rlang::is_string(path) || !file.exists(path) || dir.exists(path)) {
    message <- paste0("The file of a response does not exist: ", describe_value(path))
    stop(structure(list(message = message, call = NULL), class = c("no_file", "error", "condition")))
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
