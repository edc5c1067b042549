# Shiny apps: what in a directory is one, and what differs for them.

# Files, in lower case, that make a directory a Shiny app.
shiny_files <- function() {
  c("app.r", "server.r")
}

# What of Shiny a directory holds, if nothing that goes before it: `NULL`, or a list whose `document` is the file of an
# R Markdown or Quarto document, NULL for an app.
find_shiny <- function(dir, call = NULL) {
  files <- list.files(dir)
  if (any(app_files() %in% tolower(files))) {
    return(NULL)
  }
  if (any(shiny_files() %in% tolower(files))) {
    return(list(document = NULL))
  }
  documents <- grep("[.](rmd|qmd)$", files, ignore.case = TRUE, value = TRUE)
  documents <- Filter(function(file) is_shiny_document(file.path(dir, file)), documents)
  index <- grep("^index[.]", documents, ignore.case = TRUE, value = TRUE)
  if (length(index) == 1) documents <- index
  if (length(documents) > 1) {
    abort("dir", c(
      "There are several documents for Shiny in {.path {dir}}: {.file {documents}}.",
      i = "The one to serve must be called {.file index.Rmd} or {.file index.qmd}."
    ), dir = dir, call = call)
  }
  if (length(documents) == 1) list(document = documents)
}

# Whether one file of R code is a Shiny app, and not an API that has annotations for plumber.
is_shiny_script <- function(path) {
  lines <- readLines(path, warn = FALSE, encoding = "UTF-8")
  code <- grep("^[[:space:]]*#", lines, value = TRUE, invert = TRUE, useBytes = TRUE)
  annotation <- "^[[:space:]]*#['*][[:space:]]*@(get|put|post|use|delete|head|options|patch|plumber)"
  annotated <- grepl(annotation, lines, ignore.case = TRUE, useBytes = TRUE)
  any(grepl("(^|[^[:alnum:]_.])shinyApp[[:space:]]*[(]", code, useBytes = TRUE)) && !any(annotated)
}

# Whether the header of a document says that it needs Shiny.
is_shiny_document <- function(path) {
  lines <- readLines(path, warn = FALSE, encoding = "UTF-8")
  ends <- grep("^(---|[.][.][.])[[:space:]]*$", lines, useBytes = TRUE)
  if (length(ends) < 2 || any(nzchar(trimws(lines[seq_len(ends[[1]] - 1)])))) {
    return(FALSE)
  }
  header <- lines[seq_len(ends[[2]] - ends[[1]] - 1) + ends[[1]]]
  # One that is no YAML is not for us to complain of.
  header <- tryCatch(
    yaml::yaml.load(paste(header, collapse = "\n"), eval.expr = FALSE),
    error = function(error) NULL
  )
  if (!is.list(header)) {
    return(FALSE)
  }
  server <- if (is.list(header$server)) header$server$type else header$server
  identical(server, "shiny") || isTRUE(header$runtime %in% c("shiny", "shinyrmd", "shiny_prerendered"))
}

# The settings of a pool, with those that depend on whether its app is Shiny's. `own` are those that it was given itself.
settle_sticky <- function(settings, own, shiny, call = NULL) {
  settings$sticky <- settings$sticky %||% shiny
  if (!settings$sticky && "slots" %in% names(own)) {
    abort("option", c(
      "{.arg slots} is for pools with sessions: each other worker of {.fun run} takes one request at a time.",
      i = "For more requests at once, have more {.arg workers}; for sessions, give {.code sticky = TRUE}."
    ), option = "slots", call = call)
  }
  if (shiny && settings$preload) {
    abort("option", c(
      "A Shiny app cannot be preloaded: it serves HTTP and WebSockets itself.",
      i = "Leave {.arg preload} out."
    ), option = "preload", call = call)
  }
  settings
}

# Of a machine whose workers dial in: a hub sends each request to whoever is free.
refuse_shiny <- function(shiny, call = NULL) {
  if (shiny) {
    abort("unsupported", c(
      "A Shiny app keeps its clients in one process, and a hub sends each request to whichever worker is free.",
      i = "{.fun run} serves it."
    ), call = call)
  }
}
