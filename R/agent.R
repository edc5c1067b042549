#' Take functions, and serve each on workers of its own
#'
#' `run_agent()` starts a server that [deploy()] sends functions to. Each function becomes a service: it has workers of its
#' own, R processes that run nothing else, with a queue, limits and a log, and answers at `/functions/NAME`. A function that
#' nobody calls has no process, unless it is told to.
#'
#' Functions are called and managed over gRPC, too, at the same address: see `vignette("grpc", package = "faucet")`.
#'
#' Everything that is deployed is kept in `state_dir`, and served again when the agent comes back, however it ended.
#'
#' @section Who may do what:
#' To deploy a function is to run code on this machine as its user. Beyond this machine, `run_agent()` therefore takes functions
#' only from those who show a `token`, and only over TLS, unless `insecure = TRUE`. On the machine itself every user may, as
#' long as there is no token; web pages that a browser shows there may not. With a `call_token`, those who call
#' functions have to show it; whoever may deploy may call, too. Each change, and each that was refused, is a line of JSON in
#' `audit.log` in `state_dir`; so are a call without the token, RDS for a
#' function that reads none, and a function's `secret()` that it has not declared. Of these there are at most 20 lines a second.
#'
#' @section Calls that nobody waits for:
#' A call with `async = TRUE` (see [invoke()]) is kept in `state_dir` with its input, and run when there is room: 64 at a time,
#' each of which waits for its function's workers as any other call does. When they are too many there for now, it is tried
#' again, for a day at most, unless it has a `timeout` of its own. Its result is kept for `result_ttl` seconds. Together they
#' are `max_calls` at most, and have `max_results` bytes; beyond that there is 503. After a restart of the agent, those that
#' waited are run; one that was running is `lost`, or with `retry = TRUE` run again, up to 3 times in all. Whoever has the
#' `call_token` and a call's id, which cannot be guessed, may read and cancel it.
#'
#' A caller may have the end of a call told to a URL, where the agent then sends what `GET /calls/ID` answers, by `POST`, without
#' a token. As it can reach more than its callers can, that is refused unless the URL is at or below one of `callbacks`. No
#' redirect is followed, and nobody is told what the answer was. What is not 2xx within 10 seconds is tried again after 1 and 5
#' seconds. `https://` URLs need a certificate by `ca`, or by one of the system's CAs.
#'
#' @section Where nobody can reach it:
#' An agent behind a firewall dials a proxy instead: `run_agent(hub = "proxy:4040")`, where that is the `agent_port` of
#' [run_proxy()], or `"tls://proxy:4040"`. It keeps a few connections open there, over which the proxy deploys
#' and calls functions as it does elsewhere. `name` is what it is called there.
#'
#' @inheritParams run
#' @param port Port to listen on, by default 9000. `0` takes any free one: see the handle's `$url`.
#' @param token Secret that those have to show who deploy. Better than in code it is in the environment variable `FAUCET_TOKEN`.
#' @param state_dir Directory where everything is kept that is deployed.
#' @param ... Further settings, by name: see [`faucet-options`]. There are `call_token`, `run_as`, `packages`, `hub`, `insecure`
#'   and `tls`; `result_ttl`, `max_calls`, `max_results` and `callbacks`; those of
#'   functions that say nothing of it (`queue`, `timeout`, `max_body`, `grow_after`, `shrink_after`, ...); operation
#'   (`admin_port`, `access_log`) and `quiet`.
#'
#' @return A handle of class [faucet_server]: with `block = FALSE` that of the running server, with
#'   `block = TRUE`, invisibly, that of the stopped one.
#'
#' @section Error conditions:
#' All inherit from `faucet_error`. They are raised before anything starts.
#'
#' - `faucet_error_option`: a setting is unknown or has a value that it does not take, strangers could run code here, or
#'   `state_dir` cannot be used. Field `option`: the setting's name.
#' - `faucet_error_port_in_use`: somebody else, or another server of this session, listens on `port`.
#' - `faucet_error_listen`: `host` is no address of this machine, or `port` needs privileges.
#'
#' @seealso [`faucet-options`] for all settings, [faucet_server] for the handle.
#' @export
#' @examples
#' \dontrun{
#' # In one session
#' run_agent()
#'
#' # For functions from other machines
#' Sys.setenv(FAUCET_TOKEN = readLines("token"))
#' run_agent(host = "0.0.0.0", tls = list(cert = "agent.pem", key = "agent.key"))
#' }
run_agent <- function(host = NULL, port = NULL, token = NULL, state_dir = NULL, block = TRUE, ...) {
  call <- rlang::current_env()
  refuse_partial_names("run_agent", run_agent, sys.call(), parent.frame(), call = call)
  named <- list(host = host, port = port, token = token, state_dir = state_dir)
  settings <- resolve_settings(given_settings(named, list(...)), "run_agent", call = call)
  check_block(block, call = call)
  check_function_exposure(settings, call = call)
  settings$state_dir <- absolute_path(settings$state_dir)
  settings$pools <- list()
  if (!is.null(settings$hub)) {
    check_worker_exposure(settings, call = call)
    settings$proxies <- settings$hub
    settings["hub"] <- list(NULL)
  }
  settings$function_worker <- function_worker(settings)
  settings$function_template <- function_template(settings)
  serve(settings, block, call = call)
}

# How workers of functions are started; what is each function's own comes with it.
function_worker <- function(settings) {
  known <- intersect(pool_settings, names(settings))
  own <- list(
    workers = c(0, 1), worker_type = "auto", preload = FALSE, give_up_after = Inf, watch = FALSE, dir = "/",
    command = worker_command(), env = worker_env()
  )
  c(settings[setdiff(known, names(own))], own)
}

# How the process is started that workers of functions are forked from.
function_template <- function(settings) {
  template <- settings$function_worker
  packages <- paste(settings$packages, collapse = ",")
  template$env <- c(template$env, FAUCET_TEMPLATE = "shared", FAUCET_PACKAGES = packages)
  template
}
