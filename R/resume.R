# Lets plumber go on with a request where a compiled route has come to what is not plain: an error, a promise, forward(), a value
# or a response of another kind. All of it is plumber's own code, `serve()` and `route()`, called with a filter in the place of
# what has run already, that yields what it has yielded.

# The response. `stage` is where it stands: at the "arguments" or the "handler", which has `failed`; the "serializer", which has
# failed with `value`; or the "value".
resume <- function(call, plan, app, exec, stage, value, failed) {
  if (is.null(call$req)) complete_request(call)
  if (is.null(call$res)) complete_response(call, plan)
  put_back <- with_first_path(call)
  yield <- function(req, res) {
    put_back()
    if (stage %in% c("arguments", "handler")) stop(failed)
    if (stage == "serializer") res$serializer <- failing_serializer(plan$serializer, failed)
    if (exec$forward) asNamespace("plumber")$forward()
    # From now on it is for what the handler has left for later.
    exec$forward <- FALSE
    yielded(run_late_hooks(plan, req, res, value), exec)
  }
  routers <- plan$place$routers
  route <- resumed_route(routers[[length(routers)]], yield, plan$place$filter, plan$place$filters)
  # Those that it is mounted in wait for it.
  for (router in rev(routers[-length(routers)])) route <- resumed_route(router, route, Inf, 0L)
  awaited(resumed_serve(app, route)(call$req, call$res))
}

# Routers go by the path that a request has when it comes, whatever its handler has made of that. Returns what puts this back.
with_first_path <- function(call) {
  req <- call$req
  first <- call$path_info %||% current_fields()[["PATH_INFO"]]
  left <- req$PATH_INFO
  if (identical(left, first)) {
    return(function() NULL)
  }
  req$PATH_INFO <- first
  function() if (is.null(left)) rm("PATH_INFO", envir = req) else req$PATH_INFO <- left
}

# What a handler has returned, if what it has left for later calls forward() on the way there.
yielded <- function(value, exec) {
  if (!promises::is.promising(value)) {
    return(value)
  }
  forward <- asNamespace("plumber")$forward
  promises::then(value, function(value) {
    if (exec$forward) forward()
    value
  })
}

# Those that a handler has registered to run after itself.
run_late_hooks <- function(plan, req, res, value) {
  private <- plan$private
  if (identical(private$hooks, plan$hooks)) {
    return(value)
  }
  run <- function(value) {
    given <- list(data = new.env(parent = emptyenv()), value = value, req = req, res = res)
    private$runHooks("postexec", c(given, req$args))
  }
  if (promises::is.promising(value)) promises::then(value, run) else run(value)
}

# The same serializer, whose function has failed already.
failing_serializer <- function(serializer, failed) {
  failing <- list(serialize_fn = function(val) stop(failed))
  environment(serializer) <- list2env(failing, parent = environment(serializer))
  serializer
}

# The way of a router from before the filter with the number `at` on, where `yield` yields first; 0 is before what preempts all.
# It had `count` filters when it was compiled.
resumed_route <- function(router, yield, at, count) {
  private <- private_of(router)
  # Without those that the handler has added.
  filters <- utils::head(private$filts, count)
  rest <- filters[seq_along(filters) >= at]
  # The handlers that preempt that filter have had their turn.
  later <- vapply(filters[seq_along(filters) > at], function(filter) filter$name, "")
  ends <- private$ends[names(private$ends) %in% c(later, if (at <= count) "__no-preempt__")]
  names <- c("mnts", "default_parsers", "notFoundHandler", "errorHandler")
  fields <- stats::setNames(lapply(names, function(name) private[[name]]), names)
  yielding <- list(name = "", exec = yield, serializer = NULL)
  fields$ends <- ends
  fields$filts <- c(list(yielding), rest)
  rebound(router$route, private = fields)
}

# serve() of a router, after what comes before routing.
resumed_serve <- function(app, route) {
  private <- private_of(app)
  run_hooks <- function(stage, args) if (stage != "preroute") private$runHooks(stage, args)
  rebound(app$serve, self = list(route = route), private = list(runHooks = run_hooks, errorHandler = private$errorHandler))
}

# A method with other variables of these names.
rebound <- function(method, ...) {
  environment(method) <- list2env(list(...), parent = environment(method))
  method
}
