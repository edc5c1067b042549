# The settings of those who keep functions.

agent_setting <- function(..., elsewhere = "Functions are deployed to {.fun run_agent}.") {
  setting(..., verbs = "run_agent", elsewhere = elsewhere)
}

function_definitions <- function() {
  list(
    state_dir = agent_setting(
      "path", function() file.path(tools::R_user_dir("faucet", "data"), "agent"),
      paste(
        "Directory where an agent keeps what is deployed, secrets (encrypted), and `audit.log`, a line for each change. It is made if it",
        "is not there. One agent at a time may have it."
      ),
      shown = "`agent` in `tools::R_user_dir(\"faucet\", \"data\")`"
    ),
    call_token = agent_setting(
      "secret", NULL, "What those have to show who call functions. Without one, everybody may who reaches the port.",
      null = TRUE
    ),
    max_bundle = agent_setting(
      "size", 256 * 1024^2, "Largest archive of a function's files that may be uploaded. A larger one gets 413.",
      min = 1, shown = "`\"256MB\"`"
    ),
    packages = agent_setting(
      "strings", character(),
      paste(
        "Packages that are loaded once, in a process that workers of functions are forked from: a function that uses them is there at",
        "once. They must bear to be forked, as most do that have no threads."
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
check_function_exposure <- function(settings, call = NULL) {
  host <- settings$host
  if (settings$insecure || startsWith(host, "unix:") || host_is_loopback(host)) {
    return(invisible())
  }
  hint <- "{.code insecure = TRUE} is for networks where everyone may."
  if (is.null(settings[["token"]])) {
    abort("option", c(
      "Without a token, whoever reaches {.arg host} {.val {host}} could run code here.",
      i = "Set {.arg token} (or {.envvar FAUCET_TOKEN}), here and for {.fun deploy}.",
      i = hint
    ), option = "token", call = call)
  }
  if (is.null(settings[["tls"]])) {
    abort("option", c(
      "Without TLS, others can read the token on its way to {.arg host} {.val {host}}.",
      i = "Set {.arg tls}, and call {.val https://...}.",
      i = hint
    ), option = "tls", call = call)
  }
}
