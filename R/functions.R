#' What is deployed
#'
#' `functions()` lists the functions of an agent or a proxy, `function_details()` tells all of one, `function_logs()` shows
#' what it has printed. `stop_function()` ends one, and `rollback_function()` goes back to the version before.
#'
#' A function's status goes from `uploaded` to `deploying` to `deployed`, and later to `stopped`, or to `failed`. *Deployed* means
#' that it has answered. One with `workers = c(0, n)` has no process while nobody calls it.
#'
#' @inheritParams deploy
#' @param at_agent Only those of these agents of a proxy, such as `"host:9000"`; or the path of a `.json` file that names them, as
#'   RYO-FaaS's `list.json` does: `{"list": {"agentAddr": ["http://localhost:9000"]}}`.
#' @param name The function's name.
#' @param n How many of its last lines.
#' @param follow Whether to print lines as they come, until Ctrl-C.
#' @param remove Whether to forget it, too: its versions, and its log. Otherwise [rollback_function()] or [deploy()] can
#'   start it again.
#' @param wait Seconds to wait until it answers; see [deploy()].
#'
#' @return `functions()`: a data frame with a row for each function: `name`, `status`, `url`, `at_agent`, `version`, `workers`
#'   (processes now), `requests` and `deployed` (when).
#'
#'   `function_details()`: a list with the same, and the `definition`, the `signature` (a list with `parameters`, a data
#'   frame of `name`, `type` and `required`, and whether it is `open` to other options; `NULL` while it is not known),
#'   `message` and `lines` of a failure, and `replicas`, a data frame of `agent` and `status`, if it is a proxy that tells.
#'
#'   `function_logs()`: the lines, a character vector; with `follow`, invisibly, nothing.
#'
#'   `stop_function()` and `rollback_function()`: invisibly, its row of `functions()`, as far as it is told.
#'
#' @section Error conditions:
#' All inherit from `faucet_error`.
#'
#' - `faucet_error_option`: an argument has a value that it does not take, or the token could be overheard. Field `option`.
#' - `faucet_error_definition`: the file of `at_agent` names no agents. Fields `file` and `field`.
#' - `faucet_error_connect`, `faucet_error_timeout`, `faucet_error_answer`: the server cannot be reached, has not answered in
#'   time, or is no agent or proxy. Field `server`.
#' - `faucet_error_refused`: it refuses, as without the right token, or for a name that it does not know. Fields `status`
#'   and `cause`.
#' - `faucet_error_deploy`: what is rolled back to does not answer. Field `lines`: its last lines.
#'
#' @seealso [deploy()], [invoke()], [secret_set()]
#' @export
#' @examples
#' \dontrun{
#' functions()
#' function_details("sed")$signature
#' function_logs("sed", n = 20)
#' rollback_function("sed")
#' stop_function("sed")
#' }
functions <- function(to = NULL, at_agent = NULL, token = NULL) {
  call <- rlang::current_env()
  server <- resolve_server(to, token, call = call)
  agents <- if (!is.null(at_agent)) named_agents(at_agent, call = call)
  found <- ask_json(server, "GET", "/details", call = call)
  table <- function_table(found)
  if (is.null(agents)) table else table[vapply(found, is_at_agent, NA, agents), ]
}

# Whether a function is at one of these agents, or one of its replicas.
is_at_agent <- function(one, agents) {
  its <- c(one$atAgent, vapply(as_rows(one$replicas), function(replica) as_string(replica$agent), ""))
  any(sub("^https?://", "", its) %in% sub("^https?://", "", agents))
}

# Names of agents, also from a file that lists them.
named_agents <- function(at_agent, call = NULL) {
  if (length(at_agent) == 0 || !are_texts(at_agent)) {
    abort("option", "{.arg at_agent} must be the name of an agent, such as {.val host:9000}.", option = "at_agent", call = call)
  }
  if (length(at_agent) != 1 || !grepl("[.]json$", at_agent, ignore.case = TRUE)) {
    return(at_agent)
  }
  check_definition_file(at_agent, "at_agent", call = call)
  content <- read_definition_file(at_agent, call = call)
  listed <- if (is.list(content)) content$list
  agents <- if (is.list(listed)) unlist(listed$agentAddr %||% listed$atAgent)
  if (length(agents) == 0 || !are_texts(agents)) {
    definition_error(at_agent, c(
      "It names no agents.",
      i = "It has them below `list`, as in {\"list\": {\"agentAddr\": [\"http://localhost:9000\"]}}."
    ), field = "list", call = call)
  }
  agents
}

# A row for each; the class prints fewer columns.
function_table <- function(found) {
  found <- as_rows(found)
  text <- function(field) vapply(found, function(one) as_string(one[[field]]), "")
  number <- function(field) vapply(found, function(one) as_number(one[[field]]), 1)
  table <- data.frame(
    name = text("name"), status = text("status"), url = text("url"), at_agent = text("atAgent"), version = number("version"),
    workers = number("workers"), requests = number("requests"), deployed = parse_time(text("deployed")),
    stringsAsFactors = FALSE
  )
  structure(table, class = c("faucet_functions", "data.frame"))
}

# What should be an array of objects, and may be one or none.
as_rows <- function(value) {
  if (!is.list(value)) list() else if (is.null(names(value))) Filter(is.list, value) else list(value)
}

as_string <- function(value) {
  if (length(value) == 1 && is.atomic(value)) as.character(value) else NA_character_
}

as_number <- function(value) {
  if (length(value) == 1 && is.atomic(value)) suppressWarnings(as.numeric(value)) else NA_real_
}

# RFC 3339, as servers write it: in UTC.
parse_time <- function(text) {
  as.POSIXct(text, format = "%Y-%m-%dT%H:%M:%OS", tz = "UTC")
}

#' @export
print.faucet_functions <- function(x, ...) {
  cat(paste0(format(x, ...), "\n"), sep = "")
  invisible(x)
}

#' @export
format.faucet_functions <- function(x, ...) {
  shown <- intersect(c("name", "status", "url", "at_agent", "version", "workers", "requests", "deployed"), names(x))
  if (nrow(x) == 0 || !all(c("name", "status") %in% shown)) {
    return(if (nrow(x) == 0) "No functions" else utils::capture.output(print(as.data.frame(x))))
  }
  columns <- lapply(rlang::set_names(shown), function(column) {
    values <- x[[column]]
    if (inherits(values, "POSIXct")) format_time(as.numeric(values)) else or_dash(as.character(values))
  })
  # What nobody has told.
  format_table(Filter(function(values) !all(values == "-"), columns))
}

#' @rdname functions
#' @export
function_details <- function(name, to = NULL, token = NULL) {
  call <- rlang::current_env()
  name <- check_function_name(name, call = call)
  server <- resolve_server(to, token, call = call)
  found <- as_rows(ask_json(server, "GET", with_query("/details", list(name = name)), call = call))
  found <- Filter(function(one) identical(one$name, name), found)
  if (length(found) == 0) raise_unknown(name, server, call = call)
  read_details(found[[1]])
}

raise_unknown <- function(name, server, call = NULL) {
  abort(
    "refused", "There is no function {.val {name}} at {.url {server$url}}.",
    status = 404L, cause = "no_function", server = server$url, call = call
  )
}

read_details <- function(found) {
  details <- as.list(function_table(list(found)))
  details$definition <- found$definition
  details$signature <- read_signature(found$signature)
  details$message <- found$message
  details$lines <- as.character(unlist(found$lines))
  replicas <- as_rows(found$replicas)
  if (length(replicas) > 0) {
    text <- function(field) vapply(replicas, function(one) as_string(one[[field]]), "")
    details$replicas <- data.frame(agent = text("agent"), status = text("status"), stringsAsFactors = FALSE)
  }
  details
}

read_signature <- function(signature) {
  if (is.null(signature)) {
    return(NULL)
  }
  parameters <- as_rows(signature$parameters)
  text <- function(field) vapply(parameters, function(one) as_string(one[[field]]), "")
  list(
    parameters = data.frame(
      name = text("name"), type = text("type"),
      required = vapply(parameters, function(one) isTRUE(one$required), NA), stringsAsFactors = FALSE
    ),
    open = isTRUE(signature$open)
  )
}

#' @rdname functions
#' @export
function_logs <- function(name, n = 100, follow = FALSE, to = NULL, token = NULL) {
  call <- rlang::current_env()
  name <- check_function_name(name, call = call)
  n <- check_setting(n, "n", setting("count", NULL, "", min = 0), call = call)
  follow <- check_setting(follow, "follow", setting("flag", NULL, ""), call = call)
  server <- resolve_server(to, token, call = call)
  query <- list(entrypoint = name, n = as.character(n))
  if (!follow) {
    found <- ask_json(server, "GET", with_query("/log", query), call = call)
    return(log_lines(as_string(found$logs)))
  }
  path <- with_query("/log", c(query, follow = "1"))
  lines <- line_reader(function(line) put(paste0(line, "\n")))
  answer <- tryCatch(
    send_request(server, "GET", path, timeout = Inf, most = Inf, heard = lines$add, call = call),
    # As Ctrl-C ends what has no end.
    interrupt = function(condition) NULL
  )
  lines$end()
  if (!is.null(answer) && answer$status >= 400) read_answer(answer, server, call = call)
  invisible()
}

log_lines <- function(text) {
  if (is.na(text) || !nzchar(text)) character() else strsplit(sub("\n$", "", text), "\n", fixed = TRUE)[[1]]
}

# Takes bytes, and tells whole lines. A line that never ends is told in parts.
line_reader <- function(tell, most = 1024^2) {
  rest <- raw()
  list(
    add = function(bytes) {
      bytes <- c(rest, bytes)
      ends <- which(bytes == as.raw(10L))
      last <- if (length(ends) > 0) max(ends) else if (length(bytes) > most) length(bytes) else 0L
      rest <<- bytes[seq_along(bytes) > last]
      for (line in log_lines(bytes_as_text(bytes[seq_len(last)]))) tell(line)
    },
    end = function() {
      if (length(rest) > 0) tell(bytes_as_text(rest))
      rest <<- raw()
    }
  )
}

#' @rdname functions
#' @export
stop_function <- function(name, remove = FALSE, to = NULL, token = NULL) {
  call <- rlang::current_env()
  name <- check_function_name(name, call = call)
  remove <- check_setting(remove, "remove", setting("flag", NULL, ""), call = call)
  server <- resolve_server(to, token, call = call)
  content <- list(name = name)
  if (remove) content$remove <- TRUE
  # It may wait for requests in flight.
  stopped <- ask_json(server, "POST", "/stop", content, timeout = longest_held, call = call)
  invisible(function_table(stopped))
}

#' @rdname functions
#' @export
rollback_function <- function(name, wait = 120, to = NULL, token = NULL) {
  call <- rlang::current_env()
  name <- check_function_name(name, call = call)
  wait <- check_wait(wait, "wait", call = call)
  server <- resolve_server(to, token, call = call)
  progress <- deploy_progress(quiet = FALSE)
  on.exit(progress$end(), add = TRUE)
  progress$step(paste("Rolling", name, "back"))
  settle(server, "/rollback", list(name = name), wait, progress, call = call)
}
