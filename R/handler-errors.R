# What the log says of an error that a handler raises: which request it was, so that it is found among the others.

# The fields of the request in hand. A native worker has one at a time.
current <- new.env(parent = emptyenv())

# For a compiled route they are made when somebody asks for them.
current_fields <- function() {
  if (is.null(current$fields)) current$fields <- serve_fields()$fields
  current$fields
}

# "error in GET /sales/2024 (request 7f3a): ". What comes from the client stays in one line.
error_head <- function(fields = current_fields()) {
  path <- encodeString(paste0(fields$HTTP_X_FORWARDED_PREFIX, fields$PATH_INFO))
  id <- fields$HTTP_X_REQUEST_ID
  paste0("error in ", fields$REQUEST_METHOD, " ", path, if (!is.null(id)) paste0(" (request ", id, ")"), ": ")
}

# Says what `print(error)` would, as plumber's own handler of errors does, with the request in the first line.
show_handler_error <- function(error, ...) {
  lines <- tryCatch(
    utils::capture.output(print(error, ...)),
    error = function(failure) "(an error that cannot be printed)"
  )
  cat(paste0(error_head(), paste(lines, collapse = "\n"), "\n"), file = stderr())
  invisible(error)
}

# Lets a router and those that are mounted in it say so. Handlers that an app has set itself print what they want.
tell_handler_errors <- function(router) {
  default <- get0("defaultErrorHandler", asNamespace("plumber"), mode = "function")
  # Of another version of plumber, or of a router's own make: then it stays as it is.
  tryCatch(
    {
      handler <- router$.__enclos_env__$private$errorHandler
      if (is.function(default) && is_same_code(handler, default())) {
        environment(handler) <- list2env(list(print = show_handler_error), parent = environment(handler))
        router$setErrorHandler(handler)
      }
      for (mounted in router$mounts) if (inherits(mounted, "Plumber")) tell_handler_errors(mounted)
    },
    error = function(error) NULL
  )
  invisible()
}

is_same_code <- function(one, other) {
  is_same <- function(one, other) identical(one, other, ignore.environment = TRUE, ignore.bytecode = TRUE)
  # Most functions have no source with them, which takes its time to remove.
  is.function(one) && is.function(other) && (is_same(one, other) ||
    is_same(utils::removeSource(one), utils::removeSource(other)))
}
