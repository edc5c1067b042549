# The command line: `faucet VERB ...`, as exec/faucet has it run. What a verb does is an R function's; here is how it is asked.

# What the program ends with.
exit_codes <- c(
  ok = 0L, failed = 1L, usage = 2L, not_found = 3L, refused = 4L, unreachable = 5L, called_failed = 6L, deadline = 124L,
  interrupted = 130L, unread = 141L
)

# Ends the process.
cli_main <- function(arguments) {
  quit(save = "no", status = cli_run(arguments), runLast = FALSE)
}

# The exit code. Nothing is raised.
cli_run <- function(arguments) {
  arguments <- as_utf8(arguments)
  old <- options(warn = 1)
  on.exit(options(old), add = TRUE)
  on.exit(unfailing(outlet_settle(TRUE)), add = TRUE, after = FALSE)
  tryCatch(
    {
      cli_dispatch(arguments)
      exit_codes[["ok"]]
    },
    interrupt = function(condition) exit_codes[["interrupted"]],
    error = function(error) {
      code <- exit_code(error)
      # Whoever has stopped reading does not want to hear more.
      if (code != exit_codes[["unread"]]) unfailing(tell_error(error, arguments))
      code
    }
  )
}

# Arguments are bytes of the terminal's: those that are UTF-8 are that in any locale.
as_utf8 <- function(arguments) {
  plain <- validUTF8(arguments)
  Encoding(arguments[plain]) <- "UTF-8"
  arguments
}

cli_dispatch <- function(arguments) {
  verbs <- cli_verbs()
  if (length(arguments) == 0 || arguments[[1]] %in% c("--help", "-h")) {
    return(write_out(main_help(verbs)))
  }
  if (arguments[[1]] %in% c("--version", "-V")) {
    return(write_out(paste("faucet", getNamespaceVersion("faucet"))))
  }
  if (arguments[[1]] == "help") {
    arguments <- if (length(arguments) == 1) "--help" else c(arguments[[2]], "--help")
    return(cli_dispatch(arguments))
  }
  verb <- find_verb(arguments[[1]], verbs)
  arguments <- arguments[-1]
  if (asks_for_help(arguments)) {
    return(write_out(verb_help(verb)))
  }
  verb$run(parse_arguments(arguments, verb))
}

# Before what is another program's.
asks_for_help <- function(arguments) {
  own <- arguments[seq_len(match("--", arguments, nomatch = length(arguments) + 1L) - 1L)]
  any(own %in% c("--help", "-h"))
}

find_verb <- function(name, verbs) {
  same <- Filter(function(verb) name %in% c(verb$name, verb$aliases), verbs)
  if (length(same) > 0) {
    return(same[[1]])
  }
  if (startsWith(name, "-")) {
    refuse_usage(paste0("Options follow a verb, and `", name, "` comes first."), "`faucet --help` tells the verbs.")
  }
  near <- nearest_name(name, names(verbs))
  refuse_usage(
    paste0("There is no verb `", name, "`."),
    c(if (!is.null(near)) paste0("Did you mean `", near, "`?"), "`faucet --help` tells the verbs.")
  )
}

# What was asked for cannot be read. It is nobody's template.
refuse_usage <- function(message, hints = character(), ...) {
  rlang::abort(
    c(message, rlang::set_names(hints, rep("i", length(hints)))),
    class = error_class("usage"), ..., call = NULL
  )
}

# Which of the codes an error is.
exit_code <- function(error) {
  is_any <- function(...) inherits(error, paste0("faucet_error_", c(...)))
  kind <- if (is_any("unread") || grepl("SIGPIPE", conditionMessage(error), fixed = TRUE)) {
    "unread"
  } else if (is_any("connect")) {
    "unreachable"
  } else if (is_any("timeout", "invoke_timeout")) {
    "deadline"
  } else if (is_any("refused", "invoke")) {
    code_of_answer(error)
  } else if (is_any("answer")) {
    "unreachable"
  } else if (is_any("usage", "option", "dir", "config", "definition", "function", "secret")) {
    "usage"
  } else {
    "failed"
  }
  exit_codes[[kind]]
}

# What a server says that is no fault of the function's.
no_such_causes <- c("no_function", "no_route", "no_call", "no_secret")
busy_causes <- c(
  "queue_full", "queue_timeout", "busy", "draining", "too_many_connections", "overloaded", "storage", "body_too_large", "not_done"
)

# By what the server says.
code_of_answer <- function(error) {
  status <- error$status %||% NA_integer_
  cause <- error$cause %||% ""
  is_call <- inherits(error, "faucet_error_invoke")
  if (status %in% c(401L, 403L) && !cause %in% "function_error") {
    "refused"
  } else if (cause %in% no_such_causes || (status %in% 404L && !is_call)) {
    "not_found"
  } else if (cause %in% c("bad_chain", "bad_option")) {
    "usage"
  } else if (is_call && !cause %in% busy_causes) {
    "called_failed"
  } else {
    "failed"
  }
}

# For scripts in JSON, for people as they would write it.
tell_error <- function(error, arguments) {
  own <- arguments[seq_len(match("--", arguments, nomatch = length(arguments) + 1L) - 1L)]
  lines <- if ("--json" %in% own) error_as_json(error) else error_lines(error, own)
  put(paste0(paste(lines, collapse = "\n"), "\n"), "stderr")
}

error_as_json <- function(error) {
  own <- grep("^faucet_error_", class(error), value = TRUE)
  text <- function(value) if (rlang::is_string(value) && !is.na(value)) value
  number <- function(value) if (length(value) == 1 && is.numeric(value) && !is.na(value)) value
  fields <- list(
    error = text(error$error) %||% plain_message(error)[[1]],
    class = if (length(own) > 0) sub("^faucet_error_", "", own[[1]]) else "error",
    cause = text(error$cause), status = number(error$status), stage = number(error$stage), `function` = text(error$`function`),
    call_id = text(error$call_id), option = text(error$option), column = number(error$column),
    lines = if (length(error$lines) > 0) I(as.character(error$lines))
  )
  as_json(Filter(Negate(is.null), fields))
}

# Lines of a message, without colours.
plain_message <- function(error) {
  lines <- strsplit(cli::ansi_strip(conditionMessage(error)), "\n", fixed = TRUE)[[1]]
  parent <- if (inherits(error$parent, "condition")) paste("Caused by:", plain_message(error$parent))
  c(lines, parent)
}

# R's names of settings are flags here.
error_lines <- function(error, arguments) {
  lines <- plain_message(error)
  verbs <- cli_verbs()
  verb <- Filter(function(verb) length(arguments) > 0 && arguments[[1]] %in% c(verb$name, verb$aliases), verbs)
  if (length(verb) > 0) lines <- in_words_of(lines, verb[[1]])
  lines[[1]] <- paste0(red("faucet: ", "stderr"), lines[[1]])
  lines
}

in_words_of <- function(lines, verb) {
  lines <- sub("`to` says where .* is: `run_agent\\(\\)` and `run_proxy\\(\\)` start one[.]",
    "--to says where an agent or a proxy is: `faucet agent` and `faucet proxy` start one.", lines
  )
  lines <- sub("The token is given by .*$",
    "The token is given by --token-file, or in the environment by FAUCET_TOKEN or, for calls, FAUCET_CALL_TOKEN.", lines
  )
  lines <- sub("All settings are in `help\\(.*\\)`.", paste0("`faucet ", verb$name, " --help` tells all options."), lines)
  lines <- gsub("`functions()`", "`faucet list`", lines, fixed = TRUE)
  lines <- gsub("`options\\(faucet[.]([a-z_]+) = TRUE\\)`", "`\\1 = TRUE`", lines)
  for (flag in verb$flags()) {
    lines <- gsub(paste0("`", flag$name, "( = TRUE)?`"), flag$flag, lines)
  }
  lines
}

red <- function(text, stream) {
  colours <- cli::num_ansi_colors(if (stream == "stderr") stderr() else stdout()) > 1
  if (colours) paste0("\033[1;31m", text, "\033[0m") else text
}

# What was asked for, to standard output. It waits for a reader, as programs do.
write_out <- function(lines) {
  if (length(lines) > 0) cat(paste0(enc2native(lines), "\n"), sep = "")
  flush(stdout())
  invisible()
}
