# What is deployed, from arguments: a definition as POST /deploy reads it, and the local folder that it goes with, if any.

# The arguments of deploy() that say how a function runs, by what they take; and what their fields in JSON are called.
definition_arguments <- function() {
  list(
    workers = list(field = "workers", setting = setting(
      "range", NULL, "R processes. With `c(0, n)`, there is none while nobody calls it.",
      min = 1, max = 10000, null = TRUE, shown = "`c(0, 1)`"
    )),
    replicas = list(field = "replicas", setting = setting(
      "count", NULL, "On how many agents it runs, if it is a proxy that is asked.",
      min = 1, max = 10000, null = TRUE, shown = "`1`"
    )),
    timeout = list(field = "timeout", setting = setting(
      "duration", NULL, "How long a call may take. Then its caller gets 504.",
      infinite = TRUE, null = TRUE, shown = "the agent's"
    )),
    max_body = list(field = "maxBody", setting = setting(
      "size", NULL, "Largest input. A larger one gets 413.",
      min = 1, infinite = TRUE, null = TRUE, shown = "the agent's"
    )),
    queue = list(field = "queue", setting = setting(
      "count", NULL, "Calls that may wait for a worker. One more gets 503.",
      min = 0, null = TRUE, shown = "the agent's"
    )),
    memory = list(field = "memory", setting = setting(
      "size", NULL, "Memory that a worker may use.",
      min = 1, infinite = TRUE, null = TRUE, shown = "no limit"
    )),
    cpu_time = list(field = "cpuTime", setting = setting(
      "duration", NULL, "How long a call may compute.",
      infinite = TRUE, null = TRUE, shown = "no limit"
    )),
    stream = list(field = "stream", setting = setting("flag", FALSE, "The function reads and writes bit by bit."))
  )
}

# The fields that arguments say. What has no end is left out: so is what nobody limits.
settings_fields <- function(given, call = NULL) {
  known <- definition_arguments()
  fields <- list()
  for (name in intersect(names(known), names(given))) {
    value <- check_setting(given[[name]], name, known[[name]]$setting, call = call)
    if (is.null(value) || identical(value, FALSE) || any(is.infinite(value))) next
    # One number is as many workers at all times.
    if (name == "workers") value <- I(range(value))
    fields[[known[[name]]$field]] <- value
  }
  fields$secrets <- names_field(given$secrets, "secrets", call = call)
  fields$env <- env_field(given$env, call = call)
  if (!is.null(given$at_agent)) fields$toAgent <- check_text(given$at_agent, "at_agent", call = call)
  fields
}

names_field <- function(value, what, call = NULL) {
  if (length(value) == 0) {
    return(NULL)
  }
  if (!is.character(value)) {
    abort("option", "{.arg {what}} must be names, not {describe_value(value)}.", option = what, call = call)
  }
  I(unname(vapply(unique(value), check_function_name, "", what = what, call = call)))
}

env_field <- function(value, call = NULL) {
  if (length(value) == 0) {
    return(NULL)
  }
  value <- as.list(value)
  fit <- all(vapply(value, function(one) rlang::is_string(one) && !is.na(one), NA))
  if (!rlang::is_named(value) || !fit || any(grepl("=", names(value), fixed = TRUE)) || anyDuplicated(names(value)) > 0) {
    abort("option", c(
      "{.arg env} must be texts with the names of variables.",
      i = "Such as {.code env = c(LANG = \"C.UTF-8\")}. What is secret goes through {.fun secret_set}."
    ), option = "env", call = call)
  }
  lapply(value, enc2utf8)
}

check_text <- function(value, what, call = NULL) {
  if (!rlang::is_string(value) || !nzchar(value)) {
    abort("option", "{.arg {what}} must be a text, not {describe_value(value)}.", option = what, call = call)
  }
  enc2utf8(value)
}

# Which of `fn`, `command` and `url` there is. Returns the definition, and what has to be packed: a `folder`, and whether it
# is ours to remove (`is_made`).
define <- function(fn, given, default_name, call = NULL) {
  sources <- list(fn = fn, command = given$command, url = given$url)
  sources <- names(Filter(Negate(is.null), sources))
  if (length(sources) != 1) {
    got <- if (length(sources) == 0) "none" else "several"
    abort("option", c(
      "One of {.arg fn}, {.arg command} and {.arg url} says what is deployed, not {got}.",
      i = "{.arg fn} is a function, a folder, or a file that defines functions."
    ), option = if (length(sources) == 0) "fn" else sources[[2]], call = call)
  }
  if (sources == "fn") check_code(fn, call = call)
  refuse_unfit(sources, fn, given, call = call)
  name <- given$name %||% default_name
  if (is.null(name)) {
    abort("option", "{.arg name} is missing: it says what the function is called, such as {.val sed}.",
      option = "name", call = call
    )
  }
  name <- check_function_name(name, call = call)
  settings <- settings_fields(given, call = call)
  made <- switch(
    sources,
    command = list(definition = command_fields(given, call = call)),
    url = list(definition = url_fields(given, call = call)),
    fn = define_code(fn, name, given, call = call)
  )
  made$definition <- c(list(name = name), made$definition, settings)
  made
}

# What only one kind of function has.
refuse_unfit <- function(source, fn, given, call = NULL) {
  kind <- if (source == "fn" && is.function(fn)) "function" else if (source == "fn") "folder" else source
  takers <- list(
    packages = "function", globals = "function", rds = "function", file = "folder", options = "command", services = "url",
    stream = c("function", "folder"), secrets = c("function", "folder", "command"), env = c("function", "folder", "command"),
    memory = c("function", "folder", "command"), cpu_time = c("function", "folder", "command")
  )
  for (name in names(takers)) {
    value <- given[[name]]
    is_given <- length(value) > 0 && !identical(value, FALSE)
    if (is_given && !kind %in% takers[[name]]) {
      who <- c(`function` = "an R function", folder = "a folder", command = "a command", url = "a URL")
      abort("option", c(
        "{.arg {name}} is for {who[takers[[name]]]}, and this is {who[[kind]]}.",
        i = if (name %in% c("packages", "globals")) "What a folder needs, its files load themselves."
      ), option = name, call = call)
    }
  }
}

url_fields <- function(given, call = NULL) {
  fields <- list(url = check_text(given$url, "url", call = call))
  services <- given$services
  if (!is.null(services) && !are_texts(services)) {
    abort("option", c(
      "{.arg services} must be names of gRPC services, not {describe_value(services)}.",
      i = "Such as {.code services = \"package.Service\"}, with {.code url = \"grpc://host:port\"}."
    ), option = "services", call = call)
  }
  if (length(services) > 0) fields$services <- I(unique(enc2utf8(unname(services))))
  fields
}

command_fields <- function(given, call = NULL) {
  command <- given$command
  if (length(command) == 0 || !are_texts(command)) {
    abort("option", c(
      "{.arg command} must be a program and its arguments, not {describe_value(command)}.",
      i = "Such as {.code command = c(\"sed\", \"-n\")}. No shell sees it."
    ), option = "command", call = call)
  }
  options <- given$options
  if (!is.null(options) && !are_texts(options)) {
    abort("option", c(
      "{.arg options} must be the names of options that callers may give, not {describe_value(options)}.",
      i = "Such as {.code options = c(\"n\", \"e=\")}: {.code n} is a flag, {.code e=} takes a value."
    ), option = "options", call = call)
  }
  fields <- list(command = I(enc2utf8(unname(command))))
  if (length(options) > 0) fields$options <- I(unique(enc2utf8(unname(options))))
  fields
}

# Each of which says something.
are_texts <- function(value) {
  is.character(value) && !anyNA(value) && all(nzchar(value))
}

# A function, a folder or a file of R code, which must be there.
check_code <- function(fn, call = NULL) {
  if (is.function(fn)) {
    return(invisible())
  }
  if (!rlang::is_string(fn)) {
    abort("option", c(
      "{.arg fn} must be a function, a folder, or a file that defines functions, not {describe_value(fn)}.",
      i = "A program is deployed by {.arg command}, a service that runs already by {.arg url}."
    ), option = "fn", call = call)
  }
  path <- path.expand(fn)
  if (!file.exists(path)) {
    abort("option", c(
      "There is no file or folder {.path {fn}}.",
      i = if (!is_absolute(path)) "The working directory is {.path {getwd()}}."
    ), option = "fn", call = call)
  }
  if (!dir.exists(path) && !grepl("[.]R$", path, ignore.case = TRUE)) {
    abort("option", c(
      "{.path {fn}} is neither a folder nor R code ({.file .R}), nor does it define functions ({.file .yaml}, {.file .json}).",
      i = "A program is deployed by {.arg command}."
    ), option = "fn", call = call)
  }
}

# A function, a folder, or one file of R code.
define_code <- function(fn, name, given, call = NULL) {
  if (is.function(fn)) {
    rds <- check_setting(given$rds %||% FALSE, "rds", setting("flag", NULL, ""), call = call)
    stream <- check_setting(given$stream %||% FALSE, "stream", setting("flag", NULL, ""), call = call)
    folder <- write_function(
      fn, name, given$packages %||% character(), given$globals %||% list(), stream = stream, rds = rds, call = call
    )
    return(list(definition = list(), folder = folder, is_made = TRUE))
  }
  path <- path.expand(fn)
  if (!dir.exists(path)) {
    folder <- tempfile("faucet-function-")
    dir.create(folder)
    file.copy(path, folder)
    return(list(definition = list(filePath = basename(path)), folder = folder, is_made = TRUE))
  }
  definition <- list()
  if (!is.null(given$file)) definition$filePath <- check_file_in(given$file, path, call = call)
  list(definition = definition, folder = normalizePath(path), is_made = FALSE)
}

check_file_in <- function(file, folder, call = NULL) {
  file <- check_text(file, "file", call = call)
  if (!is_file_in(file, folder)) {
    abort("option", "{.arg file} must be the path of a file in {.path {folder}}, from there: {.path {file}} is none.",
      option = "file", call = call
    )
  }
  file
}

# Whether `file` is the path of a file in `folder`, from there. Links may not lead out of it.
is_file_in <- function(file, folder) {
  if (is_absolute(file) || any(strsplit(file, "/", fixed = TRUE)[[1]] == "..")) {
    return(FALSE)
  }
  path <- file.path(folder, file)
  file.exists(path) && !dir.exists(path) &&
    startsWith(normalizePath(path), paste0(sub("/+$", "", normalizePath(folder)), "/"))
}
