#' Call a deployed function, or a chain of them
#'
#' `invoke()` sends an input and options to a function that was deployed, and returns what it answers. It is an HTTP request
#' like any other: `curl -d 'I hate this' 'host:9002/functions/sed?e=s/hate/love/'` does the same. A chain of functions is
#' called by its text: `invoke("sed e=s/hate/love/ | to-upper", "I hate this")`.
#'
#' @section Input and answer:
#' The input is sent as what it is: one string as text, a raw vector as bytes, all else as JSON, whose numbers have 15
#' digits. `type` says something else. The answer becomes a string, a raw vector, a data frame (CSV), or what its JSON holds.
#' With `rds = TRUE` R objects travel as they are, in both directions: the function must have been deployed with `rds = TRUE`
#' to read one. To read RDS can mean to run code, so it is for servers, and callers, that are trusted.
#'
#' A connection as input, such as `file("big.csv")`, is read to its end while it is sent, and one as `output` is written while
#' the answer comes: neither is ever in memory as a whole. What is not open is opened, and closed at the end. A connection
#' that is open in binary mode, as by `file("photo.jpg", "rb")`, is sent as bytes, any other as text.
#'
#' Options go into the query string: each is a text, a number, `TRUE` or `FALSE`, or a vector, whose elements are then given
#' one by one. `NULL` is left out.
#'
#' @section Chains:
#' What has a `|`, parentheses, white space or `=` in it is a chain: functions by name, each with its options, whose answer is
#' the input of the next. There are two forms, which may be mixed: `sed(e = 's/hate/love/', n = 3) | to-upper`, and
#' `sed e=s/hate/love/ n=3 | to-upper`. Quotes, `'...'` or `"..."`, protect spaces, `|`, `,`, `)` and `=`; in them, a backslash
#' stands before that quote or a backslash. No code is run: names are those of deployed functions, exactly, or with `_` in the
#' place of `-` and the other way round if there is no such one. Options are texts that each function's signature converts.
#'
#' All stages run at the same time, on whatever agents have them, and bytes flow from one to the next. An error anywhere is an
#' error of the call, also if part of the answer was there: no answer is ever just cut off. With `buffer = TRUE` the answer
#' comes when all of it is there, or not at all.
#'
#' @section Calls that outlive their caller:
#' With `async = TRUE`, `invoke()` returns as soon as the input was taken: see [call_status()] for what becomes of the call.
#'
#' @inheritParams deploy
#' @param name The function's name. Of a whole API, with a path in it: `"api/predict"`. Or a chain of functions.
#' @param input What the function's first parameter becomes. Without one, its default counts. A connection is read and sent
#'   bit by bit.
#' @param ... Options, by name. Those of a chain are in its text.
#' @param output A connection, or the path of a file, that the answer is written to as it comes, whatever its type. A file is
#'   there once the answer is complete. `NULL`: the answer is returned.
#' @param timeout Seconds until the answer must be there. Whoever is interrupted, or waits no longer, closes the connection:
#'   the function is interrupted, and so is each stage of a chain.
#' @param buffer Whether the server is to keep the answer until all of it is there, so that it comes whole or not at all.
#' @param async Whether to return at once, with the call's id.
#' @param callback URL that is told when such a call is over.
#' @param result_ttl Seconds for which such a call's result is kept. `NULL` leaves it to the server.
#' @param retry Whether such a call may be run again after a restart of the server, which may then be for the second time.
#' @param type Content-Type of `input`, which is then one string, a raw vector or a connection.
#' @param rds Whether to exchange R objects.
#' @param method HTTP method, for an API's other routes.
#' @param options Further options, as a list: those with the names of arguments of this function.
#' @param token Secret that is shown: the server's `call_token`, or `token`. By default, one of these settings.
#'
#' @return What the function, or the chain's last stage, answers: a string, a raw vector, a data frame, what JSON holds, an R
#'   object; `NULL` if that is nothing. With `output`, that, invisibly. With `async = TRUE`, a `faucet_call`.
#'
#' @section Error conditions:
#' All inherit from `faucet_error`.
#'
#' - `faucet_invoke_error`, and `faucet_error_invoke`, which is the same: there is no answer, or it is an error, or it was broken
#'   off. Fields `error` (what the server says), `stage` (of the chain, from 1) and `function` (its name), `call_id` (as in each
#'   stage's log), `status` (of HTTP), `cause` (what `Faucet-Error` says) and `answer` (its text); `NA` what is not known.
#'   Each cause has a class of its own, such as `faucet_error_invoke_function_error` (R has raised an error),
#'   `faucet_error_invoke_bad_option`, `faucet_error_invoke_bad_chain` (field `column`: where, in characters from 1),
#'   `faucet_error_invoke_queue_full`, `faucet_error_invoke_timeout` (of the server's), `faucet_error_invoke_unauthorized`.
#'   Without a whole answer these are `faucet_error_connect`, `faucet_error_timeout` and `faucet_error_answer`, as everywhere.
#' - `faucet_error_option`: an argument has a value that it does not take, or the token could be overheard. Field `option`.
#' - `faucet_error_file`: an `input` that is a connection cannot be read. The call is broken off.
#' - `faucet_error_output`: `output` cannot be written. The call is cancelled.
#'
#' @seealso [deploy()], [call_status()], [install_cli()] for the same from a shell.
#' @export
#' @examples
#' \dontrun{
#' invoke("sed", "I hate this", e = "s/hate/love/")
#' invoke("sed e=s/hate/love/ | to-upper", "I hate this")
#' invoke("mpg", data.frame(wt = c(2.5, 3)), timeout = 5)
#' tryCatch(invoke("mpg", "nonsense"), faucet_invoke_error = function(error) error$answer)
#'
#' # Larger than memory
#' invoke("clean | summarise by=day", file("log.csv"), output = "days.csv")
#' }
invoke <- function(
    name, input, ..., output = NULL, to = NULL, timeout = Inf, buffer = FALSE, async = FALSE, callback = NULL,
    result_ttl = NULL, retry = FALSE, type = NULL, rds = FALSE, method = "POST", options = list(), token = NULL) {
  call <- rlang::current_env()
  typed <- match.call(function(...) NULL, sys.call(), envir = parent.frame())
  if (any(is_abbreviated(names(typed)))) {
    return(eval(with_options_apart(typed), parent.frame()))
  }
  given <- check_call(list(
    timeout = timeout, buffer = buffer, async = async, callback = callback, result_ttl = result_ttl, retry = retry, rds = rds,
    method = method, output = output
  ), call = call)
  target <- call_target(name, c(list(...), options), given, call = call)
  server <- resolve_caller(to, token, call = call)
  sent <- if (missing(input)) list() else encode_input(input, type, given$rds, call = call)
  on.exit(if (!is.null(sent$close)) sent$close(), add = TRUE)
  into <- open_output(output, call = call)
  on.exit(into$give_up(), add = TRUE)
  accept <- if (given$rds) "application/x-rds, application/json;q=0.9, */*;q=0.1" else "*/*"
  headers <- c(list(accept = accept), if (!is.null(sent$type)) list("content-type" = sent$type))
  answer <- signal_no_answer(send_request(
    server, target$method, target$path, body = sent$body, source = sent$source, headers = headers, timeout = target$patience,
    most = if (is.null(into$write)) most_bytes else Inf, heard = into$write, call = call
  ))
  if (answer$status >= 400) raise_invoke(answer, name, call = call)
  if (given$async) {
    return(read_queued(answer, server, call = call))
  }
  if (is.null(into$write)) {
    return(decode_answer(answer, given$rds, call = call))
  }
  into$complete()
  invisible(output)
}

# Arguments of a call that say how it goes, in their one form.
check_call <- function(given, call = NULL) {
  given$timeout <- check_wait(given$timeout, "timeout", call = call)
  for (flag in c("buffer", "async", "retry", "rds")) {
    given[[flag]] <- check_setting(given[[flag]], flag, setting("flag", NULL, ""), call = call)
  }
  given$method <- check_method(given$method, call = call)
  if (!is.null(given$result_ttl)) given$result_ttl <- check_wait(given$result_ttl, "result_ttl", call = call)
  if (!is.null(given$callback)) given$callback <- check_text(given$callback, "callback", call = call)
  check_together(given, call = call)
  given
}

# What is for calls that nobody waits for, and what is for the others.
check_together <- function(given, call = NULL) {
  is_given <- function(name) !is.null(given[[name]]) && !isFALSE(given[[name]])
  of_async <- Filter(is_given, c("callback", "result_ttl", "retry"))
  if (!given$async && length(of_async) > 0) {
    abort("option", "{.arg {of_async[[1]]}} is for calls with {.code async = TRUE}.", option = of_async[[1]], call = call)
  }
  of_others <- Filter(is_given, c("buffer", "output"))
  if (given$async && length(of_others) > 0) {
    abort("option", c(
      "{.arg {of_others[[1]]}} is for calls whose answer is waited for, and this one is {.code async}.",
      i = "{.fun call_result} gets what it has answered."
    ), option = of_others[[1]], call = call)
  }
}

# R takes an abbreviation for any argument before `...`: an option `n` would be the function's name.
is_abbreviated <- function(typed) {
  own <- c("name", "input")
  typed <- typed %||% character()
  nzchar(typed) & !typed %in% own & (startsWith(own[[1]], typed) | startsWith(own[[2]], typed))
}

# The same call with such options in a list.
with_options_apart <- function(typed) {
  apart <- is_abbreviated(names(typed))
  given <- as.call(c(list(base::list), as.list(typed)[apart]))
  rest <- typed[!apart]
  rest$options <- if (is.null(rest$options)) given else as.call(list(base::c, given, rest$options))
  rest
}

call_path <- function(name, call = NULL) {
  if (!rlang::is_string(name)) check_function_name(name, call = call)
  parts <- strsplit(name, "/", fixed = TRUE)[[1]]
  check_function_name(if (length(parts) > 0) parts[[1]] else name, call = call)
  path <- paste0("/functions/", paste(encode_url(parts), collapse = "/"))
  if (endsWith(name, "/")) paste0(path, "/") else path
}

check_method <- function(method, call = NULL) {
  if (!rlang::is_string(method) || !grepl("^[A-Za-z]+$", method)) {
    abort("option", "{.arg method} must be one of HTTP's, such as {.val GET}, not {describe_value(method)}.",
      option = "method", call = call
    )
  }
  toupper(method)
}

# With its `?`, if there is something behind it.
call_query <- function(options, call = NULL) {
  if (length(options) == 0) {
    return("")
  }
  check_option_names(options, call = call)
  pairs <- unlist(Map(function(name, value) {
    texts <- option_texts(name, value, call = call)
    paste0(encode_url(name), "=", encode_url(texts), recycle0 = TRUE)
  }, names(options), unname(options)), use.names = FALSE)
  if (length(pairs) == 0) "" else paste0("?", paste(pairs, collapse = "&"))
}

check_option_names <- function(options, call = NULL) {
  names <- names(options)
  if (length(options) > 0 && (is.null(names) || anyNA(names) || !all(nzchar(names)))) {
    abort("option", c(
      "Options of a function must have names.",
      i = "The first argument after {.arg name} is its input, all others are given like {.code e = \"s/a/b/\"}."
    ), option = NA_character_, call = call)
  }
}

option_texts <- function(name, value, call = NULL) {
  if (inherits(value, "POSIXt")) value <- format(value, "%Y-%m-%dT%H:%M:%SZ", tz = "UTC")
  if (is.factor(value) || inherits(value, "Date")) value <- as.character(value)
  if (!typeof(value) %in% c("NULL", "logical", "integer", "double", "character") || anyNA(value)) {
    abort("option", c(
      "Option {.arg {name}} must be texts, numbers, TRUE or FALSE, not {describe_value(value)}.",
      i = "What has more to it is for the input."
    ), option = name, call = call)
  }
  if (is.logical(value)) {
    ifelse(value, "true", "false")
  } else if (is.numeric(value)) {
    vapply(value, number_text, "")
  } else {
    as.character(value)
  }
}

# With as many digits as make the same number.
number_text <- function(number) {
  short <- format(number, digits = 15, scientific = FALSE, trim = TRUE)
  if (nchar(short) > 20) short <- format(number, digits = 15)
  if (identical(as.numeric(short), as.numeric(number))) short else format(number, digits = 17)
}
