# A deployed function's worker: what its folder holds becomes a function that is served. All of this runs in a worker's process,
# called by inst/worker/worker.R.

# Serves what the working directory holds under FAUCET_FUNCTION. `file` is the one of its files that defines it; by default
# deploy() has made it.
run_function <- function(file, host, port) {
  name <- Sys.getenv("FAUCET_FUNCTION")
  # A warning is seen when it comes, and not when R is back at its prompt, which is never.
  options(warn = 1)
  app <- if (nzchar(file)) {
    function_app(function_of_file(file, name), name, stream = nzchar(Sys.getenv("FAUCET_FUNCTION_STREAM")))
  } else {
    about <- read_about(name)
    check_versions(about, name)
    for (package in as.character(unlist(about$attached))) attach_package(package, name)
    function_app(function_of_folder(name), name, rds = isTRUE(about$rds), stream = isTRUE(about$stream))
  }
  if (is_template()) serve_forks(app, host) else serve_native(app, host, port)
}

read_about <- function(name) {
  about <- tryCatch(
    yaml::read_yaml("function.json", eval.expr = FALSE),
    error = function(error) stop_function_start(name, "its function.json cannot be read: ", conditionMessage(error))
  )
  if (!is.list(about) || !isTRUE(about$format == 1)) {
    stop_function_start(name, "its function.json has a format that this faucet does not know. It may be of a newer one.")
  }
  about
}

stop_function_start <- function(name, ...) {
  stop("Function '", name, "' cannot be started: ", ..., call. = FALSE)
}

# The same code may do something else in another minor version of R, or with another version of a package.
check_versions <- function(about, name) {
  minor <- function(version) paste(unlist(numeric_version(version))[1:2], collapse = ".")
  here <- as.character(getRversion())
  wrong <- NULL
  if (!is.null(about$r) && !identical(minor(about$r), minor(here))) {
    wrong <- paste0("R ", about$r, " (here is R ", here, ")")
  }
  for (package in names(about$packages)) {
    needed <- about$packages[[package]]
    found <- tryCatch(utils::packageVersion(package), error = function(error) NULL)
    if (is.null(found)) {
      wrong <- c(wrong, paste0(package, " ", needed, " (which is not installed here)"))
    } else if (found != numeric_version(needed)) {
      wrong <- c(wrong, paste0(package, " ", needed, " (here is ", found, ")"))
    }
  }
  if (length(wrong) > 0) {
    stop_function_start(name, "it was deployed with ", paste(wrong, collapse = ", "), ".")
  }
}

attach_package <- function(package, name) {
  tryCatch(
    suppressPackageStartupMessages(library(package, character.only = TRUE, warn.conflicts = FALSE)),
    error = function(error) stop_function_start(name, conditionMessage(error))
  )
}

# The function that deploy() has packed, with its globals.
function_of_folder <- function(name) {
  packed <- tryCatch(
    readRDS("function.rds"),
    error = function(error) stop_function_start(name, "its function.rds cannot be read: ", conditionMessage(error))
  )
  if (!is.list(packed) || !is.function(packed$fun)) stop_function_start(name, "its function.rds holds no function.")
  place_function(packed$fun, packed$globals)
}

# Globals are found before what R's session holds, by the function and by the functions among them.
place_function <- function(fun, globals) {
  home <- list2env(as.list(globals), parent = globalenv())
  for (global in names(globals)) {
    if (is.function(home[[global]])) home[[global]] <- move_home(home[[global]], home)
  }
  move_home(fun, home)
}

# What was defined at top level is now defined in `home`; what was made in a function keeps that one's variables, and finds
# `home` behind them. A package's function stays as it is.
move_home <- function(fun, home) {
  at <- environment(fun)
  if (is.null(at)) {
    return(fun)
  }
  if (identical(at, globalenv())) {
    environment(fun) <- home
    return(fun)
  }
  ends <- list(home, emptyenv(), baseenv())
  while (!isNamespace(at) && !any(vapply(ends, identical, NA, at))) {
    if (identical(parent.env(at), globalenv())) {
      parent.env(at) <- home
    }
    at <- parent.env(at)
  }
  fun
}

# An R file that defines a function of that name, or ends with one.
function_of_file <- function(file, name) {
  home <- new.env(parent = globalenv())
  # An error in it ends this process, and shows where it came from.
  value <- source(file, local = home, encoding = "UTF-8")$value
  found <- get0(name, home, mode = "function", inherits = FALSE)
  if (is.null(found)) found <- value
  if (!is.function(found)) {
    stop_function_start(name, file, " defines no function of that name, and does not end with one.")
  }
  found
}
