# The settings: one list that defines them, one accessor that finds and checks a value, one table for the help page.

# What takes settings.
all_verbs <- c("run", "run_k8s", "run_hub", "run_worker", "run_agent", "run_proxy")

# A setting: what it takes (`kind`), its default, and what it does in the words of the help page. `default` is a
# function where the value depends on the machine, and `shown` then says it in words. `verbs` take it; those in `defaults`
# have a default of their own. `elsewhere` tells who gives it to another verb what to do there. `common` is an environment
# variable that other programs read, too: it counts where nothing of faucet's own is set, and only if its value fits. One with
# `parts`, their names, is a list of them, and each has an environment variable.
setting <- function(
    kind, default, doc, ..., shown = NULL, verbs = all_verbs, defaults = list(), elsewhere = NULL, common = NULL,
    parts = NULL) {
  list(
    kind = kind, default = default, doc = doc, shown = shown, verbs = verbs, defaults = defaults, elsewhere = elsewhere,
    common = common, parts = parts, limits = list(...)
  )
}

# Of workers that faucet starts itself.
local_setting <- function(
    ..., verbs = c("run", "run_worker", "run_agent"),
    elsewhere = "Kubernetes runs the workers: it can be set in the pods, if they run {.fun faucet::run}.") {
  setting(..., verbs = verbs, elsewhere = elsewhere)
}

# Of replicas that others start.
replica_setting <- function(
    ..., elsewhere = "{.fun run} starts its workers itself, on this machine, and looks none up.") {
  setting(..., verbs = "run_k8s", elsewhere = elsewhere)
}

# A function, as the defaults of some ask the native side.
setting_definitions <- function() {
  c(own_definitions(), hub_definitions(), function_definitions(), client_definitions())
}

# But for those of workers that dial in, and of functions: see hub-settings.R, function-settings.R and client-settings.R.
own_definitions <- function() {
  list(
    workers = local_setting(
      "range", function() usable_cores(),
      paste(
        "R processes to run. Two numbers, `c(least, most)`, let their number follow what there is to do: see `grow_after` and",
        "`shrink_after`. With `c(0, n)` the first request starts one, and waits for it. In an environment variable: `1:8`."
      ),
      min = 1, max = 10000, shown = "usable cores", defaults = list(run_worker = 1L), verbs = c("run", "run_worker"),
      elsewhere = "Kubernetes runs the workers: scale the Deployment, as by {.code kubectl scale}."
    ),
    worker_type = local_setting(
      "choice", "auto",
      paste(
        "Who serves HTTP in a worker: faucet itself (`native`), or the server that the app starts on a TCP port (`http`).",
        "`auto` is native for every app that can be; with `native`, an app that cannot be does not start."
      ),
      choices = c("auto", "native", "http"), verbs = c("run", "run_worker")
    ),
    compile = local_setting(
      "flag", TRUE,
      paste(
        "Compile the plain routes of a plumber router in native workers: they answer the same, and sooner. Others take plumber's",
        "own way; [compiled_routes()] tells which, and why."
      ),
      elsewhere = paste(
        "The replicas compile their routes or not: it can be set in the pods, if they run {.fun faucet::run} or",
        "{.fun faucet::run_worker}."
      )
    ),
    preload = local_setting(
      "flag", FALSE,
      paste(
        "Load the app once, in a template, and fork native workers from it: they start in milliseconds and share its",
        "memory. For Linux; see [after_fork()] for what must not be shared."
      ),
      verbs = c("run", "run_worker")
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
      verbs = c("run", "run_worker"),
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
      ),
      verbs = "run"
    ),
    slots = setting(
      "count", 50L,
      paste(
        "Of `run()`: sessions for each worker, with `sticky`. Of `run_k8s()`: requests at a time for each replica. One that",
        "runs faucet tells how many workers it has, and that counts instead."
      ),
      min = 1, max = 10000, defaults = list(run_k8s = 1L),
      verbs = c("run", "run_k8s")
    ),
    session_timeout = local_setting(
      "duration", 60,
      paste(
        "How long a session without a request and without a WebSocket keeps its slot, with `sticky`: long enough to load a",
        "page anew, or to connect again. A client that has not come back with its cookie yet has 15 seconds at most."
      ),
      verbs = "run"
    ),
    drain_timeout = local_setting(
      "duration", 600,
      paste(
        "How long a worker that leaves, at a reload or when it is recycled, waits for its sessions to end, with `sticky`. Then",
        "their WebSockets are closed."
      ),
      infinite = TRUE,
      verbs = "run"
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
        "after `FAUCET_PORT`, but not for `run_worker()`, which with `NULL` takes no requests but those of hubs."
      ),
      min = 0, max = 65535, common = "PORT", defaults = list(run_worker = NULL, run_agent = 9000L, run_proxy = 9002L)
    ),
    tls = setting(
      "tls", NULL,
      paste(
        "Speak TLS (HTTPS) on `port`: `list(cert = \"cert.pem\", key = \"key.pem\")`. With `client_ca = \"ca.pem\"`, only to",
        "clients that have a certificate by that CA. Files in PEM form; see [run()]."
      ),
      null = TRUE, parts = c("cert", "key", "client_ca")
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
      "duration", 60, "How long a worker may take to start. For [run_k8s()]: how long until the first replica takes requests.",
      verbs = c("run", "run_k8s", "run_worker", "run_agent")
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
      infinite = TRUE, verbs = c("run", "run_worker")
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
      shown = "none; of an agent, this machine", defaults = list(run_agent = c("127.0.0.1", "::1"))
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
    otlp = setting(
      "otlp", NULL,
      paste(
        "URL of an OpenTelemetry collector, such as `\"http://127.0.0.1:4318\"`, that is told of each request, and of each stage",
        "of a chain, as a span: by OTLP over HTTP, in its binary form, at `/v1/traces`. Off by default. See [run()]."
      ),
      null = TRUE
    ),
    quiet = setting("flag", FALSE, "Say nothing but errors: no messages, no access log, no output of workers.")
  )
}

# Those that a verb takes, with its own defaults.
settings_of <- function(verb) {
  definitions <- Filter(function(definition) verb %in% definition$verbs, setting_definitions())
  lapply(definitions, function(definition) {
    if (verb %in% names(definition$defaults)) {
      definition["default"] <- list(definition$defaults[[verb]])
      definition["shown"] <- list(NULL)
      # What need not be there takes NULL, and nothing that was meant for another program.
      if (is.null(definition$default)) {
        definition$limits$null <- TRUE
        definition["common"] <- list(NULL)
      }
    }
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
  values <- lapply(values, `[[`, 1)
  check_tls_host(values, call = call)
  values
}

# The one accessor: argument, then option, then faucet's environment variable, then the common one, then default.
resolve_setting <- function(name, given = list(), definition = setting_definitions()[[name]], call = NULL) {
  option <- paste0("faucet.", name)
  if (name %in% names(given)) {
    check_setting(given[[name]], name, definition, "argument", call = call)
  } else if (!is.null(getOption(option))) {
    check_setting(getOption(option), name, definition, "option", call = call)
  } else if (!is.null(value <- read_setting(name, definition))) {
    check_setting(value, name, definition, "variable", call = call)
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
  name %in% c(...) || !is.null(getOption(paste0("faucet.", name))) ||
    !is.null(read_setting(name, setting_definitions()[[name]]))
}

# What the environment says of a setting: NULL if nothing.
read_setting <- function(name, definition) {
  texts <- Filter(Negate(is.null), lapply(setting_variables(name, definition), read_variable))
  if (length(texts) == 0) {
    NULL
  } else if (is.null(definition$parts)) {
    parse_setting(texts[[1]], definition)
  } else {
    texts
  }
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

# All that a setting has, by the names of its parts if there are some.
setting_variables <- function(name, definition = setting_definitions()[[name]]) {
  parts <- definition$parts
  if (is.null(parts)) setting_variable(name) else rlang::set_names(setting_variable(paste0(name, "_", parts)), parts)
}

#' All settings of a server
#'
#' Every setting is an argument of [run()], [run_k8s()], [run_hub()], [run_worker()], [run_agent()] or [run_proxy()], or of
#' several of them, by its name.
#' One that is not given is looked for in R's options and then in the environment, so that the same code runs with other
#' settings elsewhere: argument, then `options(faucet.NAME = )`, then the environment variable `FAUCET_NAME`, then the
#' default. For `port` there is one more place before the default: the environment variable `PORT`, if it is a whole number
#' from 0 to 65535; anything else in it is ignored.
#'
#' `r settings_table()`
#'
#' - A *number* is a whole one. It may be given as text, too, as by `Sys.getenv()`: `"8080"`.
#' - *seconds* are numbers above 0.
#' - *bytes* are numbers, or strings such as `"512KB"`, `"16MB"` or `"1.5GB"`; a KB is 1024 bytes.
#' - A *name* has up to 64 visible ASCII characters, a *secret* up to 1024, without spaces. A secret is shown nowhere.
#' - A *hub* is `"host"` or `"host:port"` (port 4040 unless it is given), or with TLS `"tls://host:port"`.
#' - An *address* is an IP address, with a port after a colon if it is not 53: `"10.0.0.10"`, `"[fd00::10]:5353"`.
#' - *files* of `tls` are a list, or in a configuration file a map, with `cert`, `key` and, if it is wanted, `client_ca`; in the
#'   environment, each has a variable of its own.
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
#' @seealso [run()], [run_k8s()], [run_hub()], [run_worker()], [run_agent()], [run_proxy()]
#' @examples
#' old <- options(faucet.workers = 2, faucet.queue_timeout = 5)
#' # faucet::run("api") would now start 2 workers
#' options(old)
NULL
