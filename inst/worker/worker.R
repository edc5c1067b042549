# What one worker process runs: find out what the directory holds, and serve it on FAUCET_PORT until told to leave.
#
# The whole file is one expression. R reads a script through its console, so that whatever followed here would be handed to
# an app that reads `stdin()`. And all names stay local: the app's environments hold nothing but what the app puts there.
local({ # nolint: cyclocomp_linter. It holds functions, each of which counts.
  host <- Sys.getenv("FAUCET_HOST", "127.0.0.1")
  port <- as.integer(Sys.getenv("FAUCET_PORT"))
  lib <- Sys.getenv("FAUCET_LIB")
  is_template <- nzchar(Sys.getenv("FAUCET_TEMPLATE"))
  kept <- new.env()

  # Ties this process to the front's life: it ends when the front is gone, however the front went.
  watch_front <- function() {
    if (!nzchar(lib)) {
      return(invisible())
    }
    dll <- dyn.load(lib)
    # An app that loads faucet itself must find this library loaded: R unloads and loads again what it does not find
    # here, and the watching thread runs code of this very library.
    .dynLibs(structure(c(.dynLibs(), list(dll)), class = "DLLInfoList"))
    if (is_template) {
      # It has no thread, and hears its front by itself.
      .Call("wrap__template_start")
      # The first to be registered is the last to run, in each worker that is forked from here.
      reg.finalizer(
        kept,
        function(kept) if (nzchar(Sys.getenv("FAUCET_FORK"))) asNamespace("faucet")$leave_fork(),
        onexit = TRUE
      )
    } else {
      .Call("wrap__worker_watch")
    }
  }

  # faucet's own R code. NULL if it is not installed, but loaded from its sources for developing it.
  load_faucet <- function() {
    package <- dirname(dirname(lib))
    if (file.exists(file.path(package, "Meta"))) {
      tryCatch(
        loadNamespace("faucet", lib.loc = c(dirname(package), .libPaths())),
        # Such as an app that needs an older version of a package that faucet needs too.
        error = function(error) {
          message("Served over TCP, as faucet cannot be loaded here: ", conditionMessage(error))
          NULL
        }
      )
    }
  }

  # What starts its server with httpuv::runServer(), as plumber does, is served by faucet itself: that function is replaced
  # in this process, before the app's code runs. faucet's R code is loaded when it is called, after the app has chosen the
  # versions of its packages.
  serve_natively <- function() {
    kept$served <- FALSE
    replace_in("httpuv", "runServer", function(original) {
      force(original)
      function(host, port, app, ...) {
        kept$served <- TRUE
        faucet <- load_faucet()
        if (is.null(faucet)) {
          original(host, port, app, ...)
        } else {
          faucet$run_server(original, host, port, app, ...)
        }
      }
    })
    # plumber opens a port to see whether it is free, and takes another one if not. Nobody is to connect there, and nobody
    # will listen there.
    replace_in("plumber", "findPort", function(original) {
      function(port) if (missing(port) || is.null(port)) as.integer(Sys.getenv("FAUCET_PORT")) else port
    })
  }

  # Replaces a function of a package, as soon as that is loaded. `make` is given the original.
  replace_in <- function(package, name, make) {
    replace <- function(...) {
      namespace <- asNamespace(package)
      if (!exists(name, namespace, mode = "function", inherits = FALSE)) {
        return(invisible())
      }
      replacement <- make(get(name, namespace))
      locked <- bindingIsLocked(name, namespace)
      if (locked) unlockBinding(name, namespace)
      assign(name, replacement, namespace)
      if (locked) lockBinding(name, namespace)
    }
    if (isNamespaceLoaded(package)) replace() else setHook(packageEvent(package, "onLoad"), replace)
  }

  # plumber's own rule: the name in any case.
  find_file <- function(name) {
    pattern <- paste0("^", gsub(".", "\\.", name, fixed = TRUE), "$")
    found <- list.files(".", pattern, ignore.case = TRUE)
    if (length(found) > 0) found[[1]]
  }

  # The standard asks for `engine` as a top-level field of plain text, so that no YAML parser is needed to read it.
  engine_of <- function(file) {
    field <- "^engine[[:space:]]*:[[:space:]]*[\"']?([[:alpha:]][[:alnum:].]*)[\"']?[[:space:]]*(#.*)?$"
    found <- grep(field, readLines(file, warn = FALSE), value = TRUE)
    if (length(found) == 0) {
      stop("_server.yml names no engine: its first line must be like `engine: plumber2`.", call. = FALSE)
    }
    sub(field, "\\1", found[[1]])
  }

  launch_engine <- function(file) {
    engine <- engine_of(file)
    if (!requireNamespace(engine, quietly = TRUE)) {
      stop("The engine that _server.yml names is not installed: package '", engine, "'.", call. = FALSE)
    }
    # The standard does not ask engines to export it.
    launch <- get0("launch_server", asNamespace(engine), mode = "function", inherits = FALSE)
    if (is.null(launch)) {
      stop("The engine that _server.yml names has no function `launch_server()`: package '", engine, "'.", call. = FALSE)
    }
    launch(settings = file, host = host, port = port)
  }

  # Apps are written after `library(plumber)`: some of plumber's own examples have no such line.
  attach_plumber <- function() {
    suppressPackageStartupMessages(library("plumber", character.only = TRUE, warn.conflicts = FALSE))
  }

  # plumber tells, before it calls httpuv::runServer(), at which address it runs: nobody listens there.
  without_addresses <- function(code) {
    withCallingHandlers(code, message = function(message) {
      said <- "^Running (plumber API|[[:alnum:]]+ Docs) at "
      if (isFALSE(kept$served) && grepl(said, conditionMessage(message)[[1]], useBytes = TRUE)) {
        tryInvokeRestart("muffleMessage")
      }
    })
  }

  run_router <- function(router) {
    router$run(host = host, port = port, quiet = TRUE)
  }

  run_entrypoint <- function(file) {
    attach_plumber()
    # Returns only if it starts no server itself, or when its server has ended.
    value <- source(file, local = new.env(parent = globalenv()), encoding = "UTF-8")$value
    if (inherits(value, "Plumber")) {
      run_router(value)
    } else if (!isTRUE(kept$served)) {
      # A template returns from what would serve.
      message(file, " has ended: it runs no server on FAUCET_PORT and returned no plumber router.")
    }
  }

  run_annotated <- function(file) {
    attach_plumber()
    run_router(plumber::plumb(file))
  }

  # Whether a file has plumber's annotations: of endpoints, filters or the router itself.
  is_annotated <- function(file) {
    tags <- "get|put|post|use|delete|head|options|patch|filter|assets|plumber"
    annotation <- paste0("^[[:space:]]*#['*][[:space:]]*@(", tags, ")([[:space:]]|$)")
    lines <- readLines(file, warn = FALSE, encoding = "UTF-8")
    any(grepl(annotation, lines, ignore.case = TRUE, useBytes = TRUE))
  }

  # One file, whose content says what it is.
  run_file <- function(file) {
    if (is_annotated(file)) run_annotated(file) else run_entrypoint(file)
  }

  # An app that is an R object of the session that started the server.
  run_object <- function(file) {
    faucet <- load_faucet()
    if (is.null(faucet)) {
      stop("run(app = ) needs an installed faucet.", call. = FALSE)
    }
    faucet$run_app(file, host, port)
  }

  # A deployed function: what deploy() has packed, a file that defines one, or a whole app.
  run_deployed <- function() {
    file <- Sys.getenv("FAUCET_FUNCTION_FILE")
    if (nzchar(file) && !file.exists(file)) {
      stop("The file that is to be run is not there: ", file, ".", call. = FALSE)
    }
    if (nzchar(file) && (tolower(basename(file)) == "plumber.r" || is_annotated(file))) {
      run_annotated(file)
    } else if (tolower(basename(file)) == "entrypoint.r") {
      run_entrypoint(file)
    } else if (nzchar(file) || file.exists("function.rds")) {
      faucet <- load_faucet()
      if (is.null(faucet)) {
        stop("A function needs an installed faucet.", call. = FALSE)
      }
      faucet$run_function(file, host, port)
    } else {
      serve_folder()
    }
  }

  need <- function(package, what) {
    if (!requireNamespace(package, quietly = TRUE)) {
      stop(what, " needs package ", package, ", which is not installed here.", call. = FALSE)
    }
  }

  # Where an interrupt stops what `later` calls, it arrives as an error, and with a text that no other error has.
  until_interrupted <- function(code) {
    tryCatch(code, error = function(error) {
      if (!startsWith(conditionMessage(error), "invoke_wrapped: throwing std::runtime_error")) stop(error)
    })
  }

  # Returns when it is interrupted, or when the app stops itself. It is quiet, as its address is not the one to open.
  run_shiny <- function(app) {
    need("shiny", "A Shiny app")
    until_interrupted(shiny::runApp(app, port = port, host = host, launch.browser = FALSE, quiet = TRUE))
  }

  run_document <- function(file) {
    if (grepl("[.]R$", file, ignore.case = TRUE)) {
      return(run_shiny(file))
    }
    if (grepl("[.]qmd$", file, ignore.case = TRUE)) {
      return(run_quarto(file))
    }
    need("shiny", "A document for Shiny")
    need("rmarkdown", "An R Markdown document")
    arguments <- list(port = port, host = host, launch.browser = FALSE, quiet = TRUE)
    # Each session renders it anew.
    quiet <- list(quiet = TRUE)
    until_interrupted(rmarkdown::run(file, shiny_args = arguments, render_args = quiet, auto_reload = FALSE))
  }

  # A program of its own, which ends with this process: it is told when this one is, and is in its process group.
  run_quarto <- function(file) {
    if (!nzchar(quarto <- Sys.which("quarto"))) {
      stop("A Quarto document needs the program quarto, which is not installed here (or not in PATH).", call. = FALSE)
    }
    need("shiny", "A document for Shiny")
    told <- tempfile("quarto-")
    arguments <- c(quarto, "serve", file, "--port", port, "--host", host, "--no-browser")
    system2("sh", c("-c", shQuote("echo $$ >\"$0\"; exec \"$@\""), shQuote(c(told, arguments))), wait = FALSE)
    while (!isTRUE(file.size(told) > 0)) Sys.sleep(0.01)
    pid <- as.integer(readLines(told))
    on.exit(tools::pskill(pid, tools::SIGINT))
    # Sleeping R is interrupted at once; this is how long the end of the program may go unnoticed.
    while (tools::pskill(pid, 0L)) Sys.sleep(0.5)
    message("quarto serve has ended.")
  }

  # Returns at the end of a template without an app. In each worker that is forked from it, what that serves is known only now.
  run_shared <- function() {
    faucet <- load_faucet()
    if (is.null(faucet)) {
      stop("A template needs an installed faucet.", call. = FALSE)
    }
    packages <- strsplit(Sys.getenv("FAUCET_PACKAGES"), ",", fixed = TRUE)[[1]]
    if (faucet$share_template(packages)) {
      port <<- as.integer(Sys.getenv("FAUCET_PORT"))
      options(plumber.port = port)
      serve()
    }
  }

  serve <- function() {
    if (identical(Sys.getenv("FAUCET_TEMPLATE"), "shared")) {
      run_shared()
    } else if (nzchar(Sys.getenv("FAUCET_FUNCTION"))) {
      run_deployed()
    } else if (nzchar(app <- Sys.getenv("FAUCET_APP"))) {
      run_object(app)
    } else if (nzchar(file <- Sys.getenv("FAUCET_FILE"))) {
      # It is in the working directory.
      run_file(basename(file))
    } else if (nzchar(document <- Sys.getenv("FAUCET_DOCUMENT"))) {
      run_document(document)
    } else {
      serve_folder()
    }
  }

  serve_folder <- function() {
    if (file.exists("_server.yml")) {
      launch_engine("_server.yml")
    } else if (!is.null(file <- find_file("entrypoint.R"))) {
      run_entrypoint(file)
    } else if (!is.null(file <- find_file("plumber.R"))) {
      run_annotated(file)
    } else if (!is.null(find_file("app.R")) || !is.null(find_file("server.R"))) {
      run_shiny(".")
    } else {
      stop("No _server.yml, entrypoint.R, plumber.R or Shiny app in ", getwd(), ".", call. = FALSE)
    }
  }

  # plumber's own option: for `pr_run(pr)`, which names no port.
  options(plumber.port = port)
  watch_front()
  if (is_template || nzchar(Sys.getenv("FAUCET_SOCKET"))) {
    serve_natively()
  }

  # The front asks with SIGINT, and asks again, as one that comes while httpuv's request is being handled ends just that
  # request. An interrupt that gets as far as here ends the server; from then on exit hooks are running, so that further
  # ones are waved through.
  leaving <- FALSE
  wave_through <- function(condition) {
    if (leaving) {
      tryInvokeRestart("resume")
    }
  }
  withCallingHandlers(
    {
      tryCatch(
        withCallingHandlers(
          without_addresses(serve()),
          interrupt = function(condition) {
            wave_through(condition)
            leaving <<- TRUE
          }
        ),
        interrupt = function(condition) NULL
      )
      leaving <- TRUE
      # Unlike the end of the script, it also runs `.Last()`.
      quit(save = "no", status = 0)
    },
    interrupt = wave_through,
    error = function(condition) if (nzchar(Sys.getenv("FAUCET_FORK"))) asNamespace("faucet")$note_error()
  )
})
