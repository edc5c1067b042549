# What a function uses and does not bring along: found before anything is sent, and named with its line.

# Attached in every R session.
session_packages <- c("base", "methods", "datasets", "utils", "grDevices", "graphics", "stats")

# Functions that look names up in data, all but those in the argument that is the data, which has this name, or else is the first
# without one.
masking_functions <- c(with = "data", within = "data", subset = "x", transform = "_data")

# Functions that attach, or load, the package that they name.
loading_functions <- c("library", "require", "requireNamespace", "loadNamespace")

# Those that take its bare name.
symbol_takers <- c("library", "require")

# Raises `faucet_error_function` if `fun`, or a function among `globals`, uses what is neither there nor in a package. Returns the
# packages that they name by `::` or library().
check_uses <- function(fun, name, globals, packages, call = NULL) {
  functions <- c(rlang::set_names(list(fun), name), Filter(is_own_function, globals))
  used <- lapply(functions, used_packages)
  for (at in seq_along(functions)) {
    check_installed(used[[at]], functions[[at]], names(functions)[[at]], call = call)
  }
  # What library() attaches when it runs is there, too.
  attached <- unlist(lapply(used, `[[`, "loaded"), use.names = FALSE)
  known <- c(names(globals), name, exports_of(c(session_packages, packages, attached)))
  lacking <- do.call(rbind, Map(function(fun, of) find_lacking(fun, of, known), functions, names(functions)))
  if (NROW(lacking) > 0) raise_lacking(lacking, call = call)
  unique(unlist(used, use.names = FALSE))
}

# Code that is taken along: not that of packages, nor of R itself.
is_own_function <- function(value) {
  is.function(value) && !is.primitive(value) && !isNamespace(topenv(environment(value)))
}

exports_of <- function(packages) {
  unlist(lapply(unique(packages), function(package) {
    if (package == "base") {
      return(ls(baseenv(), all.names = TRUE))
    }
    # Data of packages are no exports of theirs.
    tryCatch(c(getNamespaceExports(package), data_of(package)), error = function(error) character())
  }))
}

data_of <- function(package) {
  data <- if (package == "datasets") ls(as.environment("package:datasets")) else lazy_data(package)
  as.character(data)
}

lazy_data <- function(package) {
  data <- getNamespace(package)[[".__NAMESPACE__."]]$lazydata
  if (is.environment(data)) ls(data, all.names = TRUE)
}

# A data frame of what is `used` by the function called `of`, and in which `line`, and whether it is called.
find_lacking <- function(fun, of, known) {
  found <- global_names(fun)
  functions <- setdiff(found$functions, known)
  variables <- setdiff(found$variables, c(known, functions))
  used <- c(functions, variables)
  if (length(used) == 0) {
    return(NULL)
  }
  lines <- lines_of(fun)
  data.frame(
    of = of, used = used, is_called = used %in% functions, line = vapply(used, first_line, 1L, lines$text),
    place = vapply(used, function(name) place_of(lines, first_line(name, lines$text)), ""), stringsAsFactors = FALSE
  )
}

global_names <- function(fun) {
  find <- function(fun) {
    # Of code that it does not understand, codetools knows nothing.
    tryCatch(
      suppressWarnings(codetools::findGlobals(fun, merge = FALSE)),
      error = function(error) list(functions = character(), variables = character())
    )
  }
  bare <- fun
  body(bare, envir = globalenv()) <- without_masked(body(fun))
  list(functions = find(fun)$functions, variables = find(bare)$variables)
}

# Code without what is looked up in data.
without_masked <- function(code) {
  if (!is.call(code)) {
    return(code)
  }
  if (rlang::is_call(code, names(masking_functions)) && length(code) > 2) {
    data <- masked_data(code)
    return(as.call(c(code[[1]], if (!rlang::is_missing(data)) without_masked(data))))
  }
  for (i in seq_along(code)) {
    if (is.call(code[[i]])) code[[i]] <- without_masked(code[[i]])
  }
  code
}

# The argument that is the data which names are looked up in; missing if there is none.
masked_data <- function(code) {
  arguments <- as.list(code)[-1]
  given <- names(arguments) %||% rep("", length(arguments))
  at <- c(which(given == masking_functions[[rlang::call_name(code)]]), which(given == ""))
  if (length(at) > 0) arguments[[at[[1]]]] else rlang::missing_arg()
}

# The packages that code names: by `::`, and `loaded` by library() and the like.
used_packages <- function(fun) {
  found <- list(named = character(), loaded = character())
  look <- function(code) {
    how <- how_named(code)
    if (!is.null(how)) found[[how]] <<- c(found[[how]], as.character(code[[2]]))
    if (is.call(code) || is.pairlist(code)) {
      # Arguments that are left out, as in `x[1, ]`, are no code.
      for (part in Filter(Negate(rlang::is_missing), as.list(code))) look(part)
    }
  }
  look(body(fun))
  look(formals(fun))
  lapply(found, unique)
}

# Whether a call names a package, and how.
how_named <- function(code) {
  if (!rlang::is_call(code, c("::", ":::", loading_functions)) || length(code) < 2 || rlang::is_missing(code[[2]])) {
    return(NULL)
  }
  by <- rlang::call_name(code) %||% as.character(code[[1]])
  if (by %in% c("::", ":::")) {
    "named"
  } else if (rlang::is_string(code[[2]]) || by %in% symbol_takers && is.name(code[[2]])) {
    "loaded"
  }
}

check_installed <- function(used, fun, of, call = NULL) {
  for (package in used$named) {
    if (is_installed(package)) next
    lines <- lines_of(fun)
    line <- first_line(package, lines$text)
    place <- place_of(lines, line)
    abort("function", c(
      "Package {.pkg {package}} is used in {place} of {.code {of}}, and is not installed here.",
      i = "What is deployed is built from the packages of this session, whose versions the agent compares with its own."
    ), name = package, `function` = of, line = line, call = call)
  }
}

is_installed <- function(package) {
  nzchar(system.file(package = package))
}

# The code as it was written, or as R writes it; and the file and line where it begins, if it is in a file.
lines_of <- function(fun) {
  source <- attr(fun, "srcref")
  if (is.null(source)) {
    text <- deparse(fun)
    # R writes what follows the parameters below them.
    if (length(text) > 1 && endsWith(text[[1]], ") ")) text <- c(paste0(text[[1]], text[[2]]), text[-(1:2)])
    return(list(text = text, file = NULL))
  }
  file <- attr(source, "srcfile")$filename
  has_file <- rlang::is_string(file) && nzchar(file) && !startsWith(file, "<")
  list(text = as.character(source), file = if (has_file) basename(file), from = source[[1]])
}

# The first line, from 1 on, in which a name stands by itself; NA if none.
first_line <- function(name, text) {
  tokens <- tryCatch(
    utils::getParseData(parse(text = text, keep.source = TRUE), includeText = TRUE),
    error = function(error) NULL
  )
  at <- which(tokens$terminal & gsub("^`|`$", "", tokens$text) == name & tokens$token != "SYMBOL_SUB")
  # A field of that name is none of the variable's.
  after <- at[at > 1]
  fields <- after[tokens$text[after - 1] %in% c("$", "@")]
  at <- setdiff(at, fields)
  if (length(at) > 0) min(tokens$line1[at]) else NA_integer_
}

place_of <- function(lines, line) {
  if (is.na(line)) {
    return("the code")
  }
  paste0("line ", line, if (!is.null(lines$file)) paste0(" (", lines$file, ":", lines$from + line - 1L, ")"))
}

# So many are shown.
most_lacking <- 10

raise_lacking <- function(lacking, call = NULL) {
  shown <- utils::head(lacking, most_lacking)
  lines <- paste0(
    "`", shown$used, ifelse(shown$is_called, "()", ""), "` is used in ", shown$place, " of `", shown$of,
    "`, and is neither in `globals` nor in R's own packages or `packages`."
  )
  names(lines) <- rep("x", length(lines))
  more <- nrow(lacking) - nrow(shown)
  own <- unique(lacking$used)
  given <- paste0("\"", utils::head(own, 3), "\"", collapse = ", ")
  if (length(own) > 1) given <- paste0("c(", given, ")")
  rlang::abort(
    c(
      "The function uses what it does not bring along.",
      lines,
      i = if (more > 0) paste("And", more, "more."),
      i = paste0("`globals = ", given, "` takes along what is called so here."),
      i = if (any(!lacking$is_called)) {
        paste0(
          "A column of data is no variable: write `.data$x` or `data[[\"x\"]]`, or let the name be by `globals = list(",
          lacking$used[!lacking$is_called][[1]], " = NULL)`."
        )
      }
    ),
    class = error_class("function"), name = lacking$used, `function` = lacking$of, line = lacking$line,
    call = shown_call(call), trace = trace_to(call)
  )
}
