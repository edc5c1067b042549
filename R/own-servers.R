# The servers of this session, so that an error can tell of the one that has a port already.

own <- new.env(parent = emptyenv())
own$links <- list()

# Weakly: a server goes with its handle.
remember_server <- function(link) {
  own$links <- c(Filter(function(reference) !is.null(rlang::wref_key(reference)), own$links), rlang::new_weakref(link))
}

# Raises the error of a start that has failed. If a server of this session listens where this one was to, it says which.
raise_start_failure <- function(failure, settings, call = NULL) {
  taken <- if (identical(failure$class, "port_in_use")) taken_by_own(failure$message, settings)
  if (is.null(taken)) {
    raise_failure(failure, call = call)
  }
  setting <- taken$setting
  address <- paste0(settings[[sub("port$", "host", setting)]], ":", settings[[setting]])
  variable <- variable_of(taken$link)
  what <- taken$link$dir %||% taken$link$replicas
  abort("port_in_use", c(
    "Cannot listen on {address}: a server of this session does.",
    i = if (!is.null(variable) && !is.null(what)) "It is {.code {variable}}, and serves {.path {what}}.",
    i = if (is.null(variable) && !is.null(what)) "It serves {.path {what}}.",
    i = if (is.null(variable)) "No variable of the workspace holds its handle: {.code $stop()} of that stops it.",
    i = if (!is.null(variable)) "{.code {variable}$stop()} stops it.",
    i = "With another {.arg {setting}}, or 0 for any free one, both run."
  ), lines = character(), call = call)
}

# The setting that names the port, and the link of the server that has it.
taken_by_own <- function(message, settings) {
  links <- Filter(is_own_and_runs, lapply(own$links, rlang::wref_key))
  for (setting in c("port", "admin_port")) {
    port <- settings[[setting]]
    if (is.null(port) || !grepl(paste0(":", port, ": "), message, fixed = TRUE)) next
    for (link in links) {
      ports <- as.integer(sub("^.*:([0-9]+)/?$", "\\1", grep(":[0-9]+/?$", c(link$url, link$admin_url), value = TRUE)))
      if (port %in% ports) {
        return(list(setting = setting, link = link))
      }
    }
  }
}

is_own_and_runs <- function(link) {
  if (is.null(link)) {
    return(FALSE)
  }
  running <- tryCatch(server_is_running(link$handle), error = function(error) NULL)
  isTRUE(if (is.list(running)) running$running else running)
}

# The name of a variable of the workspace that holds the handle, as code; what was printed last counts as one.
variable_of <- function(link, workspace = globalenv()) {
  names <- Filter(function(name) is_evaluated(name, workspace) && is_handle_of(get(name, workspace), link), ls(workspace))
  if (length(names) > 0) {
    name <- names[[1]]
    if (make.names(name) == name) name else paste0("`", name, "`")
  } else if (is_handle_of(get0(".Last.value", baseenv()), link)) {
    ".Last.value"
  }
}

# Whether a look at a variable runs no code.
is_evaluated <- function(name, env) {
  !bindingIsActive(name, env) && !rlang::env_binding_are_lazy(env, name)
}

is_handle_of <- function(object, link) {
  inherits(object, "faucet_server") && identical(object$.__enclos_env__$private$link, link)
}
