#' An app among several behind one address
#'
#' Says what [run()] is to serve at one route, and how. Each such app is a pool: it has workers, a queue, limits and a
#' life
#' of its own. Whatever befalls one pool, the others serve on.
#'
#' @section Routes:
#' A route is a path, such as `"/sales"`, or a host and a path, such as `"sales.example.com/"`. A request goes to the
#' pool
#' with the longest route that its path begins with, on the borders of segments: `"/sales"` takes `/sales` and
#' `/sales/2024`, but
#' not `/salesman`. Routes of a host go before those of every host. What no route takes is answered with 404, and
#' `Faucet-Error: no_route`.
#'
#' The route's path is taken off: the app at `"/sales"` sees a request for `/sales/2024` as one for `/2024`. It finds
#' `/sales` in the
#' header `X-Forwarded-Prefix`, and in native workers in `req$SCRIPT_NAME`, too. A browser that opens `/sales` is sent
#' on to
#' `/sales/`, so that a page's relative links lead to where they should.
#'
#' @section Sessions:
#' What a Shiny app knows of a client is in one R process, and so it is in any app that keeps it in a variable. With
#' `sticky = TRUE`, the default for Shiny, a client stays with one worker: a cookie of faucet's own names the worker, signed, so
#' that nobody can make one up. The app does not see it. A session is a *browser*: all its tabs are one.
#'
#' - Each worker has `slots` sessions at most. A new one goes to the worker that has the fewest. When all are full, it waits in
#'   the queue as requests do (`queue`, `queue_timeout`); those that are there go on.
#' - A session lasts while it has a request or a WebSocket, and `session_timeout` longer, so that a page can be loaded anew. After
#'   that its slot is free; a client that comes back later finds its worker again if that is not full.
#' - Inside one Shiny process, sessions share R, as Shiny wants it: while R computes for one of them, the others wait. With
#'   `slots = 1` each has a process of its own; `workers` are then how many there can be. Requests of one worker's sessions may be
#'   sent at the same time (32 at most), as a browser loads the parts of a page: httpuv hands them to R one after the other, and
#'   serves static files beside that. A native worker gets one request at a time, as ever.
#' - A worker that leaves (a reload, `max_requests`, fewer workers) takes no new sessions, and waits for its own up to
#'   `drain_timeout`. A page that is loaded anew goes to a new worker at once, unless another tab of the same browser has a
#'   WebSocket to the old one. A pool that is removed waits as long as `$remove_pool()` says; one that a configuration file
#'   replaces or leaves out goes when its sessions have ended. A server that stops finishes requests, and does not wait for open
#'   pages.
#' - When a worker is gone, its WebSockets are closed with a close frame (1001), upon which Shiny shows its grey screen; the next
#'   request begins a new session. How many it were is in the log.
#' - `timeout` gives a client 504, but its worker, if it is of type `http`, is not replaced, as others have their sessions
#'   there. It gets no new sessions, and their requests wait, until it answers again.
#'
#' Cookies are for a host, whatever the port, and for the route's path; on a page of another site (in a frame) browsers do not
#' send them (`SameSite=Lax`). With `tls`, or behind a proxy that speaks TLS and is one of `trusted_proxies`, they are for TLS
#' alone.
#'
#' @param dir Directory with the API, or one file of R code, as for [run()].
#' @param ... Settings of this pool, by name, such as `workers`, `timeout`, `queue` or `preload`: see
#'   [`faucet-options`]. What is not
#'   given here is as `run()` was told, or as options and the environment have it. Those that are the whole server's,
#'   such
#'   as `port`, are given to `run()`.
#' @param app Instead of `dir`: a plumber router, or a function of a request, as for [run()].
#' @param url Instead of `dir`: where replicas run that others start, as for [run_k8s()].
#'
#' @return An object of class `faucet_pool`, for [run()] and for `$add_pool()` of a [faucet_server].
#'
#' @section Error conditions:
#' `faucet_error_option`, `faucet_error_dir` and `faucet_error_app`, as of [run()]. They are raised before anything
#' starts.
#'
#' @seealso [run()]
#' @export
#' @examples
#' pool("apis/sales", workers = 2, timeout = 60)
#'
#' \dontrun{
#' run(list(
#'   "/" = "site",
#'   "/sales" = pool("apis/sales", workers = 2, timeout = 60),
#'   "/old" = pool(url = "http://old.default.svc:8000"),
#'   "/dashboard" = pool("apps/dashboard", workers = 3, slots = 20)
#' ))
#' }
pool <- function(dir = NULL, ..., app = NULL, url = NULL) {
  call <- rlang::current_env()
  what <- Filter(Negate(is.null), list(dir = dir, app = app, url = url))
  if (length(what) != 1) {
    abort("option", c(
      "A pool takes one of {.arg dir}, {.arg app} and {.arg url}.",
      x = if (length(what) > 1) "It was given {.arg {names(what)}}."
    ), option = "dir", call = call)
  }
  refuse_partial_names("pool", pool, sys.call(), parent.frame(), call = call)
  refuse_app_object(dir, "pool", call = call)
  given <- list(...)
  verb <- if (is.null(url)) "run" else "run_k8s"
  check_setting_names(names(given), given, names(settings_of(verb)), verb, call = call)
  servers <- setdiff(names(given), pool_settings)
  if (length(servers) > 0) {
    abort("option", c(
      "{.arg {servers[[1]]}} is a setting of the whole server, not of one pool.",
      i = "Give it to {.fun run}."
    ), option = servers[[1]], call = call)
  }
  structure(list(what = what, given = given), class = "faucet_pool")
}

#' @export
format.faucet_pool <- function(x, ...) {
  what <- x$what[[1]]
  paste0("<faucet_pool> ", if (is.character(what)) what else "an R object")
}

#' @export
print.faucet_pool <- function(x, ...) {
  cat(format(x), "\n", sep = "")
  invisible(x)
}

# Settings that each pool has for itself. All others are the server's.
pool_settings <- c(
  "workers", "grow_after", "shrink_after", "worker_type", "compile", "preload", "slots", "refresh", "ready_path", "dns", "queue",
  "queue_timeout", "timeout", "cancel",
  "interrupt_timeout", "boot_timeout", "max_body", "max_requests", "max_memory", "max_failures", "give_up_after",
  "watch",
  "sticky", "session_timeout", "drain_timeout"
)

# Whether `dir` of `run()` says what to serve at several routes.
is_routes <- function(dir) {
  is.list(dir) || (is.character(dir) && !is.null(names(dir)))
}

# The settings of each pool: `routes` is a list, or a character vector, of what to serve, by route. `given` are the settings
# that hold for all of them.
resolve_pools <- function(routes, given = list(), call = NULL) {
  if (length(routes) == 0 || !rlang::is_named(routes)) {
    abort("option", c(
      "Each of several apps must have a route as its name.",
      i = "For example {.code run(c(\"/\" = \"site\", \"/sales\" = \"apis/sales\"))}."
    ), option = "dir", call = call)
  }
  pools <- Map(function(route, what) resolve_pool(route, what, given, call = call), names(routes), as.list(routes))
  twice <- anyDuplicated(pool_routes(pools))
  if (twice > 0) {
    abort("option", "There are two apps for the route {.val {pools[[twice]]$route}}.", option = "dir", call = call)
  }
  unname(pools)
}

pool_routes <- function(pools) {
  vapply(pools, `[[`, "", "route")
}

# The settings of one pool, complete and checked.
resolve_pool <- function(route, what, given = list(), call = NULL) {
  name <- check_route(route, call = call)
  rlang::try_fetch(
    {
      refuse_app_object(what, "pool", call = call)
      if (rlang::is_string(what)) what <- pool(what)
      if (!inherits(what, "faucet_pool")) {
        got <- describe_value(what)
        abort("option", "It must be a directory or a {.fun pool}, not {got}.", option = "dir", call = call)
      }
      complete_pool(name, what, given, call = call)
    },
    faucet_error = function(error) {
      error$message <- paste0("Pool \"", name, "\": ", error$message)
      rlang::cnd_signal(error)
    }
  )
}

# The same of what `pool()` was told: `what` it serves, and settings of its own.
complete_pool <- function(route, pool, given, verb = if (is.null(pool$what$url)) "run" else "run_k8s", call = NULL) {
  known <- intersect(pool_settings, names(settings_of(verb)))
  shared <- given[intersect(names(given), known)]
  settings <- resolve_settings(utils::modifyList(shared, pool$given, keep.null = TRUE), verb, call = call)
  warn_of_preload(isTRUE(settings$preload))
  # Forking takes milliseconds.
  if (isTRUE(settings$preload) && !is_set("grow_after", names(shared), names(pool$given))) settings$grow_after <- 0.1
  if (isTRUE(settings$watch) && !is.null(pool$what$app)) {
    abort("option", c(
      "{.arg watch} watches the files of an app, and an R object has none: workers get the same copy after each reload.",
      i = "Put the app's code into a directory, or leave {.arg watch} out."
    ), option = "watch", call = call)
  }
  served <- served(pool$what, call = call)
  if (verb == "run") settings <- settle_sticky(settings, pool$given, served$shiny, call = call)
  if (verb == "run_worker") refuse_shiny(served$shiny, call = call)
  c(list(route = route), settings[known], served[names(served) != "shiny"])
}

# The only pool of a server, at the root.
only_pool <- function(what, given, ..., call = NULL) {
  own <- given[intersect(names(given), pool_settings)]
  list(complete_pool("/", list(what = what, given = own), given, ..., call = call))
}

# What tells the native side what a pool serves.
served <- function(what, call = NULL) {
  if (!is.null(what$url)) {
    return(list(url = check_url(what$url, call = call)))
  }
  if (is.null(what$app)) {
    found <- find_app(what$dir, call = call)
    saved <- NULL
  } else {
    app <- check_app_object(what$app, call = call)
    found <- list(dir = check_dir(what$dir %||% ".", call = call))
    saved <- save_app(app, tempfile("faucet-app-", fileext = ".rds"), call = call)
  }
  list(
    dir = found$dir, file = found$file, app = saved, command = worker_command(),
    env = c(worker_env(), FAUCET_APP = saved, FAUCET_FILE = found$file, FAUCET_DOCUMENT = found$shiny$document),
    shiny = !is.null(found$shiny)
  )
}

# A route in its one form.
check_route <- function(route, call = NULL) {
  problem <- if (rlang::is_string(route)) option_problem("route", route) else "it must be a text"
  if (!is.null(problem)) {
    abort("option", c(
      "{.val {route}} is not a route.",
      x = "{problem}",
      i = "A route looks like {.val /sales} or {.val sales.example.com/}."
    ), option = "route", value = route, call = call)
  }
  route_name(route)
}
