# Files that define functions: functions.yaml, and JSON as POST /deploy takes it, RYO-FaaS's `deploy.json` among it.

is_definition_file <- function(path) {
  rlang::is_string(path) && grepl("[.](ya?ml|json)$", path, ignore.case = TRUE) && !dir.exists(path)
}

# Returns what define() does, for each function of the file.
read_definitions <- function(path, call = NULL) {
  check_definition_file(path, "fn", call = call)
  path <- absolute_path(path)
  definitions <- definitions_in(read_definition_file(path, call = call), path, call = call)
  made <- Map(function(one, at) define_from_file(one, at, path, call = call), definitions, seq_along(definitions))
  names <- vapply(made, function(one) one$definition$name, "")
  twice <- anyDuplicated(names)
  if (twice > 0) definition_error(path, paste0("There are two functions called `", names[[twice]], "`."), call = call)
  made
}

check_definition_file <- function(path, option, call = NULL) {
  if (!file.exists(path)) {
    abort("option", c(
      "There is no file {.path {path}}.",
      i = if (!is_absolute(path)) "The working directory is {.path {getwd()}}."
    ), option = option, call = call)
  }
}

read_definition_file <- function(path, call = NULL) {
  text <- paste(readLines(path, warn = FALSE, encoding = "UTF-8"), collapse = "\n")
  tryCatch(
    if (grepl("[.]json$", path, ignore.case = TRUE)) {
      jsonlite::parse_json(text)
    } else {
      parse_yaml(text)
    },
    error = function(error) definition_error(path, conditionMessage(error), call = call)
  )
}

# A list of definitions: the file is one, an array of them, or has them below `deploy`, or below `functions`, where the keys
# may be their names.
definitions_in <- function(content, path, call = NULL) {
  found <- content
  if (is.list(content) && "deploy" %in% names(content)) found <- content$deploy
  if (is.list(content) && "functions" %in% names(content)) found <- with_names(content$functions)
  if (rlang::is_named(found)) found <- list(found)
  found <- unname(found)
  if (!is.list(found) || length(found) == 0 || !all(vapply(found, rlang::is_named, NA))) {
    definition_error(path, c(
      "It defines no functions.",
      i = "It has them below `functions`, by name, or below `deploy`, as an array: see `help(\"deploy\", package = \"faucet\")`."
    ), call = call)
  }
  found
}

# Keys become the names of what is below them.
with_names <- function(functions) {
  if (!rlang::is_named(functions) || !all(vapply(functions, is.list, NA))) {
    return(functions)
  }
  Map(function(one, name) utils::modifyList(list(name = name), one), unname(functions), names(functions))
}

definition_error <- function(path, message, field = NULL, call = NULL) {
  message[[1]] <- paste0(path, ": ", message[[1]])
  rlang::abort(
    message,
    class = error_class("definition"), file = path, field = field, call = shown_call(call), trace = trace_to(call)
  )
}

# R's names of fields are understood in the place of JSON's.
json_names <- c(
  file = "filePath", at_agent = "toAgent", max_body = "maxBody", cpu_time = "cpuTime", packageDir = "dir", package_dir = "dir"
)

# Fields that are arrays, however short.
array_fields <- c("command", "options", "secrets", "services", "workers")

# The server checks what is in it: here, folders are made bundles.
define_from_file <- function(one, at, path, call = NULL) {
  known <- names(one) %in% names(json_names)
  names(one)[known] <- json_names[names(one)[known]]
  one <- Filter(Negate(is.null), one)
  fail <- function(field, message) {
    what <- as_string(one$name)
    what <- if (is.na(what)) paste("function", at) else paste0("`", what, "`")
    definition_error(path, paste0(what, ": ", message), field = field, call = call)
  }
  twice <- anyDuplicated(names(one))
  if (twice > 0) fail(names(one)[[twice]], paste0("`", names(one)[[twice]], "` is given twice."))
  if (!rlang::is_string(one$name)) fail("name", "`name` is missing, or is no text.")
  one <- with_agents(in_json_form(one))
  made <- list(definition = one, folder = NULL, is_made = FALSE)
  if (is.null(one$dir)) made else with_folder(made, path, fail)
}

# The same with the folder that is packed for it, if it is one beside the file. `fail` raises what is wrong with a field.
with_folder <- function(made, path, fail) {
  one <- made$definition
  if (!rlang::is_string(one$dir) || !nzchar(one$dir)) fail("dir", "`dir` must be the path of a folder.")
  # As it is written, it is a folder on the agent's machine, which knows what is in it.
  if (startsWith(one$dir, "/")) {
    return(made)
  }
  folder <- beside(path, one$dir)
  if (!dir.exists(folder)) fail("dir", paste0("There is no folder ", folder, "."))
  made$definition$dir <- NULL
  made$folder <- normalizePath(folder)
  if (!is.null(one$filePath)) {
    file <- if (rlang::is_string(one$filePath)) without_folder(one$filePath, one$dir)
    if (is.null(file) || !is_file_in(file, made$folder)) {
      fail("filePath", paste0(
        "`filePath` must be the path of a file in ", folder, ", from there",
        if (!is.null(file)) paste0(": ", file, " is none"), "."
      ))
    }
    made$definition$filePath <- file
  }
  made
}

# RYO-FaaS writes the path of a file as it does its folder's.
without_folder <- function(file, folder) {
  before <- paste0(sub("/+$", "", folder), "/")
  if (startsWith(file, before)) substring(file, nchar(before) + 1) else file
}

# Sizes as numbers, and arrays that stay some.
in_json_form <- function(one) {
  for (size in intersect(c("maxBody", "memory"), names(one))) {
    if (rlang::is_string(one[[size]])) one[[size]] <- parse_size(one[[size]]) %||% one[[size]]
  }
  for (field in intersect(array_fields, names(one))) one[[field]] <- I(unlist(one[[field]]))
  one
}

# RYO-FaaS lists the agents that have a function: of several, faucet chooses as many.
with_agents <- function(one) {
  agents <- unlist(one$agentAddr)
  if (length(agents) > 1) {
    one$replicas <- one$replicas %||% length(agents)
    one$agentAddr <- NULL
  } else if (length(agents) == 1) {
    one$agentAddr <- I(agents)
  } else {
    one$agentAddr <- NULL
  }
  one
}
