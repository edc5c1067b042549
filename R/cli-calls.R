# The verbs that call functions, look after calls, and keep secrets.

calling_verbs <- function() {
  list(
    new_verb(
      "invoke", "Functions", "Call a function, or a chain of them: standard input goes in, the answer comes out.", cli_invoke,
      usage = "CHAIN [KEY=VALUE ...]", operands = c(1, Inf), flags = invoke_flags,
      about = c(
        paste(
          "CHAIN is a function's name, with its options, or several with `|` between them. Quote it, as the shell knows that",
          "sign, too: \"sed e=s/hate/love/ | to-upper\", or \"sed(e = 's/a b/c/', n = 3) | to-upper\". Quotes in it protect",
          "spaces and signs."
        ),
        paste(
          "Standard input is sent while it is read, and the answer written while it comes, so that no stream is too long. If",
          "standard input is a terminal, nothing is sent, unless --input - asks for what is typed. Ctrl-C, and a reader that",
          "stops reading, cancel the call wherever it is. An error is told on standard error, and the exit status is not 0, also",
          "if it comes in the middle of the answer."
        )
      ),
      examples = c(
        "echo \"I hate this\" | faucet invoke \"sed e=s/hate/love/ | to-upper\"",
        "faucet invoke mpg --type application/json --input cars.json"
      )
    ),
    new_verb(
      "call", "Functions", "Look after a call that was made with --async.", cli_call,
      usage = "[status | result | cancel] ID", operands = c(1, 2),
      flags = call_flags,
      examples = c("id=$(faucet invoke train --async < data.csv)", "faucet call result $id > model.json")
    ),
    new_verb(
      "secret", "Functions", "Give functions what nobody may read.", cli_secret,
      usage = "list | set NAME | delete NAME", operands = c(1, 2),
      flags = function() client_flags(flag_of("file", "path", "Of set: file that holds it.", value = "FILE")),
      about = paste(
        "The secret is read from --file, from standard input, or, if that is a terminal, asked for. It is no argument, as all",
        "users of this machine can see those."
      ),
      examples = "faucet secret set db < password.txt"
    )
  )
}

invoke_flags <- function() {
  client_flags(
    flag_of(
      "timeout", "duration", "How long the call may take, waiting included. Each stage gets what is left.",
      infinite = TRUE
    ),
    flag_of("buffer", "flag", "Have the answer whole or not at all: nothing is written before it is complete.", default = FALSE),
    flag_of("type", "string", "What the input is (Content-Type), such as application/json. Without it: text.", value = "TYPE"),
    flag_of("accept", "string", "What the answer is to be (Accept), such as text/csv.", value = "TYPE"),
    flag_of("input", "path", "File to send in the place of standard input; - is that, even if it is a terminal."),
    flag_of("output", "path", "File for the answer, which is there once that is complete."),
    flag_of("async", "flag", "Write the call's id, and leave: see `faucet call`.", default = FALSE),
    flag_of("callback", "string", "With --async: URL that is told when the call is over.", value = "URL"),
    flag_of("result_ttl", "duration", "With --async: how long the result is kept."),
    flag_of("retry", "flag", "With --async: the call may run again after a restart of the server.", default = FALSE),
    flag_of("call_id", "name", "What the call is called in the servers' logs (X-Request-ID).", value = "ID")
  )
}

call_flags <- function() {
  client_flags(
    flag_of("wait", "duration", "Of result: how long to wait until it is over.", infinite = TRUE, default = Inf),
    flag_of("output", "path", "Of result: file that it is written to, in the place of standard output.")
  )
}

cli_invoke <- function(given) {
  used <- use_client(given)
  values <- used$values
  chain <- chain_of(given$operands)
  how <- check_call(list(
    timeout = values$timeout %||% Inf, buffer = isTRUE(values$buffer), async = isTRUE(values$async), callback = values$callback,
    result_ttl = values$result_ttl, retry = isTRUE(values$retry), rds = FALSE, method = "POST", output = values$output
  ))
  target <- call_target(chain, list(), how)
  server <- resolve_caller(NULL, NULL)
  into <- open_output(values$output)
  on.exit(into$give_up(), add = TRUE)
  headers <- list(accept = values$accept %||% "*/*")
  headers[["content-type"]] <- values$type
  headers[["x-request-id"]] <- values$call_id
  answer <- signal_no_answer(send_request(
    server, target$method, target$path, headers = headers, timeout = target$patience, most = Inf,
    file = if (!identical(values$input, "-")) values$input, input = is_typed(values$input),
    heard = into$write, output = !how$async && is.null(into$write)
  ))
  if (answer$status >= 400) raise_invoke(answer, chain)
  if (how$async) {
    write_out(if (used$json) bytes_as_text(answer$body) else read_queued(answer, server)$id)
  } else if (!is.null(into$write)) {
    into$complete()
  }
}

# Whether standard input is sent.
is_typed <- function(input) {
  if (is.null(input)) !isatty(stdin()) else input == "-"
}

# What follows a chain's first text are more options, each an argument of its own, which no shell has to quote twice.
chain_of <- function(operands) {
  options <- operands[-1]
  pairs <- grepl("^[A-Za-z.][A-Za-z0-9._-]*=", options)
  options[pairs] <- paste0(sub("=.*$", "=", options[pairs]), quote_option(sub("^[^=]*=", "", options[pairs])))
  paste(c(operands[[1]], options), collapse = " ")
}

cli_call <- function(given) {
  used <- use_client(given)
  what <- if (length(given$operands) == 2) given$operands[[1]] else "status"
  id <- given$operands[[length(given$operands)]]
  known <- check_call_id(id, NULL, NULL)
  switch(
    what,
    status = {
      content <- ask_json(known$server, "GET", known$path)
      if (used$json) write_json(content) else write_out(detail_lines(read_status(content)))
    },
    result = write_result(id, known, used$values),
    cancel = {
      call_cancel(id)
      if (used$json) write_json(list(id = id, status = "cancelled")) else write_out(paste("Cancelled", id))
    },
    refuse_usage(paste0("`faucet call` has no `", what, "`."), "It has status, result and cancel.")
  )
}

write_result <- function(id, known, values) {
  wait <- values$wait %||% Inf
  if (!is.null(values$output)) {
    return(call_result(id, wait = wait, output = values$output))
  }
  status <- await_call(known, seconds_now() + wait)
  if (is.null(status)) raise_unfinished(known, wait)
  if (status$status != "done") raise_ended(status)
  answer <- signal_no_answer(
    send_request(known$server, "GET", paste0(known$path, "/result"), timeout = Inf, most = Inf, output = TRUE)
  )
  if (answer$status >= 400) raise_no_result(answer, status)
}

cli_secret <- function(given) {
  used <- use_client(given)
  what <- given$operands[[1]]
  name <- given$operands[-1]
  if (what %in% c("set", "delete") && length(name) == 0) {
    refuse_usage(paste0("`faucet secret ", what, "` needs the secret's name."))
  }
  done <- function(text) if (used$json) write_json(list(name = name)) else write_out(text)
  switch(
    what,
    list = {
      names <- secrets()
      if (used$json) write_json(I(names)) else write_out(names)
    },
    set = {
      with_terminal(secret_set(name, file = used$values$file %||% if (!isatty(stdin())) "-"))
      done(paste("Set", name))
    },
    delete = {
      secret_delete(name)
      done(paste("Deleted", name))
    },
    refuse_usage(paste0("`faucet secret` has no `", what, "`."), "It has list, set and delete.")
  )
}

# Evaluates what may ask for a secret, which a script's R does not do by itself.
with_terminal <- function(code) {
  old <- options(askpass = ask_terminal)
  on.exit(options(old))
  code
}

# What is typed is not shown.
ask_terminal <- function(prompt) {
  terminal <- file("/dev/tty", "r", raw = TRUE)
  on.exit(close(terminal), add = TRUE)
  cat(prompt, file = stderr())
  if (system2("stty", "-echo", stdin = "/dev/tty") == 0) {
    on.exit(system2("stty", "echo", stdin = "/dev/tty"), add = TRUE)
  }
  on.exit(cat("\n", file = stderr()), add = TRUE)
  readLines(terminal, n = 1)
}
