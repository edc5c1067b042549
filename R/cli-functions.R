# The verbs that ask agents and proxies about functions, calls and secrets.

# Flags of all of them.
client_flags <- function(...) {
  definitions <- setting_definitions()[c("to", "token", "ca", "insecure")]
  definitions$to$doc <- paste(
    "The agent or proxy that is asked: host:port (port 9000 if there is none), a URL with http:// or https://, or unix:/path."
  )
  definitions$ca$doc <- "File with certificates (PEM) of those who vouch for the server's. `NULL`: whom the system trusts."
  definitions$insecure$doc <- "Send the token without TLS. For networks where everyone may read it."
  definitions$token$doc <- "What is shown to the server. In the environment: FAUCET_TOKEN or, for calls, FAUCET_CALL_TOKEN."
  json <- setting("flag", FALSE, "Write JSON, and errors, too: for scripts.")
  own <- list(...)
  common <- lapply(own, function(flag) {
    flag$is_common <- TRUE
    flag
  })
  c(common, setting_flags(definitions), list(new_flag("json", json)))
}

flag_of <- function(name, kind, doc, ..., short = NULL, value = NULL, default = NULL) {
  new_flag(name, setting(kind, default, doc, ...), short = short, value = value)
}

# What goes for the whole process; returns the values that are the verb's own, and whether JSON is asked for.
use_client <- function(given) {
  values <- given$values
  # A token that is given is meant for what is asked now, whatever the environment has for others.
  if (!is.null(values$token)) values$call_token <- values$token
  use_settings(values[intersect(names(values), c("to", "ca", "insecure", secret_settings))])
  list(
    values = values[setdiff(names(values), c("to", "ca", "insecure", "json", secret_settings))],
    json = isTRUE(values$json)
  )
}

deploying_verbs <- function() {
  name <- function(...) new_verb(..., usage = "NAME", operands = c(1, 1))
  list(
    new_verb(
      "deploy", "Functions", "Make a service of a folder, a file, a program or a URL.", cli_deploy,
      usage = "[PATH | --url URL] [OPTIONS] [-- PROGRAM ARGUMENTS...]", operands = c(0, 1), flags = deploy_flags,
      takes_program = TRUE,
      about = paste(
        "PATH is a folder with an API (plumber.R), or with a file that defines a function (--file); a file of R code; or a file",
        "that defines functions (functions.yaml, deploy.json). A program reads a call's input and writes its answer."
      ),
      examples = c(
        "faucet deploy functions.yaml", "faucet deploy model --file model.R --workers 1:4",
        "faucet deploy --name upper -- tr a-z A-Z"
      )
    ),
    new_verb(
      "list", "Functions", "List the functions that are deployed.", cli_list,
      flags = list_flags
    ),
    name("details", "Functions", "Tell all of one function.", cli_details, flags = client_flags),
    name(
      "log", "Functions", "Show what a function has printed.", cli_log,
      flags = log_flags
    ),
    name("stop", "Functions", "Stop a function.", cli_stop, flags = stop_flags),
    name("rollback", "Functions", "Go back to a function's version before.", cli_rollback, flags = rollback_flags)
  )
}

list_flags <- function() {
  client_flags(flag_of(
    "at_agent", "strings", "Only those of these agents of a proxy, such as host:9000; or a .json file that names agents."
  ))
}

log_flags <- function() {
  client_flags(
    flag_of("n", "count", "How many of its last lines.", min = 0, short = "-n", default = 100L),
    flag_of("follow", "flag", "Go on as lines come, until Ctrl-C.", short = "-f", default = FALSE)
  )
}

stop_flags <- function() {
  client_flags(flag_of("remove", "flag", "Forget it, too: its versions, and its log.", default = FALSE))
}

rollback_flags <- function() {
  client_flags(flag_of("wait", "duration", "How long to wait until it answers.", infinite = TRUE, default = 120))
}

# Those of deploy(), but for what only R's functions have.
deploy_flags <- function() {
  known <- lapply(definition_arguments(), `[[`, "setting")
  text <- function(doc, kind = "string", ...) setting(kind, NULL, doc, ...)
  arguments <- c(
    list(
      name = text("What it is called. By default as the folder, the file or the program."),
      file = text("In a folder: the R file that defines the function.", "path")
    ),
    known,
    list(
      env = text("Environment variable; may be given several times.", "env"),
      secrets = text("Names of secrets that it may read; see `faucet secret`.", "strings"),
      options = text(
        "Options that callers may give a program: n is a flag (?n, -n), e= takes a value (?e=x, -e x), ... is any other.",
        "strings"
      ),
      url = text("A service that runs already, which gets a name, a queue and limits."),
      services = text("Of a grpc:// URL: names of the gRPC services there.", "strings"),
      at_agent = text("The only agent that is to have it, if a proxy is asked: host:9000, or its name."),
      wait = setting("duration", 120, "How long to wait until it answers.", infinite = TRUE),
      quiet = setting("flag", FALSE, "Show no progress.")
    )
  )
  flags <- setting_flags(arguments)
  flags <- lapply(flags, function(flag) {
    if (flag$name %in% c("secrets", "options", "services")) flag$value <- "NAME,..."
    flag
  })
  do.call(client_flags, flags)
}

cli_deploy <- function(given) {
  used <- use_client(given)
  values <- used$values
  if (used$json) values$quiet <- TRUE
  if (length(given$operands) > 0) values$fn <- given$operands[[1]]
  values$command <- given$rest
  if (is.null(values$fn) && length(values$command) == 0 && is.null(values$url)) {
    refuse_usage(
      "`faucet deploy` needs something to deploy: a path, --url, or a program behind `--`.", "`faucet deploy --help` tells more."
    )
  }
  table <- do.call(deploy, values)
  if (used$json) write_json(table)
}

cli_list <- function(given) {
  used <- use_client(given)
  table <- functions(at_agent = used$values$at_agent)
  if (used$json) write_json(table) else write_out(colour_status(format(table)))
}

# How each is, at a glance.
colour_status <- function(lines) {
  lines <- gsub("\\bdeployed\\b", cli::col_green("deployed"), lines)
  lines <- gsub("\\bfailed\\b", cli::col_red("failed"), lines)
  gsub("\\bstopped\\b", cli::col_grey("stopped"), lines)
}

cli_details <- function(given) {
  used <- use_client(given)
  details <- function_details(given$operands)
  if (used$json) write_json(details) else write_out(detail_lines(details))
}

# A line for each thing that is known.
detail_lines <- function(details, depth = 0) {
  unlist(lapply(names(details), function(name) {
    value <- details[[name]]
    head <- paste0(strrep("  ", depth), cli::style_bold(gsub("_", " ", name, fixed = TRUE)), ":")
    if (is.data.frame(value)) {
      c(head, paste0(strrep("  ", depth + 1), format_table(lapply(value, function(column) or_dash(as.character(column))))))
    } else if (is.list(value)) {
      if (length(value) > 0 && rlang::is_named(value)) {
        c(head, detail_lines(value, depth + 1))
      } else if (length(value) > 0) {
        paste(head, as_json(value))
      }
    } else if (length(value) > 1 && name == "lines") {
      c(head, paste0(strrep("  ", depth + 1), value))
    } else if (length(value) > 0 && !anyNA(value)) {
      shown <- if (inherits(value, "POSIXct")) format_time(as.numeric(value)) else as.character(value)
      paste(head, paste(shown, collapse = ", "))
    }
  }))
}

cli_log <- function(given) {
  used <- use_client(given)
  n <- used$values$n %||% 100L
  name <- check_function_name(given$operands)
  if (!isTRUE(used$values$follow)) {
    lines <- function_logs(name, n = n)
    return(if (used$json) write_json(I(lines)) else write_out(lines))
  }
  server <- resolve_server(NULL, NULL)
  path <- with_query("/log", list(entrypoint = name, n = as.character(n), follow = "1"))
  answer <- send_request(server, "GET", path, timeout = Inf, most = Inf, output = TRUE)
  if (answer$status >= 400) read_answer(answer, server)
}

cli_stop <- function(given) {
  used <- use_client(given)
  table <- stop_function(given$operands, remove = isTRUE(used$values$remove))
  if (used$json) write_json(table) else write_out(paste("Stopped", given$operands))
}

cli_rollback <- function(given) {
  used <- use_client(given)
  table <- rollback_function(given$operands, wait = used$values$wait %||% 120)
  if (used$json) write_json(table) else write_out(paste("Rolled back", given$operands))
}

# In one line. Times are RFC 3339 in UTC, what is not known is left out.
write_json <- function(value) {
  if (is.data.frame(value)) value <- as.data.frame(unclass(value), stringsAsFactors = FALSE)
  write_out(as_json(with_written_times(value)))
}

with_written_times <- function(value) {
  if (inherits(value, "POSIXct")) {
    format(value, "%Y-%m-%dT%H:%M:%SZ", tz = "UTC")
  } else if (is.list(value)) {
    value[] <- lapply(value, with_written_times)
    value
  } else {
    value
  }
}
