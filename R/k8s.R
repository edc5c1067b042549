#' Serve the replicas of a Kubernetes service
#'
#' `run_k8s()` puts one address before an API that runs in several places already, such as the pods of a Kubernetes
#' Deployment. It looks them up by name, again and again, and hands each of them one request at a time, and only when it is
#' free; further requests wait in a queue, first come, first served. Starting, stopping and scaling the pods stays
#' Kubernetes' business.
#'
#' It is the front of [run()] before other workers: what it answers when all are busy, what it limits, and how it stops is
#' the same. For a first look, start plumber on port 8000 and call `run_k8s("http://localhost:8000")`.
#'
#' @section Looking replicas up:
#' A name must lead to the pods themselves, as that of a *headless* service does (`clusterIP: None`): behind the one address of
#' an ordinary service, which pod is busy cannot be seen.
#'
#' - `http://api.default.svc:8000` is looked up as any program in the pod would do it, by `/etc/hosts` and
#'   `/etc/resolv.conf`. All IPv4 addresses are used, or, if there is none, all IPv6 addresses.
#' - `srv+http://_http._tcp.api.default.svc` takes names and ports from SRV records.
#' - `http://10.0.0.7:8000` and `http://[fd00::7]:8000` are one replica each, and so is `http://localhost:8000`.
#'
#' The name is looked up again when its records expire (`refresh`), and as soon as a replica refuses a connection. A new
#' replica gets requests once it accepts connections, or answers `ready_path`. One whose address is gone gets nothing new, and
#' finishes what it has. If a lookup fails or brings no address, what was known stays in use: the log, `$lookup()` and the
#' readiness check tell.
#'
#' @section When a replica fails:
#' If it cannot be reached, the request goes to another replica: nothing of it was sent. The replica is suspended, and
#' tried again after a pause that grows to 5 s, until it answers. A replica that dies with a request costs that one request: its
#' client gets 502. One that accepts requests and never answers is found by `timeout`, which is off by default: set it.
#'
#' Without any replica requests wait, for `queue_timeout`; then they get 503 with `Retry-After`.
#'
#' @section Several fronts:
#' Two processes that call `run_k8s()` for the same pods do not see each other's locks. If [run()] serves the API in the pods,
#' they need not: such a pod holds the locks of its workers itself, tells how many there are, and sends a front that comes
#' too early elsewhere. It does so for peers that its setting `fronts` names, by default none. Plain plumber pods should have
#' one front. See `vignette("kubernetes", package = "faucet")`.
#'
#' @section TLS:
#' `tls = list(cert = "cert.pem", key = "key.pem")` is for clients, as in [run()]. To replicas, faucet speaks HTTP without TLS.
#'
#' @section Running in the foreground and in the background:
#' As [run()] does: with `block = TRUE`, `run_k8s()` returns when the server has stopped, and Ctrl-C or a TERM signal stops it
#' by draining. A HUP signal looks the name up again. HUP and USR1 open `log_file` again. With `block = FALSE`, `run_k8s()`
#' returns as soon as one replica takes requests, and the server runs beside the R session. The replicas are not stopped,
#' whatever becomes of the front.
#'
#' @param url Where the replicas are: `"http://name:port"` (port 80 if there is none), or `"srv+http://name"`.
#' @param host Address to listen on, by default `"0.0.0.0"`, which takes requests from other machines.
#'   `"unix:/run/app.sock"` is a Unix socket: see [run()].
#' @param port Port to listen on, by default 8080. `0` takes any free one: see the handle's `$url`.
#' @param slots Requests at a time for each replica, by default 1. Pods that run faucet tell how many workers they have,
#'   and that counts instead.
#' @param refresh Seconds from one lookup of the name to the next. With `NULL`, the default, as long as its records live,
#'   but at least 5 and at most 60.
#' @param block Whether to wait until the server has stopped.
#' @param ... Further settings, by name: see [`faucet-options`]. There are limits (`queue`, `max_body`, ...), times in
#'   seconds (`timeout`, `boot_timeout`, `shutdown_timeout`, ...), the replicas' check (`ready_path`), the DNS server
#'   (`dns`), operation (`admin_port`, `admin_host`, `access_log`) and `quiet`. `host`, `port`, `slots` and `refresh` too can come
#'   from options and the environment.
#'
#' @return A handle of class [faucet_server]: with `block = FALSE` that of the running server, with
#'   `block = TRUE`, invisibly, that of the stopped one.
#'
#' @section Error conditions:
#' All inherit from `faucet_error`. The first three are raised before anything starts.
#'
#' - `faucet_error_option`: `url` is none of the above, or a setting is unknown or has a value that it does not take. Field
#'   `option`: its name, or `"url"`.
#' - `faucet_error_port_in_use`: somebody else, or another server of this session, listens on `port`, or on the Unix socket.
#' - `faucet_error_listen`: `host` is no address of this machine, or `port` needs privileges; there cannot be such a Unix socket;
#'   or what systemd passes is none that listens.
#' - `faucet_error_boot`: no replica took requests within `boot_timeout`. The message says what was seen: no such name, no
#'   address, or addresses that refused.
#'
#' @seealso [`faucet-options`] for all settings, [faucet_server] for the handle; [run()], which starts the workers itself, and
#'   serves in pods.
#' @export
#' @examples
#' \dontrun{
#' # In a container of its own, until SIGTERM
#' run_k8s("http://api.default.svc:8000", timeout = 60)
#'
#' # At home: plumber runs on port 8000
#' server <- run_k8s("http://localhost:8000", port = 0, block = FALSE)
#' server
#' server$lookup()
#' server$stop()
#' }
run_k8s <- function(url, host = NULL, port = NULL, slots = NULL, refresh = NULL, block = TRUE, ...) {
  call <- rlang::current_env()
  refuse_partial_names("run_k8s", run_k8s, sys.call(), parent.frame(), call = call)
  if (missing(url)) {
    abort("option", c(
      "{.arg url} is missing: it says where the replicas are.",
      i = "It looks like {.val http://api.default.svc:8000}."
    ), option = "url", call = call)
  }
  url <- check_url(url, call = call)
  given <- given_settings(list(host = host, port = port, slots = slots, refresh = refresh), list(...))
  settings <- resolve_settings(given, "run_k8s", call = call)
  check_block(block, call = call)
  settings$pools <- only_pool(list(url = url), given, call = call)
  serve(settings, block, call = call)
}

# The address of replicas, which the native side understands.
check_url <- function(url, call = NULL) {
  if (!rlang::is_string(url) || !nzchar(url)) {
    got <- describe_value(url)
    abort("option", c(
      "{.arg url} must say where the replicas are, not {got}.",
      i = "It looks like {.val http://api.default.svc:8000}."
    ), option = "url", call = call)
  }
  problem <- option_problem("url", url)
  if (!is.null(problem)) {
    abort("option", c(
      "{.arg url} must say where the replicas are, not {.val {url}}.",
      x = "{problem}",
      i = "It looks like {.val http://api.default.svc:8000} or {.val srv+http://_http._tcp.api.default.svc}.",
      i = if (dir.exists(url)) "{.fun run} serves a directory."
    ), option = "url", value = url, call = call)
  }
  sub("/$", "", url)
}
