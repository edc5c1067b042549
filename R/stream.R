#' Send a response bit by bit
#'
#' Called in a handler, `stream()` sends the head of the response at once, and then whatever `fun` writes, as soon as it
#' writes it: server-sent events, progress, the lines of a long report. The handler must return what
#' `stream()` returns.
#'
#' `out`, which `fun` is called with, is a list of functions:
#'
#' - `out$write(chunk)` sends a string (several are joined, in UTF-8) or a raw vector. It returns when the chunk is on its way;
#'   if the client is slow, it waits.
#' - `out$event(data, event = NULL, id = NULL)` sends a server-sent event. `data` is text, of one or more lines; `event` is its
#'   type and `id` its id, both optional.
#' - `out$is_open()` tells whether the client is still there.
#'
#' When the client leaves, the handler is interrupted, as by Ctrl-C: `on.exit()` and `tryCatch(finally = )` run.
#' With `cancel = FALSE`, or in [shield()], `out$is_open()` is `FALSE` then, and the next `out$write()` raises an error.
#' An error in `fun` breaks the response off, and the client can see that it is not complete. The
#' time limit `timeout` counts from the last chunk.
#'
#' An open stream holds its worker, as any request does. Have more workers than open streams, and let streams end.
#'
#' Streams need native workers. Elsewhere (workers of type `"http"`, plumber by itself) the same code works,
#' but the client gets everything at once, at the end; there `out$is_open()` is always `TRUE`, so that a loop must have an end
#' of its own.
#'
#' @param req,res Request and response, as plumber passes them to handlers. Status and headers of `res` are sent as they are when
#'   `stream()` is called. In other Rook apps `res` is `NULL`.
#' @param fun Function that is called with `out`.
#' @param type Content type, by default that of server-sent events.
#' @return `res`; if that is `NULL`, a list with `status`, `headers` and `body`, as Rook apps return it.
#'
#' @section Error conditions:
#' - `faucet_error_closed`, by `out$write()` and `out$event()`: the client has left.
#' - `faucet_error_option`: an argument has a value that it does not take.
#'
#' @source Server-sent events: <https://html.spec.whatwg.org/multipage/server-sent-events.html>
#' @export
#' @examples
#' # A clock, for `new EventSource("/clock")` in a browser or `curl -N` in a terminal
#' clock <- function(req, res) {
#'   faucet::stream(req, res, function(out) {
#'     for (i in 1:60) {
#'       out$event(format(Sys.time()), event = "tick", id = i)
#'       Sys.sleep(1)
#'     }
#'   })
#' }
#' \dontrun{
#' plumber::pr_get(plumber::pr(), "/clock", clock)
#' }
stream <- function(req, res, fun, type = "text/event-stream") {
  call <- rlang::current_env()
  if (!is.function(fun)) {
    got <- describe_value(fun)
    abort("option", "{.arg fun} must be a function of one argument, not {got}.", option = "fun", call = call)
  }
  if (!rlang::is_string(type) || !nzchar(type)) {
    got <- describe_value(type)
    abort("option", "{.arg type} must be a content type, not {got}.", option = "type", call = call)
  }
  response <- if (is.null(res)) list(status = 200L, headers = list()) else res
  headers <- stream_headers(response$headers, type)

  if (serve_is_busy() && !serve_has_streamed()) {
    head <- response_head(response$status, with_refusals(headers))
    failure <- serve_stream(head$status, head$names, head$values)
    if (!is.null(failure)) raise_failure(failure, call = call)
    fun(stream_output(write_native, serve_is_open))
    serve_stream_end()
  } else {
    chunks <- list()
    fun(stream_output(function(bytes, call) chunks[[length(chunks) + 1]] <<- bytes, function() TRUE))
    response$body <- as.raw(unlist(chunks))
  }
  # Of a native stream they are sent, but the app's own hooks may look at them.
  response$headers <- headers
  response
}

# What the app has said of its headers stays.
stream_headers <- function(headers, type) {
  ours <- list("Content-Type" = type)
  if (type == "text/event-stream") {
    # Proxies that hold back or keep what they pass on do so by these.
    ours <- c(ours, "Cache-Control" = "no-cache", "X-Accel-Buffering" = "no")
  }
  c(headers, ours[!tolower(names(ours)) %in% tolower(names(headers))])
}

stream_output <- function(write, is_open) {
  list(
    write = function(chunk) {
      call <- rlang::current_env()
      write(as_bytes(chunk, call), call)
      invisible()
    },
    event = function(data, event = NULL, id = NULL) {
      call <- rlang::current_env()
      write(charToRaw(format_event(data, event, id, call)), call)
      invisible()
    },
    is_open = is_open
  )
}

# Waits in steps, between which interrupts are seen.
write_native <- function(bytes, call) {
  repeat {
    switch(
      serve_write(bytes, longest_wait),
      done = return(),
      closed = abort("closed", "The client has left.", call = call)
    )
    allow_interrupt()
  }
}

as_bytes <- function(chunk, call) {
  if (is.raw(chunk)) {
    chunk
  } else if (is.character(chunk) && !anyNA(chunk)) {
    charToRaw(enc2utf8(paste(chunk, collapse = "")))
  } else {
    got <- describe_value(chunk)
    abort("option", "{.arg chunk} must be text or raw, not {got}.", option = "chunk", call = call)
  }
}

# One event, as the standard writes it: a line for each field, several for data of several lines, and an empty one at the end.
format_event <- function(data, event = NULL, id = NULL, call = NULL) {
  if (!is.atomic(data) || is.null(data) || is.raw(data) || anyNA(data)) {
    got <- describe_value(data)
    abort("option", c(
      "{.arg data} must be text, not {got}.",
      i = "{.code jsonlite::toJSON(x, auto_unbox = TRUE)} makes text of lists."
    ), option = "data", call = call)
  }
  paste0(
    event_field("id", id, call),
    event_field("event", event, call),
    paste0("data: ", split_lines(enc2utf8(as.character(data))), "\n", collapse = ""),
    "\n"
  )
}

event_field <- function(name, value, call) {
  if (is.null(value)) {
    return(NULL)
  }
  if (!is.atomic(value) || length(value) != 1 || is.na(value) || grepl("[\r\n]", value)) {
    got <- describe_value(value)
    abort("option", "{.arg {name}} must be one line of text, not {got}.", option = name, call = call)
  }
  paste0(name, ": ", enc2utf8(as.character(value)), "\n")
}

# An empty string is one line, too.
split_lines <- function(text) {
  lines <- strsplit(paste0(text, "\n"), "\r\n|\r|\n")
  unlist(lapply(lines, function(line) if (length(line) == 0) "" else line))
}
