# The settings of those who keep functions.

function_verbs <- c("run_agent", "run_proxy")

agent_setting <- function(..., verbs = "run_agent", elsewhere = "Functions are deployed to {.fun run_agent}.") {
  setting(..., verbs = verbs, elsewhere = elsewhere)
}

proxy_setting <- function(..., elsewhere = "{.fun run_proxy} serves the functions of agents.") {
  setting(..., verbs = "run_proxy", elsewhere = elsewhere)
}

# What the agent or the proxy of this user keeps, unless it is told another place.
own_state <- function(what) {
  file.path(tools::R_user_dir("faucet", "data"), what)
}

function_definitions <- function() {
  list(
    state_dir = agent_setting(
      "path", function() own_state("agent"),
      paste(
        "Directory where an agent or a proxy keeps what is deployed, secrets (encrypted), and `audit.log`, a line for each",
        "change. It is made if it is not there. One of them at a time may have it."
      ),
      shown = "`agent`, or `proxy`, in `tools::R_user_dir(\"faucet\", \"data\")`", verbs = function_verbs,
      defaults = list(run_proxy = function() own_state("proxy"))
    ),
    agents = proxy_setting(
      "agents", NULL,
      paste(
        "Agents, `\"host:port\"` each, or `\"https://host:port\"` if they speak TLS: then all of them. More can join while it",
        "runs."
      ),
      null = TRUE, shown = "none"
    ),
    agent_port = proxy_setting(
      "count", NULL, "Port where agents dial in that cannot be reached. `0` takes any free one, `NULL` is off.",
      min = 0, max = 65535, null = TRUE
    ),
    agent_host = proxy_setting(
      "string", "127.0.0.1", "Address for `agent_port`. `\"0.0.0.0\"` takes agents of other machines."
    ),
    agent_grace = proxy_setting(
      "duration", 30,
      "How long an agent may not answer before its functions are started elsewhere. They are given up there when it is back."
    ),
    agent_token = proxy_setting(
      "secret", NULL, "What the proxy shows to agents, if that is not its own `token`.",
      null = TRUE, shown = "`token`"
    ),
    call_token = agent_setting(
      "secret", NULL, "What those have to show who call functions. Without one, everybody may who reaches the port.",
      null = TRUE, verbs = function_verbs
    ),
    max_bundle = agent_setting(
      "size", 256 * 1024^2, "Largest archive of a function's files that may be uploaded. A larger one gets 413.",
      min = 1, shown = "`\"256MB\"`", verbs = function_verbs
    ),
    result_ttl = agent_setting(
      "duration", 3600,
      paste(
        "How long the result of a call with `async = TRUE` is kept: at most, and unless the call says less. For as long again",
        "it is known that there was one."
      ),
      verbs = function_verbs
    ),
    max_calls = agent_setting(
      "count", 1000L,
      "Calls with `async = TRUE` that wait, that run, and whose results are kept, together. One more gets 503.",
      min = 1, verbs = function_verbs
    ),
    max_results = agent_setting(
      "size", 1024^3,
      "How much the inputs and results of calls with `async = TRUE` may have on disk together. Beyond it there is 503.",
      min = 1, shown = "`\"1GB\"`", verbs = function_verbs
    ),
    callbacks = agent_setting(
      "callbacks", character(),
      paste(
        "URLs, such as `\"https://hooks.example.com/faucet\"`: at or below them the end of a call with `async = TRUE` may be",
        "told. The server asks them from where it is, also if callers cannot reach them."
      ),
      shown = "none", verbs = function_verbs
    ),
    packages = agent_setting(
      "strings", character(),
      paste(
        "Packages that are loaded once, in a process that workers of functions are forked from: a function that uses them is",
        "there at once. They must bear to be forked, as most do that have no threads."
      ),
      shown = "none"
    ),
    run_as = agent_setting(
      "string", NULL, "User that functions run as, if the agent is root. `NULL`: the agent's own.",
      null = TRUE, shown = "the agent's own"
    )
  )
}

# Deploying is running code: strangers must not, and must not read the token that others show.
check_function_exposure <- function(settings, what = "host", call = NULL) {
  host <- settings[[what]]
  if (settings$insecure || startsWith(host, "unix:") || host_is_loopback(host)) {
    return(invisible())
  }
  hint <- "{.code insecure = TRUE} is for networks where everyone may."
  if (is.null(settings[["token"]])) {
    abort("option", c(
      "Without a token, whoever reaches {.arg {what}} {.val {host}} could run code here.",
      i = "Set {.arg token} (or {.envvar FAUCET_TOKEN}), here and for {.fun deploy}.",
      i = hint
    ), option = "token", call = call)
  }
  if (is.null(settings[["tls"]])) {
    abort("option", c(
      "Without TLS, others can read the token on its way to {.arg {what}} {.val {host}}.",
      i = "Set {.arg tls}, and call {.val https://...}.",
      i = hint
    ), option = "tls", call = call)
  }
}

# In one form, each once: without a scheme, and whether they speak TLS as the attribute `tls`.
check_agents <- function(value, limits) {
  if (!is.character(value) || length(value) == 0 || anyNA(value)) {
    return(NULL)
  }
  tls <- startsWith(value, "https://")
  bare <- sub("/$", "", sub("^https?://", "", value))
  if (length(unique(tls)) == 1 && all(vapply(bare, is_agent, NA))) structure(unique(bare), tls = tls[[1]])
}

is_agent <- function(text) {
  is.null(option_problem("agents", text))
}

# Those that a server may call when somebody asks it to.
check_callbacks <- function(value, limits) {
  if (is.character(value) && !anyNA(value) && all(vapply(value, is_callback, NA))) as.character(value)
}

is_callback <- function(text) {
  is.null(option_problem("callbacks", text))
}

# The token is not to be read on its way to an agent.
check_agent_exposure <- function(settings, call = NULL) {
  agents <- settings$agents
  shown <- settings[["agent_token"]] %||% settings[["token"]]
  if (settings$insecure || is.null(shown) || isTRUE(attr(agents, "tls"))) {
    return(invisible())
  }
  exposed <- Filter(hub_is_exposed, as.character(agents))
  if (length(exposed) > 0) {
    agent <- exposed[[1]]
    abort("option", c(
      "Without TLS, others can read the token on its way to the agent {.val {agent}}.",
      i = "An agent with TLS is {.val {paste0('https://', agent)}}.",
      i = "{.code insecure = TRUE} is for networks where everyone may."
    ), option = "agents", call = call)
  }
}
