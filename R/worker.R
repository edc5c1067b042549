#' Offer workers to hubs
#'
#' `run_worker()` starts R workers as [run()] does, and dials hubs ([run_hub()]) to offer them: a connection for each slot. Nobody
#' need reach this machine, and nobody hands it more than it has offered.
#'
#' @section Offers:
#' An offer stands while a worker is free, and the gates are open. It is a hint: the lock is this machine's own, so that R is
#' handed one request at a time, whoever asks. With several hubs, an offer stands at each, and whoever comes second is told
#' at once, and asks elsewhere. With `port` given, the same workers also serve clients of this machine.
#'
#' A hub is `"host:port"`, or `"host"` for port 4040, or with TLS `"tls://host:port"`. One name may have several addresses:
#' each is a hub. It is looked up again every 5 seconds. A hub that is lost is dialled again, at pauses that grow and vary;
#' the others are served.
#'
#' @section Gates:
#' `gate` says when this machine takes work: while cores are idle ([gate_cpu()]), while memory is free ([gate_memory()]), or
#' while a function of yours says so ([gate()]), or all of these: `gate_cpu(1) & gate_memory("4GB")`. A gate that closes
#' takes back offers that stand; requests that are being answered go on. While nothing runs, one request is always taken,
#' unless the gate is strict.
#'
#' @section Answers that do not go through the hub:
#' With `redirect = "http://worker-host:8081"`, the body of an answer with status 200 goes from here to the client: the hub
#' answers 303, with a one-time address at that URL, which streams the body as R writes it. It can be fetched once, within 20
#' seconds; after that it is 410, and a stream that nobody has fetched ends as if its client had left. The worker is free when R
#' has finished, as everywhere. Clients must be able to reach that URL, and to follow a redirect. These bodies go through the hub
#' all the same:
#'
#' - those of any other status, ranges among them,
#' - HTML pages, whose links lead from the address they have, and answers to `HEAD` and `OPTIONS`,
#' - when 1024 answers wait already, or as many as there may be connections.
#'
#' The redirect has R's `Set-Cookie` and `Access-Control-*`; where it leads to has all headers but cookies, and `Cache-Control:
#' no-store`, as nobody can ask for it again. Whoever knows the address may read the answer: it has 128 random bits, and the
#' access log has its beginning only. Scripts of the page that the hub's answer was for may read it there, too.
#'
#' This machine listens on the URL's port, on all addresses; on loopback alone if the URL is of loopback. With `redirect_host`
#' and `redirect_port` it listens elsewhere, and something else hands on what comes to the URL. For an `https://` URL that is
#' what speaks TLS, unless the machine has the setting `tls`: then it speaks it itself. Browsers do not follow from a page with
#' TLS to a URL without.
#'
#' @section The token:
#' A hub that takes workers of other machines asks for a `token`. It is sent over TLS, or to a hub on this machine: to any other
#' it is not sent, unless `insecure = TRUE`. It is shown nowhere, and R's workers do not find it in their environment.
#'
#' @section Running in the foreground and in the background:
#' As [run()] does. A TERM signal or Ctrl-C takes all offers back at once, requests that are being answered may finish within
#' `shutdown_timeout`, and R's exit hooks run in each worker. A HUP signal starts new workers on the current code. With
#' `block = FALSE`, `run_worker()` returns as soon as a worker is ready, whether or not a hub can be reached: the log tells.
#'
#' @param hub Hubs to offer slots to: `"hub.example.com:4040"`, `"tls://hub.example.com:4040"`, or several of them.
#' @param dir Directory with the API, or one file of R code, as for [run()]. Shiny apps are for [run()] alone.
#' @param workers Number of R processes, by default 1. Two numbers, such as `c(1, 8)`, let it follow what there is to do.
#' @param gate When to take work: what [gate_cpu()], [gate_memory()] or [gate()] return, or several of these joined by `&`.
#'   By default always.
#' @param route Path prefix that the slots are for, by default `"/"`, which is all paths.
#' @param block Whether to wait until the server has stopped.
#' @param ... Further settings, by name: see [`faucet-options`]. They are those of [run()] for workers (`timeout`, `preload`,
#'   `max_memory`, ...), and `ca`, `insecure`, `redirect_host` and `redirect_port`. All can come from options and the environment.
#' @param app Instead of code in `dir`: a plumber router, or a function of a request, as for [run()].
#' @param token Secret that hubs ask for. Better than in code it is in the environment variable `FAUCET_TOKEN`.
#' @param name What this machine is called at the hubs. By default the host's name.
#' @param redirect URL where clients fetch bodies, past the hub. By default they go through it.
#' @param port Port for clients of this machine's own. By default there is none.
#'
#' @return A handle of class [faucet_server]: with `block = FALSE` that of the running server, with
#'   `block = TRUE`, invisibly, that of the stopped one. Its `$url` is `NULL` without `port`.
#'
#' @section Error conditions:
#' Those of [run()], and
#'
#' - `faucet_error_option`: there is no hub in `hub`, or it is none; or the token could be read on its way. Field `option`:
#'   its name.
#' - `faucet_error_unsupported`: it is a Shiny app.
#'
#' @seealso [run_hub()], [gate_cpu()]; `vignette("dial-in", package = "faucet")`; [`faucet-options`] for all settings,
#'   [faucet_server] for the handle.
#' @export
#' @examples
#' \dontrun{
#' # The hub runs on this machine
#' run_worker("127.0.0.1:4040", "api", workers = 2)
#'
#' # Two hubs elsewhere; work is taken while a core is idle and 4 GB are free
#' Sys.setenv(FAUCET_TOKEN = readLines("token"))
#' run_worker(
#'   c("tls://hub-a.example.com", "tls://hub-b.example.com"), "model",
#'   workers = 4, gate = gate_cpu(1) & gate_memory("4GB"), route = "/model"
#' )
#' }
run_worker <- function(
    hub = NULL, dir = ".", workers = NULL, gate = NULL, route = NULL, block = TRUE, ..., app = NULL, token = NULL, name = NULL,
    redirect = NULL, port = NULL) {
  call <- rlang::current_env()
  refuse_partial_names("run_worker", run_worker, sys.call(), parent.frame(), call = call)
  named <- list(
    hub = hub, workers = workers, route = route, token = token, name = name, redirect = redirect, port = port
  )
  given <- given_settings(named, list(...))
  check_block(block, call = call)
  refuse_app_object(dir, "run_worker", call = call)
  refuse_several_apps(dir, call = call)
  if (!is.null(gate)) check_gate(gate, "`gate` must be a gate, as of gate_cpu()", "gate", call = call)
  settings <- resolve_settings(given, "run_worker", call = call)
  check_worker(settings, call = call)
  settings$pools <- only_pool(c(list(dir = dir), list(app = app)), given, verb = "run_worker", call = call)
  settings["gate"] <- list(gate)
  settings$gates <- native_gates(gate)
  serve(settings, block, call = call)
}

# A route of its own is what each of several apps has at the hub.
refuse_several_apps <- function(dir, call = NULL) {
  if (is_routes(dir) || is_config(dir)) {
    abort("option", c(
      "{.fun run_worker} offers the workers of one app.",
      i = "For several, call it once for each, with a {.arg route} of its own."
    ), option = "dir", call = call)
  }
}

check_worker <- function(settings, call = NULL) {
  if (is.null(settings[["hub"]])) {
    abort("option", c(
      "{.arg hub} is missing: it says where slots are offered.",
      i = "It looks like {.val hub.example.com:4040}, or with TLS {.val tls://hub.example.com:4040}."
    ), option = "hub", call = call)
  }
  ca <- settings[["ca"]]
  if (!is.null(ca) && !file.exists(ca)) {
    abort("option", "There is no file {.path {ca}}, as {.arg ca} says.", option = "ca", call = call)
  }
  check_worker_exposure(settings, call = call)
}
