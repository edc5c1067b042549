# Every error that faucet raises has the class `faucet_error` and one of its own, `faucet_error_<class>`.

# `message` is a template for cli; what varies goes in as data, through its braces.
abort <- function(class, message, ..., call = NULL, .envir = parent.frame()) {
  cli::cli_abort(
    message, class = error_class(class), ..., call = shown_call(call), trace = trace_to(call), .envir = .envir
  )
}

# The user's calls, down to the function of faucet's that they called: what goes on below it is no help to them.
trace_to <- function(call) {
  if (is.environment(call)) hide_tokens(rlang::trace_back(bottom = call))
}

# Traces, and R's own `try()`, show calls as they were written, and a token may be written there.
hide_tokens <- function(trace) {
  trace$call <- lapply(trace$call, hide_token)
  trace
}

hide_token <- function(call) {
  if (!is.call(call)) {
    return(call)
  }
  for (i in seq_along(call)) {
    # Nor is there anything in an argument that is left out, as in `x[1, ]`.
    if (identical(call[[i]], quote(expr = ))) next # nolint: spaces_inside_linter.
    if (identical(names(call)[i], "token")) {
      call[[i]] <- as.name("...")
    } else if (is.call(call[[i]])) {
      call[[i]] <- hide_token(call[[i]])
    }
  }
  call
}

shown_call <- function(call) {
  written <- if (is.environment(call)) rlang::error_call(call) else call
  hidden <- hide_token(written)
  if (identical(hidden, written)) call else hidden
}

error_class <- function(class) {
  c(paste0("faucet_error_", class), "faucet_error")
}

# The native side never raises: it returns a list that says whether it went well, and this turns a bad one into an
# error. The text comes from outside (paths, URLs, R's own messages), so it is nobody's template, and `lines` keep their
# layout.
check_result <- function(result, call = NULL) {
  if (isTRUE(result$ok)) {
    return(result)
  }
  raise_failure(result, call = call)
}

# `are_shown`: the lines were printed already.
raise_failure <- function(failure, are_shown = FALSE, call = NULL) {
  lines <- as.character(failure$lines %||% character())
  shown <- if (are_shown) {
    c(i = "What R printed is above, and in the field `lines` of this error.")
  } else if (length(lines) > 0) {
    c("R's last lines:", rlang::set_names(lines, rep(" ", length(lines))))
  }
  rlang::abort(
    c(failure$message, shown),
    class = error_class(failure$class),
    lines = lines,
    call = shown_call(call),
    trace = trace_to(call)
  )
}
