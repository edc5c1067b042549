#' Call a deployed function
#'
#' `invoke()` sends an input and options to a function that was deployed, and returns what it answers. It is an HTTP request like any
#' other: `curl -d 'I hate this' 'host:9002/functions/sed?e=s/hate/love/'` does the same.
#'
#' @section Input and answer:
#' The input is sent as what it is: one string as text, a raw vector as bytes, all else as JSON, whose numbers have 15 digits. `type`
#' says something else. The answer becomes a string, a raw vector, a data frame (CSV), or what its JSON holds. With `rds = TRUE` R
#' objects travel as they are, in both directions: the function must have been deployed with `rds = TRUE` to read one. To read RDS can
#' mean to run code, so it is for servers, and callers, that are trusted.
#'
#' Options go into the query string: each is a text, a number, `TRUE` or `FALSE`, or a vector, whose elements are then given one by one.
#' `NULL` is left out.
#'
#' @inheritParams deploy
#' @param name The function's name. Of a whole API, with a path in it: `"api/predict"`.
#' @param input What the function's first parameter becomes. Without one, its default counts.
#' @param ... Options, by name.
#' @param timeout Seconds until the answer must be there. Whoever is interrupted, or waits no longer, closes the connection: the function
#'   is interrupted, too.
#' @param type Content-Type of `input`, which is then one string or a raw vector.
#' @param rds Whether to exchange R objects.
#' @param method HTTP method, for an API's other routes.
#' @param options Further options, as a list: those with the names of arguments of this function.
#' @param token Secret that is shown: the server's `call_token`, or `token`.
#'
#' @return What the function answers: a string, a raw vector, a data frame, what JSON holds, an R object; `NULL` if that is
#'   nothing.
#'
#' @section Error conditions:
#' All inherit from `faucet_error`.
#'
#' - `faucet_error_invoke`: there is no answer, or it is an error. Fields `status` (of HTTP; `NA` if there is no answer), `cause`, what
#'   `Faucet-Error` says, and `answer`, its text. Each cause has a class of its own, such as
#'   `faucet_error_invoke_function_error` (R has raised an error), `faucet_error_invoke_bad_option`, `faucet_error_invoke_queue_full`,
#'   `faucet_error_invoke_timeout` (of the server's), `faucet_error_invoke_unauthorized`. Without an answer these are
#'   `faucet_error_connect`, `faucet_error_timeout` and `faucet_error_answer`, as everywhere.
#' - `faucet_error_option`: an argument has a value that it does not take, or the token could be overheard. Field `option`.
#'
#' @seealso [deploy()]
#' @export
#' @examples
#' \dontrun{
#' invoke("sed", "I hate this", e = "s/hate/love/")
#' invoke("mpg", data.frame(wt = c(2.5, 3)), timeout = 5)
#' tryCatch(invoke("mpg", "nonsense"), faucet_error_invoke = function(error) error$answer)
#' }
invoke <- function(
    name, input, ..., to = NULL, timeout = Inf, type = NULL, rds = FALSE, method = "POST", options = list(), token = NULL) {
  call <- rlang::current_env()
  typed <- match.call(function(...) NULL, sys.call(), envir = parent.frame())
  if (any(is_abbreviated(names(typed)))) {
    return(eval(with_options_apart(typed), parent.frame()))
  }
  path <- call_path(name, call = call)
  timeout <- check_wait(timeout, "timeout", call = call)
  rds <- check_setting(rds, "rds", setting("flag", NULL, ""), call = call)
  method <- check_method(method, call = call)
  query <- call_query(c(list(...), options), call = call)
  sent <- if (missing(input)) list() else encode_input(input, type, rds, call = call)
  server <- resolve_server(to, token, call = call)
  accept <- if (rds) "application/x-rds, application/json;q=0.9, */*;q=0.1" else "*/*"
  headers <- c(list(accept = accept), if (!is.null(sent$type)) list("content-type" = sent$type))
  answer <- rlang::try_fetch(
    send_request(server, method, paste0(path, query), body = sent$body, headers = headers, timeout = timeout, call = call),
    faucet_error_connect = function(error) raise_no_answer(error),
    faucet_error_timeout = function(error) raise_no_answer(error),
    faucet_error_answer = function(error) raise_no_answer(error)
  )
  if (answer$status >= 400) raise_invoke(answer, name, call = call)
  decode_answer(answer, rds, call = call)
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
  names <- names(options)
  if (is.null(names) || anyNA(names) || !all(nzchar(names))) {
    abort("option", c(
      "Options of a function must have names.",
      i = "The first argument after {.arg name} is its input, all others are given like {.code e = \"s/a/b/\"}."
    ), option = NA_character_, call = call)
  }
  pairs <- unlist(Map(function(name, value) {
    texts <- option_texts(name, value, call = call)
    paste0(encode_url(name), "=", encode_url(texts), recycle0 = TRUE)
  }, names, unname(options)), use.names = FALSE)
  if (length(pairs) == 0) "" else paste0("?", paste(pairs, collapse = "&"))
}

option_texts <- function(name, value, call = NULL) {
  if (is.factor(value) || inherits(value, c("Date", "POSIXt"))) {
    value <- if (inherits(value, "POSIXt")) format(value, "%Y-%m-%dT%H:%M:%SZ", tz = "UTC") else as.character(value)
  }
  if (is.null(value)) {
    character()
  } else if (!is.atomic(value) || is.raw(value) || is.complex(value) || anyNA(value)) {
    abort("option", c(
      "Option {.arg {name}} must be texts, numbers, TRUE or FALSE, not {describe_value(value)}.",
      i = "What has more to it is for the input."
    ), option = name, call = call)
  } else if (is.logical(value)) {
    ifelse(value, "true", "false")
  } else if (is.numeric(value)) {
    # As many digits as make the same number.
    vapply(value, function(one) {
      short <- format(one, digits = 15, scientific = FALSE, trim = TRUE)
      if (nchar(short) > 20) short <- format(one, digits = 15)
      if (identical(as.numeric(short), as.numeric(one))) short else format(one, digits = 17)
    }, "")
  } else {
    as.character(value)
  }
}

# What is sent, and its Content-Type.
encode_input <- function(input, type, rds, call = NULL) {
  if (!is.null(type)) {
    type <- check_text(type, "type", call = call)
    if (is.raw(input)) {
      return(list(body = as.vector(input), type = type))
    }
    if (rlang::is_string(input) && !is.na(input)) {
      return(list(body = charToRaw(enc2utf8(input)), type = type))
    }
    abort("option", c(
      "With {.arg type}, {.arg input} must be one string or a raw vector, not {describe_value(input)}.",
      i = "Without, what it is sent as follows from what it is."
    ), option = "input", call = call)
  }
  if (rds) {
    list(body = serialize(input, NULL, version = 3), type = "application/x-rds")
  } else if (is.raw(input) && !is.object(input)) {
    list(body = as.vector(input), type = "application/octet-stream")
  } else if (rlang::is_string(input) && !is.na(input) && !is.object(input)) {
    list(body = charToRaw(enc2utf8(input)), type = "text/plain; charset=utf-8")
  } else {
    json <- tryCatch(as_json(input), error = function(error) {
      abort("option", c(
        "{.arg input} cannot be written as JSON.",
        i = "With {.code rds = TRUE}, R objects are sent as they are, if the function takes them."
      ), option = "input", parent = error, call = call)
    })
    list(body = charToRaw(enc2utf8(json)), type = "application/json")
  }
}

# R's own value of it.
decode_answer <- function(answer, rds, call = NULL) {
  type <- answer$headers[["content-type"]] %||% ""
  media <- tolower(trimws(sub(";.*", "", type)))
  read <- function(what, code) {
    tryCatch(code, error = function(error) {
      abort(c("invoke", "answer"), "The answer is no {what}.",
        status = answer$status, cause = "bad_answer", answer = NULL, parent = error, call = call
      )
    })
  }
  if (length(answer$body) == 0) {
    # Text may be empty.
    if (startsWith(media, "text/")) "" else if (media == "application/octet-stream") raw() else NULL
  } else if (media == "application/json" || endsWith(media, "+json")) {
    read("JSON", parse_json(answer$body, simplify = TRUE))
  } else if (media == "text/csv") {
    read("CSV", utils::read.csv(text = text_of_answer(answer), check.names = FALSE, encoding = "UTF-8"))
  } else if (startsWith(media, "text/")) {
    text_of_answer(answer)
  } else if (rds && media %in% c("application/x-rds", "application/rds")) {
    read("RDS", read_rds(answer$body))
  } else {
    answer$body
  }
}

read_rds <- function(bytes) {
  connection <- gzcon(rawConnection(bytes))
  on.exit(close(connection))
  readRDS(connection)
}

# In UTF-8, from what it says that it is.
text_of_answer <- function(answer) {
  type <- answer$headers[["content-type"]] %||% ""
  form <- "^.*;[[:space:]]*charset=\"?([^\";[:space:]]+)\"?.*$"
  charset <- if (grepl(form, type, ignore.case = TRUE)) sub(form, "\\1", type, ignore.case = TRUE) else "UTF-8"
  text <- bytes_as_text(answer$body)
  if (tolower(charset) %in% c("utf-8", "utf8")) {
    return(text)
  }
  Encoding(text) <- "unknown"
  converted <- tryCatch(iconv(text, charset, "UTF-8"), error = function(error) NA_character_)
  if (is.na(converted)) text else converted
}

# An answer that is an error; what it says is nobody's template.
raise_invoke <- function(answer, name, call = NULL) {
  text <- text_of_answer(answer)
  content <- if (has_json(answer)) tryCatch(parse_json(answer$body), error = function(error) NULL)
  why <- if (is.list(content) && rlang::is_string(content$error)) content$error
  cause <- answer$headers[["faucet-error"]]
  if (is.null(why)) why <- if (length(answer$body) > 0 && nchar(text, "bytes") < 1000 && validUTF8(text)) text
  what <- paste0("`", name, "` has answered with status ", answer$status, if (!is.null(why)) ": ", why)
  plain <- if (!is.null(cause) && grepl("^[a-z_]+$", cause)) cause
  rlang::abort(
    c(what, i = hint_for_call(answer$status, plain)),
    class = error_class(c(if (!is.null(plain)) paste0("invoke_", plain), "invoke")), status = answer$status,
    cause = cause %||% NA_character_, answer = text, option = content$option, call = shown_call(call), trace = trace_to(call)
  )
}

hint_for_call <- function(status, cause) {
  if (status == 401) {
    "The token is given by `token`, `options(faucet.token = )` or FAUCET_TOKEN."
  } else if (identical(cause, "no_route")) {
    "`functions()` tells what is deployed."
  }
}

# The same error, which is one of invoke()'s, too.
raise_no_answer <- function(error) {
  error$status <- NA_integer_
  error$cause <- setdiff(sub("^faucet_error_", "", grep("^faucet_error_", class(error), value = TRUE)), "")[[1]]
  class(error) <- append(class(error), "faucet_error_invoke", after = 1)
  rlang::cnd_signal(error)
}
