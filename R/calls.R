#' Calls that outlive their caller
#'
#' `invoke(..., async = TRUE)` returns once the server has the input. The server then works on the call, whether or not anybody
#' waits: `call_status()` tells how far it is, `call_result()` waits for its answer, `call_cancel()` ends it, or forgets one that
#' is over. Calls are kept on the server's disk, also while it restarts; one that was running then is `lost`, unless it was made
#' with `retry = TRUE`.
#'
#' @inheritParams invoke
#' @param id What `invoke(..., async = TRUE)` has returned, or the id in it, which serves from any other session, too.
#' @param wait Seconds to wait until the call is over.
#' @param output A connection, or the path of a file, that the result is written to, whatever its type. `NULL`: it is returned.
#' @param rds Whether to read a result that is RDS: only from a server that is trusted.
#'
#' @return `call_status()`: a list of `id`, `chain`, `status` (`queued`, `running`, `done`, `failed`, `lost` or `cancelled`),
#'   `created`, `started` and `ended` (times; `NA` while it is not), `error` (what an answer of [invoke()] would say; `NULL` if
#'   there is none) and `result` (a list of `status`, `type` and `length`, in bytes; `NULL` if there is none), and `callback` (a
#'   list of `url`, `status`, which is `waiting`, `delivered` or `failed`, and `tries`; `NULL` if nobody is to be told).
#'
#'   `call_result()`: what [invoke()] would have returned; with `output`, that, invisibly.
#'
#'   `call_cancel()`: invisibly, the id.
#'
#' @section Error conditions:
#' All inherit from `faucet_error`.
#'
#' - `faucet_invoke_error`, as of [invoke()]: the call has failed, was cancelled, or is lost (`cause` says which), it is not over
#'   within `wait` (`faucet_error_timeout`), its result is kept no longer, or there is no such call.
#' - `faucet_error_refused`: there is no such call (`status` 404), or the token is not right. Fields `status` and `cause`.
#' - `faucet_error_option`: an argument has a value that it does not take. Field `option`.
#' - `faucet_error_connect`, `faucet_error_timeout`, `faucet_error_answer`: as everywhere.
#'
#' @seealso [invoke()]
#' @export
#' @examples
#' \dontrun{
#' call <- invoke("train | evaluate folds=10", file("data.csv"), async = TRUE)
#' call_status(call)$status
#' call_result(call)
#' }
call_status <- function(id, to = NULL, token = NULL) {
  call <- rlang::current_env()
  known <- check_call_id(id, to, token, call = call)
  read_status(ask_json(known$server, "GET", known$path, call = call))
}

#' @rdname call_status
#' @export
call_result <- function(id, wait = Inf, output = NULL, rds = FALSE, to = NULL, token = NULL) {
  call <- rlang::current_env()
  known <- check_call_id(id, to, token, call = call)
  wait <- check_wait(wait, "wait", call = call)
  rds <- check_setting(rds, "rds", setting("flag", NULL, ""), call = call)
  into <- open_output(output, call = call)
  on.exit(into$give_up(), add = TRUE)
  status <- await_call(known, seconds_now() + wait, call = call)
  if (is.null(status)) raise_unfinished(known, wait, call = call)
  if (status$status != "done") raise_ended(status, call = call)
  answer <- signal_no_answer(send_request(
    known$server, "GET", paste0(known$path, "/result"), headers = list(accept = "*/*"),
    most = if (is.null(into$write)) most_bytes else Inf, heard = into$write, timeout = Inf, call = call
  ))
  if (answer$status >= 400) raise_no_result(answer, status, call = call)
  if (is.null(into$write)) {
    return(decode_answer(answer, rds, call = call))
  }
  into$complete()
  invisible(output)
}

#' @rdname call_status
#' @export
call_cancel <- function(id, to = NULL, token = NULL) {
  call <- rlang::current_env()
  known <- check_call_id(id, to, token, call = call)
  answer <- send_request(known$server, "DELETE", known$path, call = call)
  # There may be nothing to tell.
  if (answer$status != 204) read_answer(answer, known$server, call = call)
  invisible(known$id)
}

# A call that was taken.
read_queued <- function(answer, server, call = NULL) {
  content <- read_answer(answer, server, call = call)
  if (!rlang::is_string(content$id)) raise_stranger(answer, server, call = call)
  structure(list(id = content$id, to = server$url), class = "faucet_call")
}

#' @export
format.faucet_call <- function(x, ...) {
  c(paste0(cli::col_grey("<faucet_call> "), cli::style_bold(x$id)), cli::col_grey(paste("at", x$to)))
}

#' @export
print.faucet_call <- function(x, ...) {
  cat(paste0(format(x, ...), "\n"), sep = "")
  invisible(x)
}

# The server, the path and the id of a call. One that invoke() has returned knows its server.
check_call_id <- function(id, to, token, call = NULL) {
  if (inherits(id, "faucet_call")) {
    to <- to %||% id$to
    id <- id$id
  }
  if (!rlang::is_string(id) || !grepl("^[A-Za-z0-9._-]{1,128}$", id)) {
    abort("option", c(
      "{.arg id} must be what {.code invoke(..., async = TRUE)} has returned, or the id in it, not {describe_value(id)}."
    ), option = "id", call = call)
  }
  list(id = id, path = paste0("/calls/", id), server = resolve_caller(to, token, call = call))
}

read_status <- function(content) {
  time <- function(field) parse_time(as_string(content[[field]]))
  list(
    id = as_string(content$id), chain = as_string(content$chain), status = as_string(content$status),
    created = time("created"), started = time("started"), ended = time("ended"), error = content$error,
    result = if (is.list(content$result)) content$result[c("status", "type", "length")],
    callback = if (is.list(content$callback)) content$callback[c("url", "status", "tries")]
  )
}

raise_no_result <- function(answer, status, call = NULL) {
  raise_invoke(answer, status$chain, paste("The result of call", status$id, "cannot be had:"), call = call)
}

# How long the server may take for one look at a call that is not over, in seconds: a connection of a proxy between may not last.
longest_look <- 60

# The status of a call that is over; NULL if it is not by then.
await_call <- function(known, deadline, call = NULL) {
  repeat {
    begun <- seconds_now()
    wait <- max(0, min(longest_look, deadline - begun))
    path <- with_query(known$path, list(wait = if (wait > 0) format(wait, digits = 3, scientific = FALSE)))
    status <- read_status(ask_json(known$server, "GET", path, timeout = wait + answer_timeout, call = call))
    if (!status$status %in% c("queued", "running")) {
      return(status)
    }
    if (seconds_now() >= deadline) {
      return(NULL)
    }
    # Whoever does not wait is not asked again and again.
    if (seconds_now() - begun < wait) Sys.sleep(min(look_pause, max(0, deadline - seconds_now())))
  }
}

raise_unfinished <- function(known, wait, call = NULL) {
  signal_invoke(
    c(
      paste0("Call ", known$id, " is not over within ", format(wait, scientific = FALSE), " s."),
      i = "It goes on: `call_status()` tells how far it is, `call_cancel()` ends it."
    ),
    c("timeout", "invoke"), call = call,
    error = NA_character_, stage = NA_integer_, `function` = NA_character_, call_id = known$id, status = NA_integer_,
    cause = "timeout"
  )
}

# One that is over without a result.
raise_ended <- function(status, call = NULL) {
  error <- if (is.list(status$error)) status$error else list()
  why <- as_string(error$error)
  stage <- as.integer(as_number(error$stage))
  failed <- as_string(error$`function`)
  what <- switch(
    status$status,
    failed = "has failed",
    cancelled = "was cancelled",
    lost = "is lost: it was running when its server ended",
    paste("is", status$status)
  )
  where <- if (!is.na(failed)) paste0(" in stage ", stage, ", `", failed, "`")
  signal_invoke(
    paste0("Call ", status$id, " ", what, where, if (!is.na(why)) paste0(": ", why), "."),
    c(paste0("invoke_", status$status), "invoke"), call = call,
    error = why, stage = stage, `function` = failed, call_id = status$id, status = NA_integer_,
    cause = as_string(error$cause %||% status$status)
  )
}
