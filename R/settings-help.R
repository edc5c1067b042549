# The help page's table, from the definitions.
settings_table <- function() {
  definitions <- setting_definitions()
  rows <- vapply(names(definitions), function(name) {
    definition <- definitions[[name]]
    cells <- c(
      paste0("`", name, "`"), setting_verbs(definition), setting_unit(definition), setting_default(definition),
      paste0("`faucet.", name, "`"), paste0("`", setting_variables(name, definition), "`", collapse = ", "), definition$doc
    )
    paste0("| ", paste(cells, collapse = " | "), " |")
  }, character(1))
  paste(c(
    "| Setting | Of | Takes | Default | Option | Environment variable | What it does |",
    "| --- | --- | --- | --- | --- | --- | --- |",
    rows
  ), collapse = "\n")
}

setting_verbs <- function(definition) {
  if (setequal(definition$verbs, all_verbs)) "all" else paste0("`", definition$verbs, "`", collapse = ", ")
}

setting_default <- function(definition) {
  # What depends on the machine, `shown` says for all.
  others <- vapply(Filter(Negate(is.function), definition$defaults), default_as_code, character(1))
  paste(c(
    definition$shown %||% default_as_code(definition$default),
    if (length(others) > 0) paste0("of `", names(others), "`: ", others)
  ), collapse = "; ")
}

default_as_code <- function(default) {
  paste0("`", if (is.integer(default)) format(default) else paste(deparse(default), collapse = " "), "`")
}

setting_unit <- function(definition) {
  limits <- definition$limits
  unit <- switch(
    definition$kind,
    count = "number",
    range = "number, or two",
    duration = "seconds",
    size = "bytes",
    string = "string",
    strings = "strings",
    choice = paste0("`\"", limits$choices, "\"`", collapse = ", "),
    path = ,
    route = ,
    url_path = "path",
    otlp = ,
    redirect = "URL",
    callbacks = "URLs",
    agents = "agents",
    hubs = "hubs",
    name = "name",
    secret = "secret",
    dns = "address",
    tls = "files",
    flag = "`TRUE`, `FALSE`"
  )
  extra <- c(if (isTRUE(limits$infinite)) "`Inf`", if (isTRUE(limits$null)) "`NULL`")
  paste(c(unit, extra), collapse = ", ")
}
