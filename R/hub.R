#' Serve workers that dial in
#'
#' `run_hub()` puts one address before workers that it need not reach: each dials in, by [run_worker()], and every connection
#' that it opens offers one slot. Requests are handed to slots that are offered, and to nobody else; further requests wait in
#' a queue, first come, first served. So workers can be anywhere: behind NAT, on laptops, on machines with GPUs, on a
#' cluster's nodes.
#'
#' It is the front of [run()] before other workers: what it answers when all are busy, what it limits, and how it stops is
#' the same.
#'
#' @section Routes:
#' Workers say which path prefix they serve (the setting `route` of [run_worker()]). The first that offers slots for a route
#' makes its pool, with a queue of its own. A request goes to the longest route that its path begins with, as for the routes
#' of [pool()].
#'
#' - A path that no worker ever offered slots for gets 404.
#' - When the workers of a route are away, requests wait for `queue_timeout`, and then get 503 with `Retry-After`.
#' - A route that nobody has offered slots for in `forget_after` is forgotten: its requests get 404 again.
#'
#' @section When a worker fails:
#' One that is lost with a request costs that one request: its client gets 502. A slot that closes before anything of an
#' answer has come, and may not have taken the request, passes it on to another slot. Dead connections, as of a machine that
#' has lost its network, are found within seconds.
#'
#' A client that leaves while it waits never reaches a worker. If it leaves later, the slot is closed, upon which the
#' worker's faucet interrupts R (`cancel`), and dials again when R is free.
#'
#' @section With one hub and with several:
#' The lock is the worker's own: R is handed one request at a time however many hubs there are. With one hub, an offer is a
#' promise, and requests are served in the order in which they came. With several, the same slot is offered to each, so that
#' one who comes second is sent back to the head of its queue at once; each hub's queue is in order, and there is none
#' between them. A hub that dies takes the requests with it that it has; workers stay, and offer to it again when it returns.
#'
#' @section Who may dial in:
#' Whoever dials in is sent requests and answers them. So `worker_port` takes connections of this machine alone, unless
#' `worker_host` says otherwise, and then workers have to show a `token`, and TLS has to keep it secret: all else is an
#' error, unless `insecure = TRUE` says that this network is one where everyone may. The token is shown nowhere: not in the
#' log, the status or in errors, and it is not in the environment of R's workers.
#'
#' @section Workers of POTHEAD:
#' Unmodified workers of the Python package [POTHEAD](https://pypi.org/project/POTHEAD/) can serve, too, on a port of their own:
#' `run_hub(pothead_port = 4041)` and `python3 -m pothead.worker --connect hub:4041 module:app`. They are at the route `/`, open a
#' connection for each request, and show no token. By default they pause for a second before each of them:
#' `LOAD_BALANCER_CONNECTION_DELAY_BASE=0` in their environment does away with that.
#'
#' @section Other workers:
#' Workers can be written in any language: `system.file("protocol", "slot.md", package = "faucet")` says how, and `worker.py`
#' beside it is one in Python.
#'
#' @section Running in the foreground and in the background:
#' As [run()] does: with `block = TRUE`, `run_hub()` returns when the server has stopped, and Ctrl-C or a TERM signal stops it by
#' draining. With `block = FALSE`, it returns as soon as it listens. It is ready without any worker: requests wait for one.
#'
#' @param port Port to listen on for clients, by default 8080. `0` takes any free one: see the handle's `$url`.
#' @param worker_port Port where workers dial in, by default 4040. `0` takes any free one.
#' @param host Address to listen on for clients, by default `"127.0.0.1"`. `"0.0.0.0"` takes requests from other machines,
#'   `"unix:/run/app.sock"` is a Unix socket: see [run()].
#' @param block Whether to wait until the server has stopped.
#' @param ... Further settings, by name: see [`faucet-options`]. There are limits (`queue`, `max_body`, ...), times in
#'   seconds (`timeout`, `queue_timeout`, `forget_after`, ...), operation (`admin_port`, `access_log`) and `quiet`. All can
#'   come from options and the environment.
#' @param worker_host Address for workers, by default `"127.0.0.1"`. `"0.0.0.0"` takes those of other machines.
#' @param token Secret that workers have to show. Better than in code it is in the environment variable `FAUCET_TOKEN`.
#' @param pothead_port Port where workers of POTHEAD dial in. By default there is none.
#'
#' @return A handle of class [faucet_server]: with `block = FALSE` that of the running server, with
#'   `block = TRUE`, invisibly, that of the stopped one.
#'
#' @section Error conditions:
#' All inherit from `faucet_error`. They are raised before anything starts.
#'
#' - `faucet_error_option`: a setting is unknown or has a value that it does not take, or workers from other machines could
#'   be anybody, or could be overheard. Field `option`: its name, or that of what is missing.
#' - `faucet_error_port_in_use`: somebody else, or another server of this session, listens on a port.
#' - `faucet_error_listen`: an address is none of this machine, or a port needs privileges.
#'
#' @seealso [run_worker()], which dials in; `vignette("dial-in", package = "faucet")`; [`faucet-options`] for all settings,
#'   [faucet_server] for the handle.
#' @export
#' @examples
#' \dontrun{
#' # In one session
#' run_hub()
#'
#' # In others, on the same machine
#' run_worker("127.0.0.1:4040", "api", workers = 2)
#'
#' # For workers of other machines
#' Sys.setenv(FAUCET_TOKEN = readLines("token"))
#' run_hub(host = "0.0.0.0", worker_host = "0.0.0.0", tls = list(cert = "hub.pem", key = "hub.key"))
#' }
run_hub <- function(
    port = NULL, worker_port = NULL, host = NULL, block = TRUE, ..., worker_host = NULL, token = NULL, pothead_port = NULL) {
  call <- rlang::current_env()
  refuse_partial_names("run_hub", run_hub, sys.call(), parent.frame(), call = call)
  named <- list(
    port = port, worker_port = worker_port, host = host, worker_host = worker_host, token = token, pothead_port = pothead_port
  )
  settings <- resolve_settings(given_settings(named, list(...)), "run_hub", call = call)
  check_block(block, call = call)
  check_hub_exposure(settings, call = call)
  # Those of its workers' routes come with them.
  settings$pools <- list()
  serve(settings, block, call = call)
}

# What is called to dial in at an address, on the machines that can.
worker_call <- function(address, settings) {
  port <- sub("^.*:", "", address)
  is_proxy <- is.null(settings$worker_host)
  host <- if (is_proxy) settings$agent_host else settings$worker_host
  dialled <- if (host %in% c("0.0.0.0", "::")) paste0(own_name(), ":", port) else address
  if (!is.null(settings[["tls"]])) dialled <- paste0("tls://", dialled)
  if (is_proxy) {
    paste0("faucet::run_agent(hub = \"", dialled, "\")")
  } else {
    paste0("faucet::run_worker(\"", dialled, "\", \"api\")")
  }
}

# Workers of a hub come and go by themselves.
refuse_change <- function(link, what, call) {
  instead <- if (!is.null(link$worker_address)) {
    "Workers dial in: {.fun run_worker} starts them, and their pools are made by the routes that they offer slots for."
  } else if (!is.null(link$hubs) && what == "pools") {
    "{.fun run_worker} offers the workers of one app."
  }
  if (!is.null(instead)) {
    abort("unsupported", c("The {what} of this server cannot be changed.", i = instead), call = call)
  }
}
