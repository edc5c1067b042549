# Calls without an answer, or whose answer is an error: conditions of class `faucet_invoke_error`. What they say comes from
# outside: it is nobody's template.

# An answer that is an error. `name` is what was called: a function, or a chain. `subject` is who has answered, in words.
raise_invoke <- function(answer, name, subject = NULL, call = NULL) {
  text <- text_of_answer(answer)
  content <- if (has_json(answer)) tryCatch(parse_json(answer$body), error = function(error) NULL)
  if (!is.list(content)) content <- list()
  cause <- answer$headers[["faucet-error"]]
  why <- if (rlang::is_string(content$error)) content$error else short_text(text)
  # The front's own begin with the status, as plumber's do.
  if (!is.null(why)) why <- sub(paste0("^", answer$status, " - [A-Za-z -]+: "), "", why)
  failed <- failed_stage(content, name)
  plain <- if (!is.null(cause) && grepl("^[a-z_]+$", cause)) cause
  message <- paste0(subject %||% who_failed(name, failed), " status ", answer$status, if (!is.null(why)) ": ", why)
  signal_invoke(
    c(message, show_column(name, content$column), i = hint_for_call(answer$status, plain)),
    c(if (!is.null(plain)) paste0("invoke_", plain), "invoke"), call = call,
    error = why %||% NA_character_, stage = failed$stage, `function` = failed$`function`,
    call_id = content$call_id %||% answer$headers[["x-request-id"]] %||% NA_character_, status = answer$status,
    cause = cause %||% NA_character_, answer = text, option = content$option, column = content$column
  )
}

who_failed <- function(name, failed) {
  if (!is_chain(name)) {
    paste0("`", name, "` has answered with")
  } else if (is.na(failed$`function`)) {
    "The chain has failed with"
  } else {
    paste0(if (!is.na(failed$stage)) paste0("Stage ", failed$stage, ", "), "`", failed$`function`, "`, has failed with")
  }
}

# Which one it was, as far as the server tells: of a call by name, the only one.
failed_stage <- function(content, name) {
  if (!is_chain(name)) {
    return(list(stage = 1L, `function` = sub("/.*$", "", name)))
  }
  stage <- as_number(content$stage)
  list(stage = as.integer(stage), `function` = as_string(content$`function`))
}

signal_invoke <- function(message, class, ..., call = NULL) {
  rlang::abort(
    message, class = c(setdiff(error_class(class), "faucet_error"), "faucet_invoke_error", "faucet_error"), ...,
    call = shown_call(call), trace = trace_to(call)
  )
}

# What may be shown in a message.
short_text <- function(text) {
  if (nzchar(text) && nchar(text, "bytes") < 1000 && validUTF8(text)) text
}

hint_for_call <- function(status, cause) {
  if (status == 401) {
    "The token is given by `token`, or the settings `call_token` or `token`, such as FAUCET_CALL_TOKEN or FAUCET_TOKEN."
  } else if (isTRUE(cause %in% c("no_route", "no_function"))) {
    "`functions()` tells what is deployed."
  }
}

# Evaluates a request. If there is no answer, or not all of it, its error is one of calls, too.
signal_no_answer <- function(request) {
  rlang::try_fetch(
    request,
    faucet_error_connect = function(error) raise_no_answer(error),
    faucet_error_timeout = function(error) raise_no_answer(error),
    faucet_error_answer = function(error) raise_no_answer(error)
  )
}

raise_no_answer <- function(error) {
  known <- grep("^faucet_error_", class(error), value = TRUE)
  error$status <- NA_integer_
  error$cause <- sub("^faucet_error_", "", known)[[1]]
  error$error <- error$message
  error$stage <- NA_integer_
  error$`function` <- NA_character_
  error$call_id <- NA_character_
  class(error) <- append(class(error), c("faucet_error_invoke", "faucet_invoke_error"), after = 1)
  rlang::cnd_signal(error)
}
