# Flags of the command line: each is made from a setting's definition, by which its value is read, checked and described.

# `name` is what the value is called in R, `definition` is that of the setting, `part` names one of several files.
new_flag <- function(name, definition, flag = NULL, value = NULL, short = NULL, part = NULL) {
  kind <- definition$kind
  list(
    name = name, part = part, definition = definition, flag = flag %||% paste0("--", gsub("_", "-", name, fixed = TRUE)),
    value = if (kind != "flag") value %||% flag_placeholder(name, definition), short = short
  )
}

# Those of settings, by name. What is secret is read from a file: all users of a machine see arguments. A setting that is a list
# has a flag for each of its parts.
setting_flags <- function(definitions) {
  flags <- Map(function(name, definition) {
    if (definition$kind == "secret") {
      definition$doc <- paste0(definition$doc, " The file's first line is it.")
      list(new_flag(name, definition, flag = paste0("--", gsub("_", "-", name, fixed = TRUE), "-file")))
    } else if (!is.null(definition$parts)) {
      lapply(definition$parts, function(part) {
        if (part != definition$parts[[1]]) definition$doc <- paste0("See --", name, "-", definition$parts[[1]], ".")
        new_flag(name, definition, flag = paste0("--", name, "-", gsub("_", "-", part, fixed = TRUE)), part = part)
      })
    } else {
      list(new_flag(name, definition))
    }
  }, names(definitions), definitions)
  unlist(unname(flags), recursive = FALSE)
}

flag_placeholder <- function(name, definition) {
  if (!is.null(definition$parts)) {
    return("FILE")
  }
  switch(
    definition$kind,
    count = "N",
    number = "N",
    range = "N[:MAX]",
    duration = "SECONDS",
    size = "SIZE",
    choice = paste(definition$limits$choices, collapse = "|"),
    path = if (grepl("_dir$", name)) "DIR" else "FILE",
    secret = "FILE",
    strings = if (grepl("packages|options", name)) "NAME,..." else "ADDRESS,...",
    agents = ,
    hubs = "HOST:PORT,...",
    route = ,
    url_path = "PATH",
    redirect = "URL",
    dns = "ADDRESS",
    env = "NAME=VALUE",
    string = if (grepl("host$|^to$|^at_agent$", name)) "ADDRESS" else toupper(sub("^.*_", "", name)),
    toupper(name)
  )
}

flag_default <- function(definition) {
  default <- definition$default
  text <- if (!is.null(definition$shown)) {
    plain_doc(definition$shown)
  } else if (is.null(default) || is.function(default) || is.logical(default) || length(default) == 0) {
    NULL
  } else if (definition$kind == "range") {
    paste(default, collapse = ":")
  } else {
    paste(format(default, scientific = FALSE, trim = TRUE), collapse = ",")
  }
  if (!identical(text, "none")) text
}

# The words of the help pages, which are for R's users, as those of a shell's would have them.
plain_doc <- function(doc) {
  settings <- names(setting_definitions())
  doc <- gsub("`NULL`:", "Without it:", doc, fixed = TRUE)
  doc <- gsub("With `NULL`", "Without it,", doc, fixed = TRUE)
  doc <- gsub("with `NULL`", "without it", doc, fixed = TRUE)
  doc <- gsub(", `NULL` is off", "", doc, fixed = TRUE)
  doc <- gsub("`list\\([^`]*\\)`", "a certificate and its key", doc)
  doc <- gsub("With `client_ca = [^`]*`", "With --tls-client-ca FILE", doc)
  # `workers = c(1, 8)` is --workers 1:8.
  doc <- gsub("c\\(([a-z0-9]+), ([a-z0-9]+)\\)", "\\1:\\2", doc)
  doc <- gsub("`([a-z_]+) = ([^`]*)`", "`--\\1 \\2`", doc)
  for (setting in settings) {
    flag <- paste0("--", gsub("_", "-", setting, fixed = TRUE))
    doc <- gsub(paste0("`", setting, "`"), flag, doc, fixed = TRUE)
    doc <- gsub(paste0("`--", setting, " "), paste0("`", flag, " "), doc, fixed = TRUE)
  }
  doc <- gsub(" In an environment variable: `1:8`.", "", doc, fixed = TRUE)
  doc <- gsub("\\[`?faucet-options`?\\]", "`help(\"faucet-options\")`", doc)
  doc <- gsub("\\[?`?run_(k8s|hub|worker|agent|proxy)\\(\\)`?\\]?", "`faucet \\1`", doc)
  doc <- gsub("\\[?`?run\\(\\)`?\\]?", "`faucet run`", doc)
  doc <- gsub("\\[([a-z_]+\\(\\))\\]", "\\1", doc)
  doc <- gsub("; see `faucet run`", "", doc, fixed = TRUE)
  gsub("`\"?([^`\"]*)\"?`", "\\1", doc)
}

# What a flag takes, in words.
describe_flag <- function(flag) {
  definition <- flag$definition
  # The flag itself is what need not be there.
  definition$limits$null <- NULL
  if (!is.null(flag$part)) {
    return("the path of a file")
  }
  switch(
    definition$kind,
    env = "NAME=VALUE",
    number = "a number above 0",
    range = sub("c(1, 8)", "1:8", describe_setting(definition), fixed = TRUE),
    strings = "texts with commas between them",
    path = "a path",
    string = "a text",
    flag = "true or false",
    describe_setting(definition)
  )
}

# A flag's value, of the type that its setting takes. What does not fit is the user's error, with the flag's name.
read_flag <- function(text, flag) {
  definition <- flag$definition
  if (!is.null(flag$part)) {
    return(check_file_flag(text, flag))
  }
  if (definition$kind == "secret") {
    return(read_token(text, flag))
  }
  if (definition$kind == "env") {
    return(read_pair(text, flag))
  }
  if (definition$kind == "number") {
    return(read_number(text, flag))
  }
  value <- parse_setting(text, definition)
  fits <- tryCatch(
    {
      check_setting(value, flag$name, definition)
      TRUE
    },
    faucet_error_option = function(error) FALSE
  )
  if (!fits) refuse_value(text, flag)
  value
}

refuse_value <- function(text, flag) {
  got <- encodeString(text, quote = "\"")
  refuse_usage(paste0(flag$flag, " must be ", describe_flag(flag), ", not ", got, "."), option = flag$name)
}

check_file_flag <- function(text, flag) {
  if (!file.exists(text)) refuse_usage(paste0(flag$flag, ": there is no file ", text, "."), option = flag$name)
  text
}

read_number <- function(text, flag) {
  value <- suppressWarnings(as.numeric(text))
  if (!is_number(value) || value <= 0 || is.infinite(value)) refuse_value(text, flag)
  value
}

read_pair <- function(text, flag) {
  at <- regexpr("=", text, fixed = TRUE)
  if (at < 2) refuse_value(text, flag)
  rlang::set_names(substring(text, at + 1), substring(text, 1, at - 1))
}

# A token of its own from a file: nobody else sees it there.
read_token <- function(path, flag) {
  lines <- tryCatch(suppressWarnings(readLines(path, n = 1, warn = FALSE)), error = function(error) NULL)
  if (is.null(lines)) refuse_usage(paste0(flag$flag, ": ", path, " cannot be read."), option = flag$name)
  token <- check_secret(if (length(lines) > 0) lines else "", list())
  if (is.null(token)) {
    refuse_usage(
      paste0(flag$flag, ": the first line of ", path, " is no token, which is ", describe_setting(flag$definition), "."),
      option = flag$name
    )
  }
  token
}
