# The settings of hubs, and of machines that offer their workers to hubs.

dial_in_verbs <- c("run_hub", "run_worker")

# Who dials.
dialling_verbs <- c("run_worker", "run_agent")

hub_setting <- function(..., elsewhere = "{.fun run_hub} takes workers that dial in.") {
  setting(..., verbs = "run_hub", elsewhere = elsewhere)
}

worker_setting <- function(..., elsewhere = "{.fun run_worker} offers the workers of a machine to hubs.") {
  setting(..., verbs = "run_worker", elsewhere = elsewhere)
}

dial_in_setting <- function(...) {
  setting(
    ..., verbs = c(dial_in_verbs, function_verbs),
    elsewhere = "Workers dial in where {.fun run_hub} and {.fun run_worker} run; functions are deployed to {.fun run_agent}."
  )
}

hub_definitions <- function() {
  list(
    worker_port = hub_setting(
      "count", 4040L, "Port where workers dial in. `0` takes any free one.",
      min = 0, max = 65535
    ),
    worker_host = hub_setting(
      "string", "127.0.0.1",
      "Address for `worker_port` and `pothead_port`. `\"0.0.0.0\"` takes workers from other machines, which need a `token`."
    ),
    pothead_port = hub_setting(
      "count", NULL,
      "Port where unmodified workers of POTHEAD dial in. They show no token. `0` takes any free one, `NULL` is off.",
      min = 0, max = 65535, null = TRUE
    ),
    forget_after = hub_setting(
      "duration", 600, "How long a route is kept that no worker offers slots for. Then its requests get 404.",
      infinite = TRUE
    ),
    hub = setting(
      "hubs", NULL,
      paste(
        "Hubs to offer slots to; of `run_agent()`, proxies to dial. A name with several addresses is a hub at each of them, and",
        "is looked up every 5 seconds."
      ),
      null = TRUE, shown = "none: `run_worker()` has to be given one", verbs = dialling_verbs,
      elsewhere = "{.fun run_worker} offers the workers of a machine to hubs, and {.fun run_agent} dials proxies."
    ),
    name = setting(
      "name", function() own_name(), "What this machine is called at the hub, or at the proxy, in its log and its status.",
      shown = "the host's name", verbs = dialling_verbs,
      elsewhere = "{.fun run_worker} and {.fun run_agent} have names where they dial in."
    ),
    route = worker_setting(
      "route", "/", "Path prefix that the slots are for, such as `\"/model-a\"`: the hub has a pool for each."
    ),
    redirect = worker_setting(
      "redirect", NULL,
      paste(
        "URL, such as `\"http://worker-host:8081\"`, where clients fetch the bodies of answers, past the hub: see",
        "[run_worker()]. `NULL`: bodies go through the hub."
      ),
      null = TRUE
    ),
    redirect_host = worker_setting(
      "string", NULL, "Address to listen on for `redirect`.",
      null = TRUE, shown = "all addresses, or `\"127.0.0.1\"` if the URL is of this machine alone"
    ),
    redirect_port = worker_setting(
      "count", NULL, "Port to listen on for `redirect`, if another program hands on what comes to the URL's.",
      min = 0, max = 65535, null = TRUE, shown = "the URL's"
    ),
    ca = setting(
      "path", NULL,
      "File with certificates (PEM) of those who vouch for the hubs', or the agents'. `NULL`: whom the system trusts.",
      null = TRUE, verbs = c("run_worker", "run_agent", "run_proxy"),
      elsewhere = "{.fun run_worker} dials hubs, {.fun run_proxy} agents, and {.fun run_agent} proxies and other agents."
    ),
    token = dial_in_setting(
      "secret", NULL,
      "What workers have to show to the hub, and those who deploy functions to an agent. Better in the environment than in code.",
      null = TRUE
    ),
    insecure = dial_in_setting(
      "flag", FALSE,
      paste(
        "Take workers, and functions, from other machines without a token, and send the token without TLS. For networks where",
        "everyone may."
      )
    )
  )
}

# What this machine calls itself, as far as it can be said in a header.
own_name <- function() {
  check_name(Sys.info()[["nodename"]]) %||% "worker"
}

check_name <- function(value, limits) {
  if (rlang::is_string(value) && grepl("^[!-~]{1,64}$", value, useBytes = TRUE)) value
}

# As an HTTP header takes it.
check_secret <- function(value, limits) {
  if (rlang::is_string(value) && nchar(value, "bytes") <= 1024 && grepl("^[!-~]+$", value, useBytes = TRUE)) value
}

# In their one form, each once.
check_hubs <- function(value, limits) {
  if (!is.character(value) || length(value) == 0 || anyNA(value)) {
    return(NULL)
  }
  hubs <- lapply(value, hub_address)
  if (!any(vapply(hubs, is.null, NA))) unique(unlist(hubs))
}

check_redirect <- function(value, limits) {
  if (rlang::is_string(value) && is.null(option_problem("redirect", value))) sub("/$", "", value)
}

# A path of its own for each kind of work; hosts are the clients' to choose.
check_path_prefix <- function(value, limits) {
  if (rlang::is_string(value) && startsWith(value, "/") && is.null(option_problem("route", value))) route_name(value)
}

# A token that strangers could read, or workers that could be anybody, are refused unless somebody says that they may.
check_hub_exposure <- function(settings, call = NULL) {
  host <- settings$worker_host
  if (startsWith(host, "unix:")) {
    abort("option", c(
      "{.arg worker_host} must be an address or a name, not {.val {host}}.",
      i = "Workers on the same machine can dial {.val 127.0.0.1}."
    ), option = "worker_host", call = call)
  }
  if (settings$insecure || host_is_loopback(host)) {
    return(invisible())
  }
  hint <- "{.code insecure = TRUE} is for networks where everyone may."
  if (is.null(settings[["token"]])) {
    abort("option", c(
      "Without a token, whoever reaches {.arg worker_host} {.val {host}} would be sent requests, and answer them.",
      i = "Set {.arg token} (or {.envvar FAUCET_TOKEN}), here and for {.fun run_worker}.",
      i = hint
    ), option = "token", call = call)
  }
  if (is.null(settings[["tls"]])) {
    abort("option", c(
      "Without TLS, others can read the token that workers show at {.arg worker_host} {.val {host}}.",
      i = "Set {.arg tls}, and let workers dial {.val tls://...}.",
      i = hint
    ), option = "tls", call = call)
  }
  if (!is.null(settings$pothead_port)) {
    abort("option", c(
      "Workers of POTHEAD show no token: whoever reaches {.arg worker_host} {.val {host}} could be one.",
      i = "Leave {.arg pothead_port} out, or have a hub of its own for them on {.val 127.0.0.1}.",
      i = hint
    ), option = "pothead_port", call = call)
  }
}

check_worker_exposure <- function(settings, call = NULL) {
  exposed <- Filter(hub_is_exposed, settings$hub)
  if (settings$insecure || is.null(settings[["token"]]) || length(exposed) == 0) {
    return(invisible())
  }
  hub <- exposed[[1]]
  abort("option", c(
    "Without TLS, others can read the token on its way to the hub {.val {hub}}.",
    i = "A hub with TLS is dialled as {.val {paste0('tls://', hub)}}.",
    i = "{.code insecure = TRUE} is for networks where everyone may."
  ), option = "hub", call = call)
}
