#' Which routes of an API are compiled
#'
#' A native worker reads its plumber router when it starts. Routes that are plain it compiles: their requests are answered
#' without plumber's own way through filters, hooks and parsers, with the same bytes, and sooner. All others take plumber's
#' way. `compiled_routes()` tells which are which, and why.
#'
#' For files and for a router, one worker is started as [run()] starts it, asked, and stopped again: the app's code runs. It
#' goes by the settings that options and environment have, so that with `FAUCET_COMPILE=false` nothing is compiled.
#'
#' @param app Directory with the API, or one file of R code, as for [run()]; or a plumber router; or a running server, which
#'   tells what its workers have told when they started, the last of them counting.
#' @param pool Of a server with several pools: which one, by its route.
#'
#' @return A data frame of class `faucet_routes`, with a row for each route, in the order in which plumber looks for them:
#'
#'   - `method` (character): `"GET"`, or several, `"GET, POST"`.
#'   - `path` (character): with the prefix of the mount that it is in.
#'   - `compiled` (logical).
#'   - `why` (character): why it is not. `NA` if it is.
#'
#'   A worker tells of as many routes as fit into 1 MiB.
#'
#' @section Error conditions:
#' - `faucet_error_unsupported`: there are no routes to tell of. The app is no plumber router, or its workers are not native, or
#'   they are elsewhere, or none has started yet. Field `lines`: the last lines that R wrote.
#' - `faucet_error_boot`: the app does not start. Field `lines`: the last lines that R wrote.
#' - `faucet_error_dir`, `faucet_error_app` and `faucet_error_option`, as of [run()].
#' - `faucet_error_handle`, as of a [faucet_server].
#'
#' @seealso The setting `compile` in [`faucet-options`]; the column `compiled` of `$status()` of a [faucet_server].
#' @export
#' @examples
#' \dontrun{
#' compiled_routes("api")
#'
#' server <- run("api", workers = 2, port = 0, block = FALSE)
#' compiled_routes(server)
#' server$stop()
#' }
compiled_routes <- function(app = ".", pool = NULL) {
  call <- rlang::current_env()
  if (!is.null(pool)) pool <- check_route(pool, call = call)
  if (inherits(app, "faucet_server")) {
    return(routes_of_server(app$.__enclos_env__$private$link, pool, call = call))
  }
  if (!is.null(pool) || (!is_app_object(app) && (is_routes(app) || is_config(app)))) {
    abort("option", c(
      "{.fun compiled_routes} starts one app.",
      i = "Of a server with several pools: {.code compiled_routes(server, pool = \"/sales\")}."
    ), option = if (is.null(pool)) "app" else "pool", call = call)
  }
  server <- start_to_ask(app, call = call)
  on.exit(server$stop())
  link <- server$.__enclos_env__$private$link
  # Without the worker's number, as there is no other.
  routes_of_server(link, lines = function() sub("^\\[[^]]*\\] ", "", link$lines), call = call)
}

# A server that nobody hears of, with one worker.
start_to_ask <- function(app, call = NULL) {
  given <- list(
    workers = 1, worker_type = "auto", preload = FALSE, watch = FALSE, host = "127.0.0.1", port = 0, tls = NULL,
    admin_host = "127.0.0.1", admin_port = NULL, access_log = "none", log_file = NULL, otlp = NULL, quiet = TRUE
  )
  settings <- resolve_settings(given, "run", call = call)
  settings$pools <- only_pool(if (is_app_object(app)) list(dir = ".", app = app) else list(dir = app), given, call = call)
  serve(settings, block = FALSE, call = call)
}

# `lines` are to tell why nothing is known.
routes_of_server <- function(link, pool = NULL, lines = function() NULL, call = NULL) {
  # Also shows the log, as each use of the handle does.
  state <- server_state(link, call = call)
  pools <- state$pools
  if (!is.null(pool) && !pool %in% pools) {
    abort("option", "There is no pool {.val {pool}}.", option = "pool", call = call)
  }
  if (is.null(pool) && length(pools) > 1) {
    abort("option", c("{.arg pool} must say which pool.", i = "There are {.val {pools}}."), option = "pool", call = call)
  }
  known <- check_result(server_routes(link$handle), call = call)
  if (!any(known$pools %in% (pool %||% pools))) {
    why <- "No routes are known: only native workers tell of them, when they start, and only of those of a plumber router."
    raise_failure(list(class = "unsupported", message = why, lines = lines()), call = call)
  }
  is_asked <- known$pool %in% (pool %||% pools)
  routes <- data.frame(known[c("method", "path", "compiled", "why")], stringsAsFactors = FALSE)[is_asked, ]
  rownames(routes) <- NULL
  structure(routes, class = c("faucet_routes", "data.frame"))
}

#' @export
print.faucet_routes <- function(x, ...) {
  cat(paste0(format(x, ...), "\n"), sep = "")
  invisible(x)
}

#' @export
format.faucet_routes <- function(x, ...) {
  if (!all(c("method", "path", "compiled", "why") %in% names(x))) {
    return(utils::capture.output(print(as.data.frame(unclass(x)))))
  }
  title <- paste0(
    cli::col_grey("<faucet_routes> "), sum(x$compiled), " of ", count_of(nrow(x), "route"), if (nrow(x) == 1) " is" else " are",
    " compiled"
  )
  if (nrow(x) == 0) {
    return(title)
  }
  mark <- ifelse(x$compiled, cli::col_green(cli::symbol$tick), cli::col_yellow(cli::symbol$cross))
  # One that is compiled has no reason, and no spaces in its place.
  why <- ifelse(x$compiled, "", paste0("  ", cli::col_grey(x$why)))
  path <- ifelse(x$compiled, x$path, format(x$path))
  c(title, paste0(mark, " ", format(x$method), "  ", path, why))
}

# The app's routes and which of them are compiled, as JSON in one line; NULL for other apps than routers. What does not fit into
# `most` bytes is left out: the front reads no more than 1 MiB. Nor are there those that plumber adds for its documentation.
routes_of <- function(app, routes, most = 1024^2 - 64) {
  if (is.null(routes)) {
    return(NULL)
  }
  if (!is.null(docs_of(app))) routes <- routes[!grepl("^/(openapi[.]json$|__(docs|swagger)__/)", routes$path), ]
  # Each has what comes between it and the next.
  lines <- vapply(seq_len(nrow(routes)), function(i) route_json(routes[i, ]), "")
  fits <- cumsum(nchar(lines, "bytes") + 1) <= most
  paste0("[", paste(lines[fits], collapse = ","), "]")
}

route_json <- function(route) {
  # Bytes that are no text would make all of it none.
  text <- function(x) if (!is.na(x)) iconv(enc2utf8(x), "UTF-8", "UTF-8", sub = "byte")
  as_json(list(method = text(route$method), path = text(route$path), compiled = route$compiled, why = text(route$why)))
}
