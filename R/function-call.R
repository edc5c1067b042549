# How a function is called: a request becomes its arguments, and its value the answer.

# An app, as serve_native() takes it. All that does not depend on the request is found out here, once.
function_app <- function(fun, name, rds = FALSE, stream = FALSE) {
  if (is.primitive(fun)) {
    primitive <- fun
    fun <- function(x, ...) primitive(x, ...)
  }
  taken <- inputs_of(fun, stream)
  signature <- declare_options(formals(fun), taken)
  call <- caller(fun, name, taken)
  limit_cpu <- cpu_limiter(Sys.getenv("FAUCET_CPU_TIME"))
  answer <- if (stream) {
    function(options, type, accept, body) {
      limit_cpu()
      answer_stream(call, options, body, accept)
    }
  } else {
    function(options, type, accept, body) {
      # Without a body the argument is missing, and its default counts.
      inputs <- if (is.null(body)) list() else list(decode_input(body$read(), type, rds))
      limit_cpu()
      value <- call(inputs, options)
      if (inherits(value, "promise")) value <- await(value)
      encode_value(value, accept)
    }
  }
  c(calling(answer), signature = signature)
}

# The arguments that are the body, or read it and write the answer.
inputs_of <- function(fun, stream) {
  all <- names(formals(fun))
  taken <- utils::head(all, if (stream) 2 else 1)
  if (stream && (length(taken) < 2 || "..." %in% taken)) {
    stop("A function with stream = TRUE has `input` and `output` as its first two arguments.", call. = FALSE)
  }
  taken
}

# What takes requests: `call` as of any Rook app, `direct` without an environment that nobody looks into.
calling <- function(answer) {
  run <- function(query, type, accept, body) {
    tryCatch(
      {
        options <- function_options(query)
        if (is.list(options)) answer(options, type, accept, body) else refused_option(options)
      },
      error = function(error) {
        if (inherits(error, "faucet_refusal")) refusal(error$status, error$cause, error$message) else failed_call(error)
      }
    )
  }
  list(
    call = function(req) {
      has_body <- isTRUE(as.numeric(req[["CONTENT_LENGTH"]] %||% "0") > 0)
      run(req[["QUERY_STRING"]], req[["CONTENT_TYPE"]], req[["HTTP_ACCEPT"]], if (has_body) req$rook.input)
    },
    direct = function(request) {
      fields <- request$fields
      run(fields[["QUERY_STRING"]], fields[["CONTENT_TYPE"]], fields[["HTTP_ACCEPT"]], body_of(request))
    }
  )
}

# `wrong` is a message and the option's name, if it has one.
refused_option <- function(wrong) {
  refusal(400L, "bad_option", wrong[[1]], if (nzchar(wrong[[2]])) wrong[[2]])
}

# Says which options there are. Returns that as JSON.
declare_options <- function(all, taken) {
  options <- all[!names(all) %in% c(taken, "...")]
  has_none <- function(i) identical(options[[i]], quote(expr = )) # nolint: spaces_inside_linter.
  is_required <- vapply(seq_along(options), has_none, NA)
  types <- vapply(seq_along(options), function(i) if (is_required[[i]]) "any" else type_of_default(options[[i]]), "")
  function_declare(
    as.character(names(options)), types, is_required, "..." %in% names(all), as.character(setdiff(taken, "..."))
  )
}

# The value of a default says what type an option has; one that is not known before a call says nothing.
type_of_default <- function(default) {
  value <- constant_value(default)
  if (is.null(value) || is.object(value) || (is.logical(value) && anyNA(value))) "any" else typeof(value)
}

# What an expression is without being run: a constant, a sign before one, or a vector of them. Otherwise NULL.
constant_value <- function(expression) {
  if (is.call(expression)) {
    is_vector <- is.symbol(expression[[1]]) && as.character(expression[[1]]) %in% c("c", "-", "+")
    parts <- if (is_vector) lapply(as.list(expression)[-1], constant_value)
    if (length(parts) > 0 && !any(vapply(parts, is.null, NA))) unlist(parts)
  } else if (is.symbol(expression)) {
    switch(as.character(expression), "T" = TRUE, "F" = FALSE, "pi" = pi)
  } else if (is.atomic(expression)) {
    expression
  }
}

# Calls the function by its name, with arguments by theirs: what R says of an error shows these, and not values, which may be
# megabytes. `inputs` are for the first arguments.
caller <- function(fun, name, taken) {
  # The name may be an option's, too: then R looks for a function further up.
  home <- new.env(parent = globalenv())
  assign(name, fun, envir = home)
  head <- as.name(name)
  symbols <- lapply(taken, as.name)
  names(symbols) <- taken
  is_dots <- identical(taken, "...")
  function(inputs, options) {
    if (is_dots) {
      arguments <- inputs
    } else {
      arguments <- symbols[seq_along(inputs)]
      names(inputs) <- names(arguments)
    }
    frame <- list2env(c(if (!is_dots) inputs, options), parent = home)
    if (length(options) > 0) {
      given <- lapply(names(options), as.name)
      names(given) <- names(options)
      arguments <- c(arguments, given)
    }
    eval(as.call(c(head, arguments)), frame)
  }
}

# Called before each call: the time that it may use, in seconds, is counted from what the process has used so far.
cpu_limiter <- function(limit) {
  seconds <- suppressWarnings(as.numeric(limit))
  if (isTRUE(seconds > 0)) function() function_limit_cpu(seconds) else function() NULL
}

# A call that was refused, or failed: JSON, with the cause in a header that the front passes on.
refusal <- function(status, cause, message, option = NULL) {
  body <- paste0("{\"error\":", json_string(message), if (!is.null(option)) paste0(",\"option\":", json_string(option)), "}")
  list(status = status, headers = list("Content-Type" = "application/json", "Faucet-Error" = cause), body = body)
}

# An error of the function's own. Its message is for the caller, its call for the log.
failed_call <- function(error) {
  message <- tryCatch(paste(conditionMessage(error), collapse = "\n"), error = function(error) "(an error without a message)")
  call <- tryCatch(conditionCall(error), error = function(error) NULL)
  where <- if (is.call(call)) paste0(" in ", deparse(call, nlines = 1L)[[1]])
  cat(paste0(error_head(), "Error", where, ": ", message, "\n"), file = stderr())
  refusal(500L, "function_error", message)
}

# For a function(input, output, ...) that reads and writes bit by bit. What it returns is nobody's answer.
answer_stream <- function(call, options, body, accept) {
  output <- lazy_output(wanted_type(accept))
  call(list(stream_input(body), output$functions), options)
  output$end()
}

# After so many bytes of a stream R collects what it has dropped of them: by itself it waits for 64 MB of vectors.
collect_after <- 8 * 1024^2

# `read()` gives the next piece of the body, NULL at its end.
stream_input <- function(body) {
  read_since <- 0
  list(
    read = function(n = piece_size) {
      if (!missing(n) && (!rlang::is_scalar_integerish(n, finite = TRUE) || n < 1)) {
        got <- describe_value(n)
        abort("option", "{.arg n} must be a number of bytes, not {got}.", option = "n", call = rlang::current_env())
      }
      bytes <- if (!is.null(body)) body$read(n)
      read_since <<- read_since + length(bytes)
      if (read_since > collect_after) {
        gc(full = FALSE)
        read_since <<- 0
      }
      if (length(bytes) > 0) bytes
    }
  )
}

# What bytes are taken for, of which nobody says what they are: text, CSV or JSON if that is what the client asks for in the first
# place.
wanted_type <- function(accept) {
  first <- tolower(trimws(sub("[,;].*", "", accept %||% "")))
  switch(first,
    "text/plain" = ,
    "text/csv" = paste0(first, "; charset=utf-8"),
    "application/json" = first,
    "application/octet-stream"
  )
}

# The answer's head is sent with the first piece. `type()` says before that what it is; by default text if that piece is text,
# else `bytes_type`.
lazy_output <- function(bytes_type = "application/octet-stream") {
  out <- new.env(parent = emptyenv())
  out$type <- NULL
  out$bytes_type <- bytes_type
  out$begun <- FALSE
  out$chunks <- list()
  out$is_native <- serve_is_busy()
  functions <- list(
    write = function(chunk) {
      call <- rlang::current_env()
      bytes <- as_bytes(chunk, call)
      if (!out$begun) begin_output(out, chunk, call)
      if (length(bytes) > 0) write_output(out, bytes, call)
      invisible()
    },
    type = function(type) {
      set_output_type(out, type, call = rlang::current_env())
      invisible()
    },
    is_open = function() !out$is_native || !out$begun || serve_is_open()
  )
  list(functions = functions, end = function() end_output(out))
}

begin_output <- function(out, chunk, call) {
  if (is.null(out$type)) out$type <- if (is.character(chunk)) "text/plain; charset=utf-8" else out$bytes_type
  head <- response_head(200, with_refusals(list("Content-Type" = out$type)))
  failure <- if (out$is_native) serve_stream(head$status, head$names, head$values)
  if (!is.null(failure)) raise_failure(failure, call = call)
  out$begun <- TRUE
}

write_output <- function(out, bytes, call) {
  if (out$is_native) write_native(bytes, call) else out$chunks[[length(out$chunks) + 1]] <- bytes
}

set_output_type <- function(out, type, call) {
  if (!rlang::is_string(type) || !nzchar(type)) {
    got <- describe_value(type)
    abort("option", "{.arg type} must be a content type, not {got}.", option = "type", call = call)
  }
  if (out$begun) abort("option", "The answer has begun: its type is said.", option = "type", call = call)
  out$type <- type
}

# The answer, which is sent already if it was begun in a native worker.
end_output <- function(out) {
  if (out$is_native && out$begun) serve_stream_end()
  list(
    status = 200L, headers = list("Content-Type" = out$type %||% "application/octet-stream"),
    body = if (!out$is_native) as.raw(unlist(out$chunks))
  )
}
