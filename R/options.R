# The settings: one list that defines them, one accessor that finds and checks a value, one table for the help page.

# What takes settings.
all_verbs <- c("run", "run_k8s")

# A setting: what it takes (`kind`), its default, and what it does in the words of the help page. `default` is a
# function where the value depends on the machine, and `shown` then says it in words. `verbs` take it; those in `defaults`
# have a default of their own. `elsewhere` tells who gives it to another verb what to do there. `common` is an environment
# variable that other programs read, too: it counts where nothing of faucet's own is set, and only if its value fits.
setting <- function(
    kind, default, doc, ..., shown = NULL, verbs = all_verbs, defaults = list(), elsewhere = NULL, common = NULL) {
  list(
    kind = kind, default = default, doc = doc, shown = shown, verbs = verbs, defaults = defaults, elsewhere = elsewhere,
    common = common, limits = list(...)
  )
}

# Of workers that faucet starts itself.
local_setting <- function(
    ..., elsewhere = "Kubernetes runs the workers: it can be set in the pods, if they run {.fun faucet::run}.") {
  setting(..., verbs = "run", elsewhere = elsewhere)
}

# Of replicas that others start.
replica_setting <- function(
    ..., elsewhere = "{.fun run} starts its workers itself, on this machine, and looks none up.") {
  setting(..., verbs = "run_k8s", elsewhere = elsewhere)
}

# A function, as the defaults of some ask the native side.
setting_definitions <- function() {
  list(
    workers = local_setting(
      "range", function() usable_cores(),
      paste(
        "R processes to run. Two numbers, `c(least, most)`, let their number follow what there is to do: see `grow_after` and",
        "`shrink_after`. With `c(0, n)` the first request starts one, and waits for it. In an environment variable: `1:8`."
      ),
      min = 1, max = 10000, shown = "usable cores",
      elsewhere = "Kubernetes runs the workers: scale the Deployment, as by {.code kubectl scale}."
    ),
    worker_type = local_setting(
      "choice", "auto",
      paste(
        "Who serves HTTP in a worker: faucet itself (`native`), or the server that the app starts on a TCP port (`http`).",
        "`auto` is native for every app that can be; with `native`, an app that cannot be does not start."
      ),
      choices = c("auto", "native", "http")
    ),
    preload = local_setting(
      "flag", FALSE,
      paste(
        "Load the app once, in a template, and fork native workers from it: they start in milliseconds and share its",
        "memory. For Linux; see [after_fork()] for what must not be shared."
      )
    ),
    grow_after = local_setting(
      "duration", 1,
      paste(
        "How long a request may wait until there is another worker, if there may be (`workers = c(1, 8)`). There is one at",
        "once if more requests wait than there are workers."
      ),
      infinite = TRUE, shown = "1, with `preload` 0.1"
    ),
    shrink_after = local_setting(
      "duration", 60, "How long a worker serves nobody until it leaves, if there may be fewer (`workers = c(1, 8)`).",
      infinite = TRUE
    ),
    max_workers = local_setting(
      "count", NULL,
      paste(
        "Workers of all pools together. A pool that may grow does so up to this, and requests wait. `NULL`: as many as",
        "memory allows, by what the workers that run need."
      ),
      min = 1, max = 10000, null = TRUE
    ),
    watch = local_setting(
      "flag", FALSE,
      paste(
        "Reload when a file of the app changes: code (`.R`, `.Rmd`, ...), settings (`.yml`, `.json`, `.env`, ...) and pages, in",
        "the app's directory and below it; see [run()]. For developing."
      ),
      elsewhere = "{.fun run_k8s} runs no code itself: set it where the workers run, or let Kubernetes roll the Deployment out."
    ),
    sticky = local_setting(
      "flag", NULL,
      paste(
        "Keep each client (a browser, by a cookie) with one worker for as long as its session lasts, for apps that keep in R",
        "what they know of a client. See [pool()]."
      ),
      null = TRUE, shown = "`TRUE` for Shiny, or else `FALSE`",
      elsewhere = paste(
        "Replicas come and go by themselves. Let the cluster keep clients where they are, as by",
        "{.code sessionAffinity: ClientIP} of a Service."
      )
    ),
    slots = setting(
      "count", 50L,
      paste(
        "Of `run()`: sessions for each worker, with `sticky`. Of `run_k8s()`: requests at a time for each replica. One that",
        "runs faucet tells how many workers it has, and that counts instead."
      ),
      min = 1, max = 10000, defaults = list(run_k8s = 1L)
    ),
    session_timeout = local_setting(
      "duration", 60,
      paste(
        "How long a session without a request and without a WebSocket keeps its slot, with `sticky`: long enough to load a",
        "page anew, or to connect again. A client that has not come back with its cookie yet has 15 seconds at most."
      )
    ),
    drain_timeout = local_setting(
      "duration", 600,
      paste(
        "How long a worker that leaves, at a reload or when it is recycled, waits for its sessions to end, with `sticky`. Then",
        "their WebSockets are closed."
      ),
      infinite = TRUE
    ),
    refresh = replica_setting(
      "duration", NULL,
      paste(
        "Time from one lookup of the name to the next. `NULL`: as long as the DNS records live, but at least 5 and at",
        "most 60."
      ),
      null = TRUE
    ),
    ready_path = replica_setting(
      "url_path", NULL,
      paste(
        "Path, such as `\"/health\"`, that a replica must answer with a 2xx status before it gets requests. With `NULL` it is",
        "enough that it accepts connections."
      ),
      null = TRUE
    ),
    dns = replica_setting(
      "dns", NULL, "DNS server to ask, such as `\"127.0.0.1:5353\"`. `NULL`: those of `/etc/resolv.conf`.",
      null = TRUE
    ),
    host = setting(
      "string", "127.0.0.1",
      paste(
        "Address to listen on. `\"0.0.0.0\"` takes requests from other machines, `\"unix:/run/app.sock\"` is a Unix socket; see",
        "[run()]."
      ),
      defaults = list(run_k8s = "0.0.0.0")
    ),
    port = setting(
      "count", 8080L,
      paste(
        "Port to listen on. `0` takes any free one. The environment variable `PORT`, which platforms set for a program, comes",
        "after `FAUCET_PORT`."
      ),
      min = 0, max = 65535, common = "PORT"
    ),
    queue = setting(
      "count", 1024L, "Requests that may wait for a worker. One more gets 503.",
      min = 0
    ),
    queue_timeout = setting(
      "duration", 30, "How long a request may wait for a worker. Then it gets 503.",
      infinite = TRUE
    ),
    timeout = setting(
      "duration", Inf,
      paste(
        "How long R may take for one request, or from one chunk of a [stream()] to the next. Then the client gets 504.",
        "A native worker is interrupted, one of type `http` replaced; but not with `sticky`, as it has the sessions of others.",
        "To a replica, the connection is closed: one that runs faucet does the same with its worker."
      ),
      infinite = TRUE
    ),
    cancel = setting(
      "flag", TRUE,
      paste(
        "Interrupt R when the client has left. In native workers, and in replicas that run faucet with them; see [shield()]",
        "for what must be finished."
      )
    ),
    interrupt_timeout = local_setting(
      "duration", 5,
      "How long R may take to obey an interrupt, by `cancel` or `timeout`. Then the worker is replaced."
    ),
    boot_timeout = setting(
      "duration", 60, "How long a worker may take to start. For [run_k8s()]: how long until the first replica takes requests."
    ),
    shutdown_timeout = setting("duration", 30, "How long requests in flight may take to finish when the server stops."),
    header_timeout = setting("duration", 10, "How long a client may take to send a request's head. Then it gets 408."),
    idle_timeout = setting(
      "duration", 75,
      paste(
        "How long a kept-alive connection of a client may be idle. Then it is closed. Also how long a worker may stop in the",
        "middle of an answer whose length it has announced. Then the answer is broken off."
      ),
      infinite = TRUE
    ),
    max_body = setting(
      "size", 256 * 1024^2, "Largest request body. A larger one gets 413.",
      min = 1, infinite = TRUE, shown = "`\"256MB\"`"
    ),
    body_memory = setting(
      "size", 1024^2, "How much of a body is kept in memory. The rest goes to a temporary file.",
      min = 0, shown = "`\"1MB\"`"
    ),
    total_body_memory = setting(
      "size", NULL,
      paste(
        "How much of all bodies together is kept in memory. Beyond it, bodies go to temporary files at once. `NULL`: a",
        "quarter of the machine's memory, or of what its cgroup leaves to this process."
      ),
      min = 0, null = TRUE, infinite = TRUE
    ),
    max_header = setting(
      "size", 64 * 1024,
      "Largest head of a request. A larger one gets 431, as does one with more than 200 headers of the client's own.",
      min = 8192, shown = "`\"64KB\"`"
    ),
    max_connections = setting(
      "count", 10000L,
      paste(
        "Connections of clients at a time, open WebSockets among them. For one more, the connection that has had no",
        "complete request for longest is closed; if there is none, it gets 503."
      ),
      min = 1
    ),
    max_requests = local_setting(
      "count", Inf, "Requests, more or less, after which a worker is recycled: the exact number is drawn for each.",
      min = 1, infinite = TRUE
    ),
    max_memory = local_setting(
      "size", Inf,
      paste(
        "Resident memory above which a worker is recycled. Of one that was forked (`preload`), only what it shares with no",
        "other process counts, on Linux."
      ),
      min = 1, infinite = TRUE,
      elsewhere = paste(
        "Kubernetes runs the workers: set a memory limit in the Deployment, or this in the pods, if they run",
        "{.fun faucet::run}."
      )
    ),
    max_failures = local_setting(
      "count", 5L,
      paste(
        "Failed starts in a row after which a worker counts as `failed`. It is tried again for ever, at pauses that grow up",
        "to a minute; while all workers have failed, requests get 503 at once."
      ),
      min = 1,
      elsewhere = "Kubernetes runs the workers, and starts them again and again."
    ),
    give_up_after = local_setting(
      "duration", Inf,
      "How long there may be no worker that serves. Then `/__faucet__/livez` answers 503, for a supervisor to act on.",
      infinite = TRUE
    ),
    trusted_proxies = setting(
      "strings", character(),
      paste(
        "Addresses (`\"10.0.0.1\"`, `\"10.0.0.0/8\"`) whose `X-Forwarded-*` headers are believed. `\"unix:\"` is whoever",
        "connects to a Unix socket."
      ),
      shown = "none"
    ),
    fronts = setting(
      "strings", character(),
      paste(
        "Addresses (`\"10.0.0.1\"`, `\"10.0.0.0/8\"`) of other faucets that send requests here, as `run_k8s()` does to pods.",
        "They may ask for turns, and not to be kept waiting. Whoever is none waits like any client."
      ),
      shown = "none"
    ),
    underscores_in_headers = setting(
      "flag", FALSE,
      paste(
        "Pass on a request's headers with `_` in their names. To R, `X_Forwarded_For` and `X-Forwarded-For` are the same, so",
        "they are dropped by default, as by nginx; those that faucet itself reads or writes always are."
      )
    ),
    admin_port = setting(
      "count", NULL, "Port that serves `/metrics` and `/status`. `0` takes any free one, `NULL` is off.",
      min = 0, max = 65535, null = TRUE
    ),
    admin_host = setting(
      "string", "127.0.0.1",
      paste(
        "Address for `admin_port`. `\"0.0.0.0\"` lets other machines read, such as Prometheus in a cluster. With a Unix socket,",
        "such as `\"unix:/run/admin.sock\"`, no `admin_port` is needed."
      )
    ),
    admin_hosts = setting(
      "strings", character(),
      paste(
        "Names (`\"metrics.example.com\"`) by which `admin_port` may be asked, besides `localhost` and the address that it is",
        "asked at. With any other `Host` the answer is 421."
      ),
      shown = "none"
    ),
    access_log = setting("choice", "text", "Form of the access log.", choices = c("text", "json", "none")),
    log_file = setting(
      "path", NULL,
      paste(
        "File that the access log goes to, readable by its owner alone if it is new. With `NULL` the log goes to R's standard",
        "output."
      ),
      null = TRUE
    ),
    log_max_size = setting(
      "size", Inf, "Size at which `log_file` is rotated: it becomes `log_file.1`, that becomes `log_file.2`, and so on.",
      min = 1, infinite = TRUE
    ),
    log_keep = setting("count", 5L, "Rotated files to keep. With `0`, `log_file` is emptied.", min = 0),
    log_health = setting("flag", FALSE, "Have health checks in the access log."),
    quiet = setting("flag", FALSE, "Say nothing but errors: no messages, no access log, no output of workers.")
  )
}

# Those that a verb takes, with its own defaults.
settings_of <- function(verb) {
  definitions <- Filter(function(definition) verb %in% definition$verbs, setting_definitions())
  lapply(definitions, function(definition) {
    if (verb %in% names(definition$defaults)) definition$default <- definition$defaults[[verb]]
    definition
  })
}

# The arguments that a verb was given, by name: of those that it names itself, NULL means that it was not.
given_settings <- function(named, further) {
  c(Filter(Negate(is.null), named), further)
}

# All settings as a verb needs them: `given` holds the arguments, by name. An argument that is not in it was not given.
resolve_settings <- function(given, verb, call = NULL) {
  definitions <- settings_of(verb)
  check_setting_names(names(given), given, names(definitions), verb, call = call)
  warn_of_unknown_settings()
  values <- lapply(rlang::set_names(names(definitions)), function(name) {
    list(resolve_setting(name, given, definitions[[name]], call = call))
  })
  lapply(values, `[[`, 1)
}

# The one accessor: argument, then option, then faucet's environment variable, then the common one, then default.
resolve_setting <- function(name, given = list(), definition = setting_definitions()[[name]], call = NULL) {
  option <- paste0("faucet.", name)
  variable <- setting_variable(name)
  if (name %in% names(given)) {
    check_setting(given[[name]], name, definition, "argument", call = call)
  } else if (!is.null(getOption(option))) {
    check_setting(getOption(option), name, definition, "option", call = call)
  } else if (!is.null(text <- read_variable(variable))) {
    check_setting(parse_setting(text, definition), name, definition, "variable", call = call)
  } else if (!is.null(value <- read_common(definition))) {
    value
  } else if (is.function(definition$default)) {
    definition$default()
  } else {
    definition$default
  }
}

# Whether something other than the default says what a setting is: `...` are the names of arguments.
is_set <- function(name, ...) {
  name %in% c(...) || !is.null(getOption(paste0("faucet.", name))) || !is.null(read_variable(setting_variable(name)))
}

# NULL if it is not set. Next to a service called "faucet", Kubernetes sets FAUCET_PORT to that service's address.
read_variable <- function(variable) {
  text <- Sys.getenv(variable)
  if (nzchar(text) && !startsWith(text, "tcp://")) text
}

# NULL if there is no such variable, or if it holds what the setting does not take: it may be meant for another program.
read_common <- function(definition) {
  text <- if (!is.null(definition$common)) Sys.getenv(definition$common)
  if (!is.null(text) && validEnc(text)) check_count(text, definition$limits)
}

setting_variable <- function(name) {
  paste0("FAUCET_", toupper(name))
}

# An environment variable is text; this gives it the type that its setting takes. What does not fit stays text, which
# the check then shows.
parse_setting <- function(text, definition) {
  if (!validEnc(text)) {
    return(text)
  }
  number <- function(text) {
    value <- suppressWarnings(as.numeric(text))
    if (is.na(value)) text else value
  }
  switch(
    definition$kind,
    count = ,
    duration = ,
    size = number(trimws(text)),
    range = parse_range(text),
    strings = Filter(nzchar, trimws(strsplit(text, ",", fixed = TRUE)[[1]])),
    flag = parse_flag(text),
    text
  )
}

# "1:8" or "1,8", or one number.
parse_range <- function(text) {
  ends <- suppressWarnings(as.numeric(strsplit(text, "[:,]")[[1]]))
  if (anyNA(ends)) text else ends
}

parse_flag <- function(text) {
  switch(tolower(trimws(text)),
    true = , yes = , on = , "1" = TRUE,
    false = , no = , off = , "0" = FALSE,
    text
  )
}

# Returns the value in the one form that the rest of faucet sees, or raises an error that says what was got and what is
# taken.
check_setting <- function(value, name, definition, source = c("argument", "option", "variable"), call = NULL) {
  source <- match.arg(source)
  limits <- definition$limits
  if (is.null(value) && isTRUE(limits$null)) {
    return(NULL)
  }
  check <- switch(
    definition$kind,
    count = check_count,
    range = check_range,
    duration = check_duration,
    size = check_size,
    string = check_string,
    strings = check_strings,
    choice = check_choice,
    path = check_path,
    url_path = check_url_path,
    dns = check_dns,
    flag = check_flag
  )
  # Bytes that are no text make R's own functions fail.
  checked <- if (!is.character(value) || all(validEnc(value))) check(value, limits)
  if (!is.null(checked)) {
    return(checked)
  }

  takes <- describe_setting(definition)
  got <- describe_value(value)
  option <- paste0("faucet.", name)
  variable <- setting_variable(name)
  where <- switch(
    source,
    argument = "{.arg {name}}",
    option = "Option {.code {option}}",
    variable = "Environment variable {.envvar {variable}}"
  )
  abort(
    "option", paste(where, "must be {takes}, not {got}."),
    option = name, source = source, value = value, call = call
  )
}

# Each of these returns NULL for what it does not take.

check_count <- function(value, limits) {
  value <- text_as_number(value)
  if (!is_number(value) || value < limits$min) {
    return(NULL)
  }
  if (is.infinite(value)) {
    return(if (isTRUE(limits$infinite)) Inf)
  }
  if (value != trunc(value) || value > (limits$max %||% .Machine$integer.max)) {
    return(NULL)
  }
  if (isTRUE(limits$infinite)) as.numeric(value) else as.integer(value)
}

# One number, or the least and the most. The least of two may be 0.
check_range <- function(value, limits) {
  if (rlang::is_string(value)) value <- parse_range(value)
  if (length(value) == 1) {
    return(check_count(value, limits))
  }
  if (length(value) == 2 && is.numeric(value) && !is.object(value)) check_ends(value, limits)
}

check_ends <- function(value, limits) {
  least <- check_count(value[[1]], list(min = 0, max = limits$max))
  most <- check_count(value[[2]], limits)
  if (!is.null(least) && !is.null(most) && least <= most) unique(c(least, most))
}

# As `Sys.getenv("PORT")` gives a whole number.
text_as_number <- function(value) {
  if (rlang::is_string(value) && grepl("^[[:space:]]*[0-9]+[[:space:]]*$", value)) as.numeric(value) else value
}

check_duration <- function(value, limits) {
  # The longest finite time, three centuries, is one that every clock can add to now.
  if (is_number(value) && value > 0 && (value <= 1e10 || (is.infinite(value) && isTRUE(limits$infinite)))) {
    as.numeric(value)
  }
}

check_size <- function(value, limits) {
  bytes <- if (rlang::is_string(value)) parse_size(value) else value
  if (is_number(bytes) && bytes >= limits$min && (bytes < 2^53 || (is.infinite(bytes) && isTRUE(limits$infinite)))) {
    if (is.infinite(bytes)) Inf else floor(as.numeric(bytes))
  }
}

check_string <- function(value, limits) {
  if (rlang::is_string(value) && nzchar(value)) value
}

check_strings <- function(value, limits) {
  if (is.character(value) && !anyNA(value)) as.character(value)
}

check_choice <- function(value, limits) {
  if (rlang::is_string(value) && value %in% limits$choices) value
}

# The workers and the native side have other ideas of the working directory.
check_path <- function(value, limits) {
  if (rlang::is_string(value) && nzchar(value)) {
    file.path(normalizePath(dirname(value), winslash = "/", mustWork = FALSE), basename(value))
  }
}

# As it stands in a request's first line.
check_url_path <- function(value, limits) {
  if (rlang::is_string(value) && grepl("^/[!-~]*$", value) && !grepl("#", value, fixed = TRUE)) value
}

# The address of a DNS server, as "127.0.0.1:5353" or "[::1]:53".
check_dns <- function(value, limits) {
  if (!rlang::is_string(value)) {
    return(NULL)
  }
  address <- trimws(value)
  if (grepl("^([0-9.]+|\\[.*\\])$", address)) {
    address <- paste0(address, ":53")
  } else if (grepl("^[0-9a-fA-F.]*:[0-9a-fA-F.]*:[0-9a-fA-F.:]*$", address)) {
    address <- paste0("[", address, "]:53")
  }
  if (is.null(option_problem("dns", address))) address
}

check_flag <- function(value, limits) {
  if (rlang::is_bool(value)) value
}

is_number <- function(value) {
  is.numeric(value) && !is.object(value) && length(value) == 1 && !is.na(value)
}

# "16MB" and the like, as bytes. Units are powers of 1024, as R's own object sizes are.
parse_size <- function(text) {
  form <- "^[[:space:]]*([0-9]+\\.?[0-9]*|\\.[0-9]+)[[:space:]]*([KMGT]?)(I?B)?[[:space:]]*$"
  text <- toupper(text)
  if (!grepl(form, text)) {
    return(NULL)
  }
  power <- match(sub(form, "\\2", text), c("", "K", "M", "G", "T")) - 1
  as.numeric(sub(form, "\\1", text)) * 1024^power
}

describe_setting <- function(definition) {
  limits <- definition$limits
  or_infinite <- if (isTRUE(limits$infinite)) " or Inf"
  what <- switch(
    definition$kind,
    count = if (is.null(limits$max)) {
      paste0("a whole number, ", limits$min, " or more,", or_infinite)
    } else {
      paste0("a whole number from ", format(limits$min), " to ", format(limits$max, scientific = FALSE), ",")
    },
    range = paste0(
      "a whole number from ", format(limits$min), " to ", format(limits$max, scientific = FALSE),
      ", or two, the least and the most, like c(1, 8),"
    ),
    duration = paste0("a number of seconds above 0", or_infinite, ","),
    size = paste0("a number of bytes, ", format(limits$min), " or more, or a string like \"16MB\",", or_infinite),
    string = "one string",
    strings = "a character vector without NA",
    choice = paste0("one of ", paste0("\"", limits$choices, "\"", collapse = ", ")),
    path = "the path of a file",
    url_path = "a path like \"/health\"",
    dns = "the address of a DNS server like \"10.0.0.10\" or \"127.0.0.1:5353\"",
    flag = "TRUE or FALSE"
  )
  what <- sub(",$", "", what)
  if (isTRUE(limits$null)) paste(what, "or NULL") else what
}

describe_value <- function(value) {
  if (is.null(value)) {
    "NULL"
  } else if (is.atomic(value) && !is.object(value) && length(value) == 1) {
    if (is.character(value) && !is.na(value)) {
      # In any encoding, so that the message can be formatted.
      encodeString(iconv(value, to = "UTF-8", sub = "byte"), quote = "\"")
    } else {
      format(value, digits = 15)
    }
  } else if (is.atomic(value) && !is.object(value)) {
    paste0("a ", typeof(value), " vector of length ", length(value))
  } else {
    paste0("an object of class ", paste0("<", class(value), ">", collapse = ", "))
  }
}

#' All settings of a server
#'
#' Every setting is an argument of [run()], of [run_k8s()], or of both, by its name. One that is not given
#' is looked for in R's options and then in the environment, so that the same code runs with other
#' settings elsewhere: argument, then `options(faucet.NAME = )`, then the environment variable
#' `FAUCET_NAME`, then the default. For `port` there is one more place before the default: the environment variable `PORT`, if
#' it is a whole number from 0 to 65535; anything else in it is ignored.
#'
#' `r settings_table()`
#'
#' - A *number* is a whole one. It may be given as text, too, as by `Sys.getenv()`: `"8080"`.
#' - *seconds* are numbers above 0.
#' - *bytes* are numbers, or strings such as `"512KB"`, `"16MB"` or `"1.5GB"`; a KB is 1024 bytes.
#' - An *address* is an IP address, with a port after a colon if it is not 53: `"10.0.0.10"`, `"[fd00::10]:5353"`.
#' - What a verb does not take is an error as an argument; as an option or in the environment it is not looked at.
#' - In an environment variable, `Inf` is written `Inf`, yes and no are `true` and `false`, and a
#'   list has commas between its elements. An empty variable counts as not set, and so does one that begins with `tcp://`:
#'   Kubernetes sets `FAUCET_PORT` to that next to a service called "faucet".
#'
#' @section Error conditions:
#' A value that a setting does not take, or an argument that is no setting, raises an error of
#' class `faucet_error_option` before anything starts. Its field `option` holds the name of the
#' setting.
#'
#' @section Unknown names:
#' An option `faucet.NAME` or an environment variable `FAUCET_NAME` that is no setting is ignored, with a warning of class
#' `faucet_warning_unknown_setting`, once per session for each. Variables that faucet itself sets, and those that Kubernetes sets
#' for services whose names begin with "faucet", raise none.
#'
#' @name faucet-options
#' @aliases faucet-settings
#' @seealso [run()], [run_k8s()]
#' @examples
#' old <- options(faucet.workers = 2, faucet.queue_timeout = 5)
#' # faucet::run("api") would now start 2 workers
#' options(old)
NULL
