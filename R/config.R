# A configuration file: what `run("faucet.yml")` serves. Its keys are settings, which hold for the server and for all pools,
# and `pools`: by route, a directory, or settings with `dir` or `url`. Paths are relative to the file.

is_config <- function(dir) {
  rlang::is_string(dir) && grepl("[.]ya?ml$", dir, ignore.case = TRUE) && !dir.exists(dir)
}

# The settings that it gives, as if they were arguments, and the pools by route. `given` are arguments, which come first.
read_config <- function(path, given = list(), call = NULL) {
  path <- check_config_path(path, call = call)
  text <- readLines(path, warn = FALSE, encoding = "UTF-8")
  where <- config_lines(text)
  complain <- function(keys, message) config_error(path, where, keys, message, call = call)
  config <- tryCatch(
    parse_yaml(paste(text, collapse = "\n")),
    error = function(error) complain(character(), conditionMessage(error))
  )
  if (!rlang::is_named(config) || !is.list(config)) {
    complain(character(), "It must have keys, one of which is `pools`.")
  }
  pools <- config$pools
  if (!is.list(pools) || !rlang::is_named(pools)) {
    complain("pools", "`pools` must be a mapping from routes, such as `/sales`, to directories or settings.")
  }
  if (rlang::is_string(config$log_file)) config$log_file <- beside(path, config$log_file)
  for (name in c("host", "admin_host")) {
    if (is_socket_path(config[[name]])) {
      config[[name]] <- paste0("unix:", beside(path, sub("^unix:", "", config[[name]])))
    }
  }
  # One list takes the place of the other as a whole.
  if ("tls" %in% names(given)) config$tls <- NULL
  if (is.list(config$tls)) {
    config$tls <- lapply(config$tls, function(file) if (rlang::is_string(file)) beside(path, file) else file)
  }
  settings <- utils::modifyList(config[names(config) != "pools"], given)
  # Found here, where it is known in which line they are.
  locate(complain, character(), resolve_settings(settings, "run", call = call))
  list(
    given = settings,
    pools = config_pools(pools, settings[intersect(names(settings), pool_settings)], path, complain, call = call)
  )
}

# No code in it is run. YAML's rules make a number of a dot alone, which is a folder's name: `dir: .`.
parse_yaml <- function(text) {
  dot_or_number <- function(text) if (text == ".") text else as.numeric(text)
  yaml::yaml.load(text, eval.expr = FALSE, handlers = list("float#fix" = dot_or_number))
}

# The settings of each pool, complete and checked.
config_pools <- function(pools, given, path, complain, call = NULL) {
  resolved <- Map(function(route, what) {
    locate(complain, c("pools", route), {
      if (is.list(what)) {
        if (rlang::is_string(what$dir)) what$dir <- beside(path, what$dir)
        if ("app" %in% names(what)) {
          abort("option", "A file cannot hold an R object: give {.field dir} or {.field url}.", option = "app", call = call)
        }
        what <- do.call(pool, what)
      } else if (rlang::is_string(what)) {
        what <- beside(path, what)
      }
      resolve_pool(route, what, given, call = call)
    })
  }, names(pools), pools)
  twice <- anyDuplicated(pool_routes(resolved))
  if (twice > 0) {
    name <- resolved[[twice]]$route
    complain(c("pools", names(pools)[[twice]]), paste0("There is another app for the route \"", name, "\"."))
  }
  unname(resolved)
}

# Evaluates `code`; an error of faucet's says in which line of the file its reason is.
locate <- function(complain, keys, code) {
  rlang::try_fetch(code, faucet_error = function(error) {
    option <- error$option
    deeper <- if (rlang::is_string(option) && !is.na(option)) option
    complain(c(keys, deeper), conditionMessage(error))
  })
}

check_config_path <- function(path, call = NULL) {
  if (!file.exists(path)) {
    abort("dir", c(
      "There is no file {.path {path}}.",
      i = if (!is_absolute(path)) "The working directory is {.path {getwd()}}."
    ), dir = path, call = call)
  }
  absolute_path(path)
}

# Whether a host is a Unix socket in the file system: `unix:@name` is none.
is_socket_path <- function(host) {
  rlang::is_string(host) && grepl("^unix:[^@]", host)
}

# A path in the file, from where the file is.
beside <- function(file, path) {
  path <- path.expand(path)
  if (is_absolute(path) || is_url(path)) path else file.path(dirname(file), path)
}

# `keys` lead to what is wrong; a deeper one that is not in the file is left out.
config_error <- function(path, where, keys, message, call = NULL) {
  while (length(keys) > 0 && is.null(where[[config_key(keys)]])) {
    keys <- keys[-length(keys)]
  }
  line <- if (length(keys) > 0) where[[config_key(keys)]]
  place <- paste(c(path, line), collapse = ":")
  key <- if (length(keys) > 0) paste0(" (", paste(keys, collapse = ", "), ")")
  rlang::abort(
    paste0(place, key, ": ", message),
    class = error_class("config"), file = path, line = line, keys = keys, call = call, trace = trace_to(call)
  )
}

config_key <- function(keys) {
  paste(keys, collapse = "\n")
}

# The line of each key of a file in block style: a list by the keys that lead there. (The parser does not tell.)
config_lines <- function(text) {
  pattern <- "^( *)(\"[^\"]*\"|'[^']*'|[^ #:\"'][^:]*|:)[ ]*:( |$)"
  found <- list()
  keys <- character()
  indents <- integer()
  for (line in seq_along(text)) {
    parts <- regmatches(text[[line]], regexec(pattern, text[[line]], useBytes = FALSE))[[1]]
    if (length(parts) == 0) next
    indent <- nchar(parts[[2]])
    outer <- indents < indent
    keys <- c(keys[outer], gsub("^[\"']|[\"']$", "", trimws(parts[[3]])))
    indents <- c(indents[outer], indent)
    key <- config_key(keys)
    if (is.null(found[[key]])) found[[key]] <- line
  }
  found
}
