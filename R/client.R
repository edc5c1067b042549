# Requests to agents and proxies: R starts one, then looks at it in steps, between which an interrupt is seen. Whoever is
# interrupted leaves no connection behind.

# How long lookup, connecting and the handshake of TLS may take, in seconds.
connect_timeout <- 10

# How long an answer of an agent may take that has nothing to wait for, in seconds.
answer_timeout <- 60

# The longest answer that R can hold in a raw vector, in bytes.
most_bytes <- 2^31 - 1

# Makes a request and returns its answer: `status`, `headers` (a list by lower-case name) and `body` (raw). What is sent is `body`
# (raw), a `file` (a path), what the function `source` returns piece by piece (raw; empty at its end), or standard `input`.
# `heard` is given the answer's bytes as they come, which are then not in the answer; with `output`, standard output is. An
# answer that is an error goes to neither. `waiting` is called between two looks.
send_request <- function(
    server, method, path, body = NULL, file = NULL, headers = list(), timeout = answer_timeout, most = most_bytes,
    source = NULL, input = FALSE, heard = NULL, output = FALSE, waiting = NULL, call = NULL) {
  started <- check_result(client_start(list(
    url = server$url, ca = server$ca, token = server$token, connect_timeout = min(connect_timeout, timeout),
    timeout = timeout, most = most, method = method, path = path, headers = headers, body = body, file = file,
    fed = !is.null(source), input = input, output = output
  )), call = call)
  on.exit(client_drop(started$handle), add = TRUE)
  feed <- feeder(started$handle, source, call = call)
  status <- NULL
  fields <- list()
  pieces <- list()
  repeat {
    feeds <- feed()
    poll <- check_result(client_poll(started$handle, milliseconds(step), feeds), call = call)
    if (!is.null(poll$status)) {
      status <- poll$status
      fields <- rlang::set_names(as.list(poll$values), poll$names)
    }
    if (length(poll$bytes) > 0) {
      # What says why a request is refused is for whoever reads the answer.
      if (is.null(heard) || status >= 400) pieces[[length(pieces) + 1]] <- poll$bytes else heard(poll$bytes)
    }
    if (isTRUE(poll$done)) break
    if (!is.null(waiting)) waiting()
    allow_interrupt()
  }
  if (!is.null(poll$class)) raise_unanswered(server, poll, call = call)
  list(status = status, headers = fields, body = do.call(c, pieces) %||% raw())
}

# Each call puts the next of what `source` reads into a request's body, if there is room, and tells whether there is more. An
# error of `source` breaks the request off, as its handle is dropped.
feeder <- function(handle, source, call = NULL) {
  piece <- NULL
  feeds <- !is.null(source)
  function() {
    if (!feeds) {
      return(FALSE)
    }
    if (is.null(piece)) piece <<- source()
    if (length(piece) == 0) {
      check_result(client_feed_end(handle, NULL), call = call)
      feeds <<- FALSE
      return(FALSE)
    }
    state <- check_result(client_feed(handle, piece), call = call)$state
    if (state == "taken") piece <<- NULL
    feeds <<- state != "closed"
    feeds
  }
}

# There is no answer, or not all of it.
raise_unanswered <- function(server, poll, call = NULL) {
  hint <- if (poll$class == "connect") {
    "`to` says where an agent or a proxy is: `run_agent()` and `run_proxy()` start one."
  }
  rlang::abort(
    c(paste0(server$url, " ", poll$message, "."), i = hint),
    class = error_class(poll$class), server = server$url, call = shown_call(call), trace = trace_to(call)
  )
}

# The same for the management API: what is sent is JSON, and so is what comes, as a list. An answer that is an error is raised.
ask_json <- function(server, method, path, content = NULL, ..., call = NULL) {
  headers <- list(accept = "application/json")
  body <- NULL
  if (!is.null(content)) {
    headers[["content-type"]] <- "application/json"
    body <- charToRaw(enc2utf8(as_json(content)))
  }
  read_answer(send_request(server, method, path, body = body, headers = headers, ..., call = call), server, call = call)
}

# Vectors of length one become scalars, but for those in I().
as_json <- function(content) {
  as.character(jsonlite::toJSON(content, auto_unbox = TRUE, digits = NA, null = "null", POSIXt = "ISO8601"))
}

read_answer <- function(answer, server, call = NULL) {
  content <- if (has_json(answer)) tryCatch(parse_json(answer$body), error = function(error) NULL)
  if (answer$status >= 400) raise_refusal(answer, content, server, call = call)
  if (is.null(content)) raise_stranger(answer, server, call = call)
  content
}

has_json <- function(answer) {
  length(answer$body) > 0 && grepl("^application/json", answer$headers[["content-type"]] %||% "", ignore.case = TRUE)
}

parse_json <- function(bytes, simplify = FALSE) {
  jsonlite::parse_json(bytes_as_text(bytes), simplifyVector = simplify)
}

# In UTF-8.
bytes_as_text <- function(bytes) {
  text <- rawToChar(bytes[bytes != as.raw(0)])
  Encoding(text) <- "UTF-8"
  text
}

# An answer that says why not. Its text comes from outside: it is nobody's template.
raise_refusal <- function(answer, content, server, call = NULL) {
  why <- content$error
  if (!rlang::is_string(why)) raise_stranger(answer, server, call = call)
  hint <- if (answer$status == 401) {
    "The token is given by `token`, `options(faucet.token = )` or FAUCET_TOKEN."
  }
  rlang::abort(
    c(paste0(server$url, " refuses: ", why), i = hint),
    class = error_class("refused"), status = answer$status, cause = answer$headers[["faucet-error"]],
    field = content$field, server = server$url, call = shown_call(call), trace = trace_to(call)
  )
}

raise_stranger <- function(answer, server, call = NULL) {
  rlang::abort(
    c(
      paste0(server$url, " has answered with status ", answer$status, ", and not as an agent or a proxy does."),
      i = "`to` says where one is: `run_agent()` and `run_proxy()` start one."
    ),
    class = error_class("answer"), status = answer$status, server = server$url, call = shown_call(call),
    trace = trace_to(call)
  )
}

# A path with names and values after the `?`.
with_query <- function(path, values) {
  values <- Filter(Negate(is.null), values)
  if (length(values) == 0) {
    return(path)
  }
  pairs <- paste0(encode_url(names(values)), "=", encode_url(vapply(values, as.character, "")))
  paste0(path, "?", paste(pairs, collapse = "&"))
}

# Percent-encodes all that is not plain, byte by byte, as UTF-8.
encode_url <- function(texts) {
  vapply(enc2utf8(as.character(texts)), function(text) {
    bytes <- charToRaw(text)
    plain <- grepl("[A-Za-z0-9._~-]", vapply(bytes, function(byte) rawToChar(byte), ""), useBytes = TRUE)
    paste0(ifelse(plain, rawToChar(bytes, multiple = TRUE), paste0("%", toupper(as.character(bytes)))), collapse = "")
  }, "", USE.NAMES = FALSE)
}

# What functions and secrets are called.
check_function_name <- function(name, what = "name", call = NULL) {
  if (!rlang::is_string(name) || !grepl("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", name, useBytes = TRUE)) {
    got <- describe_value(name)
    abort("option", c(
      "{.arg {what}} must be a name, not {got}.",
      i = "A name has 1 to 64 letters, digits, {.code .}, {.code _} and {.code -}, and begins with a letter or a digit."
    ), option = what, call = call)
  }
  as.character(name)
}

# Seconds, or Inf.
check_wait <- function(value, name, call = NULL) {
  check_setting(value, name, setting("duration", NULL, "", infinite = TRUE), call = call)
}
