# An app that is an R object: taken from this session to the workers by a file.

# Checks `app` and returns it as a Rook app: a plumber router stays as it is.
check_app_object <- function(app, call = NULL) {
  if (is.function(app)) {
    app <- list(call = app)
  }
  if (is.environment(app) && inherits(app, "Plumber")) {
    return(app)
  }
  if (!(is.list(app) || is.environment(app)) || !is.function(app$call)) {
    got <- describe_value(app)
    abort("app", c(
      "{.arg app} must be a function of a request, a plumber router, or a list with a function {.field call}, not {got}.",
      i = "An API in files is served by {.code run(\"directory\")}."
    ), call = call)
  }
  app
}

# Whether this is what only `app` takes.
is_app_object <- function(x) {
  is.function(x) || inherits(x, "Plumber") || ((is.list(x) || is.environment(x)) && is.function(x$call))
}

# Where the path of a directory belongs, `verb` was given an app.
refuse_app_object <- function(x, verb, call = NULL) {
  if (is_app_object(x)) {
    what <- if (is.function(x)) "a function" else if (inherits(x, "Plumber")) "a plumber router" else "an app"
    abort("dir", c(
      "{.arg dir} must be the path of a directory, not {what}.",
      i = "To serve an R object, name the argument: {.code {verb}(app = )}."
    ), call = call)
  }
}

# Writes the app with what it needs of this session: the packages that are attached, and the objects of the global
# environment that it names.
save_app <- function(app, file, call = NULL) {
  packages <- rev(setdiff(.packages(), c("base", "methods", "datasets", "utils", "grDevices", "graphics", "stats")))
  tryCatch(
    saveRDS(list(app = app, packages = packages, globals = needed_globals(app)), file, compress = FALSE),
    error = function(error) {
      abort("app", "{.arg app} cannot be taken to the workers.", parent = error, call = call)
    }
  )
  file
}

# Names show in what an object is serialized to, wherever in it a function mentions them. That one which is mentioned by
# chance is taken along too does no harm.
needed_globals <- function(app, globals = globalenv()) {
  left <- ls(globals, all.names = TRUE)
  left <- setdiff(left, c(".Random.seed", ".Last.value"))
  found <- character()
  bytes <- serialize(app, NULL)
  repeat {
    named <- Filter(function(name) length(grepRaw(name, bytes, fixed = TRUE)) > 0, left)
    if (length(named) == 0) {
      return(mget(found, globals))
    }
    found <- c(found, named)
    left <- setdiff(left, named)
    bytes <- serialize(mget(named, globals), NULL)
  }
}

# In a worker: what was saved, in place, and the app.
load_app <- function(file) {
  saved <- readRDS(file)
  for (package in saved$packages) {
    suppressPackageStartupMessages(library(package, character.only = TRUE, warn.conflicts = FALSE))
  }
  list2env(saved$globals, globalenv())
  saved$app
}

# Serves it until the worker is told to leave.
run_app <- function(file, host, port) {
  app <- load_app(file)
  if (inherits(app, "Plumber")) {
    app$run(host = host, port = port, quiet = TRUE)
  } else {
    # As always in a worker, that is served natively if it can be.
    httpuv::runServer(host, port, app)
  }
}
