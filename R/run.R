#' Serve an API on many R workers
#'
#' `run()` starts several R processes that all run the API in `dir`, and puts one address before
#' them. Each worker is handed one request at a time, and only when it is free; further requests
#' wait in a queue, first come, first served. Workers that die are restarted.
#'
#' @section What `dir` may hold:
#' In this order of preference:
#'
#' - `_server.yml`: the package that its field `engine` names is asked to launch the server.
#' - `entrypoint.R`: it either returns a plumber router, or starts its server itself. If it does so by `pr_run()` or
#'   `httpuv::runServer()`, on whatever port; else on port `Sys.getenv("FAUCET_PORT")` of 127.0.0.1.
#' - `plumber.R`: an API annotated for plumber.
#' - `app.R`, or `server.R` with `ui.R`: a Shiny app.
#' - an R Markdown document with `runtime: shiny`, `runtime: shinyrmd` or `server: shiny`, which package rmarkdown runs; or a
#'   Quarto document with `server: shiny`, which the program `quarto` serves. Of several, the one called `index`.
#'
#' What is Shiny's keeps each client in one process: see the sessions of [pool()].
#'
#' Or `dir` is one file of R code, such as `"api.R"`: with annotations for plumber (`#* @get /`) it is read as a `plumber.R`,
#' with `shinyApp()` it is a Shiny app, else it is run as an `entrypoint.R`. Its directory is the workers'.
#'
#' Workers run in `dir`, with the library paths of this session, and with plumber attached in the
#' latter two cases. Each finds its number in the environment variable `FAUCET_WORKER_ID`.
#'
#' @section An R object instead:
#' With `app`, nothing is looked for in `dir`; workers just run there. It may be
#'
#' - a plumber router that was built in this session,
#' - a function that takes a request and returns a response, both as Rook describes them (see `httpuv::runServer()`):
#'   `function(req) list(status = 200L, headers = list("Content-Type" = "text/plain"), body = "hello")`,
#' - a list with such a function as its element `call`.
#'
#' Workers get a copy, as it is now: `$reload()` starts them with the same one. Objects of the global environment that it
#' mentions by name come with it, and packages that are attached here are attached there. A connection, or another handle
#' of something outside of R, cannot be copied: let the app make it.
#'
#' @section Native workers:
#' In a worker whose app is served by `httpuv::runServer()`, as plumber's are, faucet takes that server's place: such
#' a worker is native. Only then R is interrupted when a client leaves (`cancel`) or its time is over (`timeout`),
#' [stream()] sends what is written at once, and `preload` forks workers. The setting `worker_type` can ask for native workers, or
#' for none. See `vignette("workers", package = "faucet")`.
#'
#' @section Running in the foreground and in the background:
#' With `block = TRUE`, `run()` returns when the server has stopped. Ctrl-C or a TERM signal stops
#' it by draining: no new requests are taken, those in flight and in the queue may finish within
#' `shutdown_timeout`, and R's exit hooks run in each worker. A second Ctrl-C or TERM ends it at
#' once. A HUP signal starts new workers on the current code, as `$reload()` does, and opens `log_file` again; USR1 only
#' does the latter, and USR2 does nothing. All of this holds from the start on.
#'
#' Workers get this session's environment variables as they are when the server starts, also those that take the place of
#' others. `Sys.setenv()` reaches workers with the next `$reload()`.
#'
#' With `block = FALSE`, `run()` returns as soon as one worker is ready. The server then runs
#' beside the R session until `$stop()`, or until its handle is garbage collected or the
#' session ends: keep the handle in a variable. Signals then mean what they mean to R, but while `$wait()` waits: for R,
#' USR1 is "save the workspace and quit".
#'
#' Until the first worker is ready, worker 1 speaks for all: what others print is shown once one is ready, or if they fail in
#' another way.
#'
#' The access log goes to standard output. What workers print, each line with its worker's number, and
#' what happens to workers go to standard error, as messages of class `faucet_log` and `faucet_event`.
#' With `block = FALSE` they appear whenever R is idle and with each use of the handle. Control characters, escape
#' sequences and bytes that are no UTF-8 are not shown as such, and a line of more than 8 kB is cut.
#'
#' If nobody reads standard output or error, or they cannot be written, serving, reloading and stopping go on all the
#' same: what finds no room is dropped, and the other stream says so. An error in a handler of yours for these messages
#' ends `run()`, as it ends any function.
#'
#' @section Traces:
#' A client's `traceparent` and `tracestate` (W3C Trace Context) reach R as `req$HTTP_TRACEPARENT` and `req$HTTP_TRACESTATE`; a
#' `traceparent` that is not sound is dropped, with its `tracestate`. The stages of a chain are always in a trace: the client's,
#' or one of their own.
#'
#' With `otlp = "http://127.0.0.1:4318"`, an OpenTelemetry collector is told of each request as a span, unless its client says in
#' `traceparent` that nobody records the trace. A span is called like the function, or `GET /sales` for a route; that of a
#' chain's call is called `invoke`, and those of its stages are its children. R then sees the span of its own request in
#' `traceparent`. Attributes are `faucet.call_id` (the `X-Request-Id`), `faucet.function` or `faucet.pool`, `faucet.chain` (its
#' functions), `faucet.queue_seconds`, `faucet.worker`, `faucet.cause` (as in `Faucet-Error`), `http.request.method` and
#' `http.response.status_code`; a span is an error from status 500 on, or if the answer broke off. The resource's `service.name`
#' is what the environment variable `OTEL_SERVICE_NAME` says, or `faucet`. Health checks and the management of functions are no
#' spans.
#'
#' Spans are sent every second, at most 512 at a time. Serving never waits for it: of what the collector does not take, 4096 spans
#' are kept for later, others are dropped and counted in `faucet_spans_dropped_total`, and the log says when that begins and when
#' it is over. A collector at `https://` must have a certificate that the system believes.
#'
#' @section Workers that come and go:
#' With `workers = c(1, 8)` there is one worker, and there are more when there is more to do: another one when a request has
#' waited for `grow_after`, or when more requests wait than there are workers, up to eight. At most as many start at a time as
#' there are, so that those that serve keep the processor. A worker that has served nobody for `shrink_after` leaves, but for
#' the last one; none does while it has a request, or an open WebSocket.
#'
#' With `c(0, 8)` nothing runs until the first request, which waits for the app to start, and nothing again once all workers
#' have idled: such an app costs nothing while nobody calls it. It counts as ready. Whether its code is good shows only then:
#' if no worker starts, requests get 503, and after `shrink_after` the next request tries again.
#'
#' All pools together have at most `max_workers`; by default, as many as fit into the memory that is left, by what workers
#' that run need: requests then wait in the queue, and the machine does not swap. With `preload`, more workers are
#' there in milliseconds. Each decision is a line in the log, and is counted in the metric `faucet_scalings_total`.
#'
#' @section Several apps:
#' With a named vector or list, `run()` serves several apps behind one address: the names are routes, such as `"/sales"`, and
#' each is a directory or a [pool()] with settings of its own. Settings that are given to `run()` then hold for each pool,
#' so that `workers = 2` are two for each. The server is ready once each pool has a worker; a pool that does not start is tried
#' again while the others serve, and only if none starts `run()` fails.
#'
#' The same can be a file, `run("faucet.yml")`. Its keys are settings, and `pools`; paths are relative to it:
#'
#' ```yaml
#' port: 8080
#' workers: 2
#' pools:
#'   /: site
#'   /sales:
#'     dir: apis/sales
#'     timeout: 60
#'   /old:
#'     url: http://old.default.svc:8000
#' ```
#'
#' `$reload()`, and a HUP signal, read it again: pools that are new in it are added, those that are not in it any more are
#' removed, those whose settings differ are replaced, and the others reload. If it cannot be read, all stays as it was.
#' Settings of the server itself, such as `port`, hold from its start.
#'
#' @section Unix sockets:
#' With `host = "unix:/run/app.sock"` the server listens on a Unix socket in place of a port, as for nginx on the same machine;
#' `port` then does not count, and `$url` is `"unix:/run/app.sock"`. The path has up to 107 bytes, and a relative one is from the
#' working directory. A socket that a dead server has left is replaced; if one listens there, that is
#' `faucet_error_port_in_use`. Who may write to the socket may connect: its mode is what the `umask` leaves of 777, by default
#' its owner alone. It is removed when the server stops. `"unix:@name"` is a name without a file
#' (Linux), where every user of the machine may connect.
#'
#' Whoever connects has no address. In the access log it is `unix:`, as in nginx's, and what it says of its client is believed
#' if `"unix:"` is one of `trusted_proxies`. `req$SERVER_NAME` and `req$SERVER_PORT` are `localhost` and `80`.
#'
#' @section TLS:
#' With `tls = list(cert = "cert.pem", key = "key.pem")` clients come by `https://`, with HTTP/2 or HTTP/1.1 as they wish, TLS 1.3
#' or 1.2; `$url` and the log say so. Both are files in PEM form: `cert` has the server's certificate, then those between it and
#' its CA, as nginx takes them; the `key` is not encrypted. What is wrong with them is `faucet_error_option` before anything
#' starts. With `client_ca = "ca.pem"` only clients that have a certificate by that CA are served.
#'
#' `$reload()`, and a HUP signal, read the files again, as after a renewal: new connections get the new certificate, those that
#' are open stay, and the log says so. Files that cannot be used are `faucet_error_reload`, or a line in the log, and what was
#' read before stays in use. A certificate that has expired is a warning in the log.
#'
#' A client that speaks HTTP without TLS gets 400, which says so. A handshake that is not finished within `header_timeout` is
#' ended; one that fails is counted in `faucet_tls_failures_total`, and the log has a line at most every 10 seconds. Apps see
#' `X-Forwarded-Proto: https`, in native workers also as `req$rook.url_scheme`, and the cookie of a session (`sticky`) is for TLS
#' alone. TLS is for `port`: a Unix socket has none, and the admin port has none either, so leave that on loopback or a
#' Unix socket. [run_hub()] speaks it to workers that dial in, too, and asks them for no certificate: they have a token.
#'
#' @section Under systemd:
#' The server tells systemd (`Type=notify`) when it is ready, reloads and stops, how many workers there are, and, with
#' `WatchdogSec=`, that it lives. If systemd opens its sockets (a `.socket` unit), it listens on these: then `host` and `port` do
#' not count, and the log says so. A socket with `FileDescriptorName=admin` is the admin port's. See
#' `vignette("deploy", package = "faucet")`.
#'
#' @section Reloading when files change:
#' With `watch = TRUE`, for developing, a pool reloads when a file of its app changes: in its directory, and in those below
#' it, and once nothing has changed for 0.2 s. The log names the file. If the new code does not start, the old code serves on,
#' and the log says why, until the next change. A change during a reload leads to one more after it.
#'
#' Looked at are files that are read when an app starts, by their endings: code (`.R`, `.Rmd`, `.qmd`, `.Rnw`, `.py`, `.sql`,
#' `.stan`, `.c`, `.cc`, `.cpp`, `.h`, `.hpp`), settings (`.yml`, `.yaml`, `.toml`, `.json`, `.ini`, `.conf`, `.cfg`, `.env`)
#' and pages (`.html`, `.htm`, `.css`, `.scss`, `.sass`, `.js`, `.mjs`); and `.env`, `.env.*`, `.Renviron`, `.Rprofile`,
#' `DESCRIPTION`, `NAMESPACE` and `renv.lock`. Data, such as `.rds` or `.csv`, is not, as apps write it, and neither is what
#' is in `renv`, `packrat`, `node_modules`, `rsconnect`, `_site`, `_book`, `_freeze`, directories that end in `_files` or
#' `_cache`, and those whose names begin with a dot, such as `.git` and `.Rproj.user`. A file that an app writes each time that
#' it starts is found out after eight reloads, and leads to no further one. An app that writes such files while it serves
#' should do so in a directory of its own elsewhere.
#'
#' Of a server that was started from a configuration file, a change of that file does what a HUP signal does.
#'
#' On Linux the system tells of changes. Where it does not, as on macOS, or once there are more directories than
#' `fs.inotify.max_user_watches` allows, the files are looked at every 2 seconds; the log says so. A file system of another
#' machine, such as NFS, tells only of what is changed on this one.
#'
#' @param dir Directory with the API, or one file of R code, `"api.R"`; or several of them, or [pool()]s, by route; or a
#'   configuration file, `"faucet.yml"`.
#' @param app Instead of code in `dir`: a plumber router, or a function of a request. To be named: `run(app = router)`.
#' @param workers Number of R processes. By default as many as there are usable cores, in a
#'   container those of its quota. Two numbers, such as `c(1, 8)`, let it follow what there is to do.
#' @param host Address to listen on, by default `"127.0.0.1"`. `"0.0.0.0"` takes requests from
#'   other machines, `"unix:/run/app.sock"` is a Unix socket.
#' @param port Port to listen on, by default 8080. `0` takes any free one: see the handle's `$url`.
#' @param block Whether to wait until the server has stopped.
#' @param ... Further settings, by name: see [`faucet-options`]. There are limits (`queue`,
#'   `max_body`, ...), times in seconds (`timeout`, `boot_timeout`, `shutdown_timeout`, ...),
#'   recycling (`max_requests`, `max_memory`), the kind of workers (`worker_type`, `compile`, `cancel`, `preload`), operation
#'   (`admin_port`, `access_log`) and `quiet`.
#'   `workers`, `host` and `port` too can come from options and the environment.
#' @param worker_type Kind of workers, by default `"auto"`: see [`faucet-options`].
#'
#' @return A handle of class [faucet_server]: with `block = FALSE` that of the running server, with
#'   `block = TRUE`, invisibly, that of the stopped one.
#'
#' @section Error conditions:
#' All inherit from `faucet_error`. The first six are raised before anything starts.
#'
#' - `faucet_error_dir`: `dir` does not exist, or holds nothing that faucet can run.
#' - `faucet_error_config`: something is wrong in a configuration file. Fields `file`, `line` and `keys`: where.
#' - `faucet_error_app`: `app` is none of what it may be, or cannot be copied.
#' - `faucet_error_option`: a setting is unknown or has a value that it does not take. Field `option`: its name.
#' - `faucet_error_port_in_use`: somebody else, or another server of this session, listens on `port`, or on the Unix socket.
#' - `faucet_error_listen`: `host` is no address of this machine, or `port` needs privileges; there cannot be such a Unix socket;
#'   or what systemd passes is none that listens.
#' - `faucet_error_boot`: no worker, or no template, could be started: it failed, was not ready within `boot_timeout`,
#'   or cannot be native as `worker_type = "native"` asks.
#'   Field `lines`: the last lines that R wrote. The message has them only if they were not printed just before.
#'
#' @seealso [pool()] for several apps, [`faucet-options`] for all settings, [faucet_server] for the handle; [stream()],
#'   [shield()] and [after_fork()] for the code of an API; [run_k8s()], once one machine is not enough.
#' @export
#' @examples
#' api <- system.file("examples", "hello", package = "faucet")
#'
#' \dontrun{
#' # Serves on http://127.0.0.1:8080 until Ctrl-C
#' run(api, workers = 4)
#'
#' # Beside this session
#' server <- run(api, workers = 2, port = 0, block = FALSE)
#' server
#' server$reload()
#' server$stop()
#'
#' # Several apps
#' run(c("/" = "site", "/sales" = "apis/sales"))
#'
#' # An R object instead of files
#' run(app = function(req) {
#'   list(status = 200L, headers = list("Content-Type" = "text/plain"), body = req$PATH_INFO)
#' })
#' }
run <- function(dir = ".", workers = NULL, host = NULL, port = NULL, block = TRUE, ..., app = NULL, worker_type = NULL) {
  call <- rlang::current_env()
  refuse_partial_names("run", run, sys.call(), parent.frame(), call = call)
  given <- given_settings(list(workers = workers, worker_type = worker_type, host = host, port = port), list(...))
  check_block(block, call = call)
  refuse_app_object(dir, "run", call = call)
  config <- if (is.null(app) && is_config(dir)) read_config(dir, given, call = call)
  settings <- resolve_settings(config$given %||% given, "run", call = call)
  if (!is.null(config)) {
    settings$pools <- config$pools
    # From where it is now, wherever the session goes.
    file <- absolute_path(dir)
    settings$config <- function() read_config(file, given)$pools
    if (any(vapply(config$pools, function(pool) isTRUE(pool$watch), NA))) settings$watched_config <- file
  } else if (is.null(app) && is_routes(dir)) {
    settings$pools <- resolve_pools(dir, given, call = call)
  } else {
    settings$pools <- only_pool(if (is.null(app)) list(dir = dir) else list(dir = dir, app = app), given, call = call)
  }
  shared <- config$given %||% given
  settings$given <- shared[intersect(names(shared), pool_settings)]
  serve(settings, block, call = call)
}

# What there is at a path that `run()` is given: a "directory", or a "script", which is one file of R code. NULL if it is
# neither.
content_of <- function(path) {
  if (dir.exists(path)) {
    "directory"
  } else if (grepl("[.]R$", path, ignore.case = TRUE) && file.exists(path)) {
    "script"
  }
}

# The directory that workers run in, the file in it that they run if they need not look for one (absolute paths), and what of
# Shiny they run, as find_shiny() has it.
find_app <- function(path, call = NULL) {
  if (rlang::is_string(path) && identical(content_of(path), "script")) {
    file <- absolute_path(path)
    shiny <- if (is_shiny_script(file)) list(document = basename(file))
    list(dir = dirname(file), file = if (is.null(shiny)) file, shiny = shiny)
  } else {
    dir <- check_app(path, call = call)
    list(dir = dir, file = NULL, shiny = find_shiny(dir, call = call))
  }
}

# The absolute path of a directory that holds something to run.
check_app <- function(dir, call = NULL) {
  path <- check_dir(dir, call = call)
  if (!any(app_files() %in% tolower(list.files(dir))) && is.null(find_shiny(path, call = call))) {
    abort("dir", c(
      "There is nothing to run in {.path {dir}}.",
      i = "It must hold {.file _server.yml}, {.file entrypoint.R} or {.file plumber.R}.",
      i = "Of Shiny, {.file app.R}, {.file server.R}, or an R Markdown or Quarto document that needs it."
    ), dir = dir, call = call)
  }
  path
}

# The absolute path of a directory.
check_dir <- function(dir, call = NULL) {
  if (!rlang::is_string(dir) || !nzchar(dir)) {
    got <- describe_value(dir)
    abort("dir", "{.arg dir} must be the path of one directory, not {got}.", call = call)
  }
  if (!dir.exists(dir)) {
    what <- if (grepl("[.]R$", dir, ignore.case = TRUE) && !file.exists(dir)) "file" else "directory"
    hint <- no_directory_hint(dir)
    abort("dir", c("There is no {what} {.path {dir}}.", i = hint), dir = dir, call = call)
  }
  absolute_path(dir)
}

no_directory_hint <- function(dir) {
  if (file.exists(dir)) {
    "It is a file: pass the directory that holds it, or a file of R code to {.fun run}."
  } else if (is_url(dir)) {
    "{.fun faucet::run_k8s} serves what runs at a URL."
  } else if (!is_absolute(dir)) {
    "The working directory is {.path {getwd()}}."
  }
}

# Links stay as they are: a link to the current release may point to the next one when the server reloads.
absolute_path <- function(path) {
  path <- path.expand(path)
  if (path == ".") {
    getwd()
  } else if (is_absolute(path)) {
    path
  } else {
    file.path(getwd(), path)
  }
}

# In lower case: as for plumber, names count in any case.
app_files <- function() {
  c("_server.yml", "entrypoint.r", "plumber.r")
}

is_absolute <- function(path) {
  grepl("^([/~\\\\]|[A-Za-z]:)", path)
}

is_url <- function(path) {
  grepl("^[A-Za-z][A-Za-z0-9+.-]*://", path)
}

warn_of_preload <- function(preload, system = Sys.info()[["sysname"]]) {
  if (preload && system == "Darwin") {
    rlang::warn(
      c(
        "Preloading is not safe on macOS.",
        i = "Its system libraries may fail in forked processes: use `preload = TRUE` there for trying only."
      ),
      class = "faucet_warning_preload"
    )
  }
}

# As Rscript would run it: profiles are read (renv needs them), a saved workspace is not.
worker_command <- function() {
  r <- file.path(R.home("bin"), if (.Platform$OS.type == "windows") "Rterm.exe" else "R")
  script <- system.file("worker", "worker.R", package = "faucet", mustWork = TRUE)
  c(r, "--no-echo", "--no-restore", "--no-save", paste0("--file=", script))
}

worker_env <- function() {
  c(
    R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep),
    # R CMD check sets it to a file of its own, which no other R process finds.
    R_TESTS = "",
    FAUCET_LIB = getNamespaceInfo("faucet", "DLLs")[["faucet"]][["path"]]
  )
}
