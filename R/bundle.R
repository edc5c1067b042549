# What is uploaded: a function with what it brings along, or a folder, in one archive.

# A folder with the function: `function.json` says what it needs, `function.rds` holds it.
write_function <- function(fun, name, packages, globals, stream, rds, call = NULL) {
  globals <- resolve_globals(globals, fun, call = call)
  packages <- check_packages(packages, call = call)
  check_function(fun, stream, call = call)
  home <- if (is_own_function(fun)) NULL else getNamespaceName(topenv(environment(fun)))[[1]]
  used <- if (is.null(home)) check_uses(fun, name, globals, packages, call = call) else home
  folder <- tempfile("faucet-function-")
  dir.create(folder)
  about <- list(
    format = 1L, r = as.character(getRversion()), packages = versions_of(c(packages, used)), attached = I(packages),
    stream = stream, rds = rds
  )
  writeLines(as_json(about), file.path(folder, "function.json"))
  saved <- list(fun = as_written(fun), globals = lapply(globals, as_written))
  tryCatch(
    # Uncompressed, as the archive is compressed; of a version that all R since 3.5 read.
    saveRDS(saved, file.path(folder, "function.rds"), version = 3, compress = FALSE),
    error = function(error) {
      unlink(folder, recursive = TRUE)
      abort("function", "The function cannot be taken along.", parent = error, call = call)
    }
  )
  folder
}

check_function <- function(fun, stream, call = NULL) {
  if (is.primitive(fun)) {
    abort("function", c(
      "{.arg fn} is a primitive function of R, which has no parameters to be called by.",
      i = "Write one around it, such as {.code function(x) sum(x)}."
    ), call = call)
  }
  needed <- c("input", "output")
  if (stream && !(length(formals(fun)) >= 2 && identical(names(formals(fun))[1:2], needed))) {
    abort("function", c(
      "With {.code stream = TRUE}, the first parameters of {.arg fn} must be {.code input} and {.code output}.",
      i = "It is called as {.code function(input, output, ...)}: see {.fun deploy}."
    ), call = call)
  }
}

# A named list: of names, what is called so where the function was made.
resolve_globals <- function(globals, fun, call = NULL) {
  if (is.character(globals)) globals <- find_globals(globals, environment(fun) %||% globalenv(), call = call)
  if (!is.list(globals) || (length(globals) > 0 && !rlang::is_named(globals)) || anyDuplicated(names(globals)) > 0) {
    abort("option", c(
      "{.arg globals} must be names, or a list with a name for each element, not {describe_value(globals)}.",
      i = "Such as {.code globals = c(\"model\", \"helper\")}, or {.code globals = list(model = fitted)}."
    ), option = "globals", call = call)
  }
  for (name in names(globals)) check_global(globals[[name]], name, call = call)
  # In one order, so that the same make the same bundle.
  if (length(globals) == 0) list() else globals[order(names(globals), method = "radix")]
}

find_globals <- function(names, from, call = NULL) {
  lapply(rlang::set_names(unique(unname(names))), function(name) {
    if (is.na(name) || !exists(name, envir = from)) {
      abort("function", "There is no {.code {name}} to take along, which {.arg globals} names.", name = name, call = call)
    }
    get(name, envir = from)
  })
}

# What belongs to this process is nothing elsewhere.
check_global <- function(value, name, call = NULL) {
  what <- if (inherits(value, "connection")) "a connection" else if (typeof(value) == "externalptr") "a pointer into this process"
  if (!is.null(what)) {
    abort("function", c(
      "{.code {name}}, which {.arg globals} takes along, is {what}: elsewhere it would lead nowhere.",
      i = "Let the function make its own."
    ), name = name, call = call)
  }
}

check_packages <- function(packages, call = NULL) {
  if (!is.character(packages) || anyNA(packages)) {
    got <- describe_value(packages)
    abort("option", "{.arg packages} must be names of packages, not {got}.", option = "packages", call = call)
  }
  packages <- unique(unname(packages))
  absent <- packages[!vapply(packages, is_installed, NA)]
  if (length(absent) > 0) {
    abort("function", c(
      "{cli::qty(absent)}Package{?s} {.pkg {absent}} {?is/are} not installed here.",
      i = "The versions of this session's packages are what the agent compares its own with."
    ), name = absent, call = call)
  }
  packages
}

# By package. Those that come with R have its version.
versions_of <- function(packages) {
  packages <- sort(unique(packages), method = "radix")
  versions <- lapply(rlang::set_names(packages), function(package) {
    about <- suppressWarnings(utils::packageDescription(package, fields = c("Version", "Priority")))
    if (!identical(about$Priority, "base")) about$Version
  })
  versions <- Filter(rlang::is_string, versions)
  # A list without names would be an array.
  if (length(versions) == 0) rlang::set_names(list(), character()) else versions
}

# A function without what R adds while it runs it, and without the variables around it: those of an environment of its own
# might be anything, and what is taken along is said in `globals`.
as_written <- function(value) {
  if (!is_own_function(value)) {
    return(value)
  }
  kept <- attributes(value)
  value <- as.function(c(formals(value), list(without_source(body(value)))), envir = globalenv())
  attributes(value) <- kept[setdiff(names(kept), "srcref")]
  value
}

without_source <- function(code) {
  if (is.call(code)) {
    # The last part of `function(x) ...` is where it was written. It stays, as rlang takes it for granted when it shows calls.
    if (identical(code[[1]], quote(`function`))) code[4] <- list(NULL)
    kept <- attributes(code)
    attributes(code) <- kept[setdiff(names(kept), c("srcref", "srcfile", "wholeSrcref"))]
    for (i in seq_along(code)) {
      if (is.call(code[[i]])) code[[i]] <- without_source(code[[i]])
    }
  }
  code
}

# Packs a folder, and sends it unless the server has it. Returns what the bundle is called.
upload_folder <- function(server, folder, progress, call = NULL) {
  archive <- tempfile("faucet-bundle-", fileext = ".tar.gz")
  on.exit(unlink(archive), add = TRUE)
  progress$step("Packing")
  packed <- bundle_pack(folder, archive)
  # Ctrl-C while it was packed is taken here.
  if (identical(packed$class, "interrupted")) allow_interrupt()
  digest <- check_result(packed, call = call)$digest
  known <- send_request(server, "HEAD", paste0("/bundles/", digest), call = call)
  if (known$status == 200) {
    return(digest)
  }
  # Of HEAD there is nothing to say why.
  if (known$status != 404) ask_json(server, "GET", paste0("/bundles/", digest), call = call)
  progress$step(paste0("Uploading ", format_size(file.size(archive))))
  sent <- send_request(
    server, "PUT", "/bundles", file = archive, headers = list("content-type" = "application/gzip"), timeout = Inf, call = call
  )
  sent <- read_answer(sent, server, call = call)
  if (!identical(sent$bundle, digest)) {
    told <- as_string(sent$bundle)
    abort("answer", "What came to {.url {server$url}} is not what was sent: it is told as {.val {told}}.", call = call)
  }
  digest
}
