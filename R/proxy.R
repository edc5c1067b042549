#' Serve the functions of several agents at one address
#'
#' `run_proxy()` starts a server before agents, each of which [run_agent()] started on a machine of its own or on this one.
#' Functions are deployed to the proxy as to an agent, by [deploy()]; it chooses an agent for each, and a request to
#' `/functions/NAME` goes to a free worker of that function on any of them, one at a time, first come, first served over all.
#'
#' @section Agents that come and go:
#' Each agent is looked at about once a second. With `deploy(replicas = n)` a function is on `n` agents, those with most room
#' first.
#' The functions of an agent that does not answer for `agent_grace` are started elsewhere, and given up there when it is back.
#' `POST /agents` with `{"agent": "host:port"}` lets an agent join while the proxy runs, and `DELETE /agents/host:port` lets it
#' leave. One that has dialled in is let go, and welcome again as a new one when it dials again: stop it, or have it
#' dial with another token, to keep it away.
#' What is deployed, and which agents there are, is kept in `state_dir`. With `agent_port`, agents that cannot be reached dial in
#' there: `run_agent(hub = )`.
#'
#' An agent that counts the proxy among its `fronts` does not keep its requests waiting while another agent is free: on other
#' machines, give its address to `run_agent(fronts = )`.
#'
#' @section Who may do what:
#' As with [run_agent()]: beyond this machine there has to be a `token` and `tls`, unless `insecure = TRUE`. The proxy shows its
#' `token` to agents, or `agent_token` if that is set. Those who call functions show their token to the agent, too: give both the
#' same `call_token`.
#'
#' @inheritParams run_agent
#' @param agents Agents, as `"host:port"`; or `"https://host:port"`, then all of them.
#' @param port Port to listen on, by default 9002. `0` takes any free one: see the handle's `$url`.
#' @param state_dir Directory where everything is kept that the proxy has to know when it comes back.
#' @param ... Further settings, by name: see [`faucet-options`]. There are `agent_grace`, `agent_port`, `agent_token`, `ca`,
#'   `call_token`, `insecure` and `tls`; `result_ttl`, `max_calls`, `max_results` and `callbacks`; limits and times (`queue`,
#'   `queue_timeout`, `timeout`, `max_body`); operation (`admin_port`, `access_log`) and `quiet`.
#'
#' @inheritSection run_agent Calls that nobody waits for
#' @inherit run_agent return
#' @inheritSection run_agent Error conditions
#'
#' @seealso [run_agent()]; [`faucet-options`] for all settings, [faucet_server] for the handle.
#' @export
#' @examples
#' \dontrun{
#' # Two agents, each in a session of its own
#' run_agent(port = 9000, state_dir = "agent-1")
#' run_agent(port = 9001, state_dir = "agent-2")
#'
#' # In a third one
#' run_proxy(c("localhost:9000", "localhost:9001"))
#' }
run_proxy <- function(
    agents = NULL, host = NULL, port = NULL, token = NULL, state_dir = NULL, block = TRUE, ...) {
  call <- rlang::current_env()
  refuse_partial_names("run_proxy", run_proxy, sys.call(), parent.frame(), call = call)
  named <- list(agents = agents, host = host, port = port, token = token, state_dir = state_dir)
  settings <- resolve_settings(given_settings(named, list(...)), "run_proxy", call = call)
  check_block(block, call = call)
  check_function_exposure(settings, call = call)
  if (!is.null(settings$agent_port)) check_function_exposure(settings, "agent_host", call = call)
  check_agent_exposure(settings, call = call)
  settings$state_dir <- absolute_path(settings$state_dir)
  settings$agents_tls <- isTRUE(attr(settings$agents, "tls"))
  settings$agents <- as.character(settings$agents)
  settings$pools <- list()
  serve(settings, block, call = call)
}
