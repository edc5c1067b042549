#' Make a service of a function
#'
#' `deploy()` gives an R function, a folder with an API, or a program to an agent, which keeps it running with processes, a
#' URL, a log and limits of its own, and returns when it answers. To deploy it again is to replace it: the new version
#' starts, requests go there, and the old one finishes what it has.
#'
#' @section What is deployed:
#' - *An R function.* Its first parameter is the input of a call, the others are options, which must be given if they have no
#'   default. See [invoke()] for how both get there.
#' - *A folder* with an API as [run()] takes it (`plumber.R`, `entrypoint.R`, ...), all of which is then served below the
#'   function's URL; or, with `file`, one whose R file defines a function of that name. Folders of version control and the
#'   like stay here. A path to one `.R` file deploys that file.
#' - *A program*, `command = c("sed", "-n")`, run anew for each call: the input goes to its standard input, its standard
#'   output is the answer, options become arguments (`-k v`, `--key v`). A status other than 0 is an error.
#' - *A service* that runs already, `url = "http://10.0.0.7:8080/path"`: it gets a name, a queue, limits and metrics like the
#'   others. With `url = "grpc://10.0.0.7:50051"` it is one of gRPC, which has one call at a time unless `workers` says more.
#' - *A file* that defines functions: see below.
#'
#' @section What a function takes along:
#' Nothing but what is said: objects in `globals`, packages in `packages`, which are attached where it runs. Variables around a
#' function that was made by another one are globals, too. What it uses and lacks is looked for before anything is sent
#' (by [codetools::findGlobals()], also in the functions among its globals), and named with its line. That includes
#' columns of data that are written like variables: `.data$x` is understood, and so are `with()`, `within()`, `subset()`
#' and `transform()`. Elsewhere, `globals = list(x = NULL)` lets the name `x` be: data are looked into first.
#'
#' The agent needs the same minor version of R, and the same versions of the packages in `packages` and of those that the
#' code names (`pkg::fun`, `library(pkg)`). Where they differ the deployment fails, and says which: nothing is installed.
#'
#' @section Streams:
#' With `stream = TRUE`, the function is called as `function(input, output, ...)` while the input comes: `input$read()`
#' returns the bytes that are there (raw; waits for some, and gives 256 KiB at most, or `n` of `input$read(n)`), and `NULL` at its
#' end; `output$write()` sends text or bytes, and waits for a client that reads slowly.
#'
#' @section Definition files:
#' A `.yaml` file has functions by name below `functions`; a `.json` file is an array of them, or an object with such an
#' array as `deploy`, as RYO-FaaS has it. Each has a `dir`, a `command`, a `url` or a `bundle`, and the arguments of this
#' function in their names here or in JSON's (`maxBody`, `cpuTime`, `filePath`, `toAgent`). A `dir` that is relative is a
#' folder beside the file, which is uploaded; an absolute one is a folder on the agent's machine. RYO-FaaS's `packageDir` and
#' `agentAddr` are understood.
#' ```yaml
#' functions:
#'   sed:
#'     command: [sed, --sandbox, -n]
#'     options: [e=]
#'   model:
#'     dir: model
#'     file: model.R
#'     workers: [0, 4]
#'     memory: 2GB
#' ```
#'
#' @section Where requests go:
#' `to` and `token` can be set for all functions at once, by `options(faucet.to = , faucet.token = )`, or by the environment
#' variables `FAUCET_TO` and `FAUCET_TOKEN`. So can `ca`, a file with certificates of those who vouch for a server's (by
#' default the system's), and `insecure`, which allows a token to be sent to other machines without TLS. See
#' [`faucet-options`].
#'
#' @param fn A function, a folder, or the path of a file: R code (`.R`), or functions' definitions (`.yaml`, `.json`).
#' @param name What it is called: up to 64 letters, digits, `.`, `_` and `-`. By default that of the variable or the folder.
#' @param to The agent or proxy: `"host:port"` (port 9000 if there is none), a URL with `http://` or `https://`, or
#'   `"unix:/path"`. By default the setting `to`, or else this machine's port 9000.
#' @param workers R processes: a number, or the least and the most. With `c(0, n)`, there is none while nobody calls it.
#' @param replicas On how many agents it runs, if `to` is a proxy.
#' @param packages Names of packages to attach.
#' @param globals Objects that it needs: names of variables, or a named list.
#' @param secrets Names of those that it may read by `secret()`; see [secret_set()].
#' @param env Environment variables: a named character vector.
#' @param timeout Seconds that a call may take. Then its caller gets 504. `NULL` leaves this, and the limits that follow, to
#'   the agent.
#' @param max_body Largest input, in bytes, or as `"16MB"`.
#' @param queue Calls that may wait for a worker.
#' @param memory Memory that a worker may use, in bytes, or as `"2GB"`.
#' @param cpu_time Seconds that a call may compute.
#' @param stream Whether the function reads and writes bit by bit.
#' @param rds Whether it reads RDS. To read RDS can mean to run code: only if all callers are trusted.
#' @param file In a folder: the R file that defines the function.
#' @param command A program and its arguments. No shell sees them.
#' @param options Options that callers may give a program, by default none: `"n"` is a flag (`?n`, `-n`), `"e="` takes a
#'   value (`?e=x`, `-e x`), and `"..."` is any other, such as one that writes files.
#' @param url Of a service that runs already: `http://`, `https://`, or `grpc://host:port` for one that speaks gRPC.
#' @param services Of a `grpc://` URL: names of services, such as `"package.Service"`, that are called at `to` by
#'   these names, as stock clients of gRPC call them. Each is one function's alone: another one that has it is to be stopped
#'   first, or this is refused (`cause` is `"service_taken"`). By the function's name, all can be called,
#'   `/functions/<name>/package.Service/Method`.
#' @param at_agent The only agent that is to have it, if `to` is a proxy: `"host:port"`, or its name.
#' @param token Secret that is shown to `to`. Better than in code it is in the environment variable `FAUCET_TOKEN`.
#' @param wait Seconds to wait until it answers.
#' @param quiet Whether to show no progress.
#'
#' @return Invisibly, a data frame with a row for each function: its `name`, `status`, `url` and more; see [functions()].
#'
#' @section Error conditions:
#' All inherit from `faucet_error`. Until the third, nothing was sent.
#'
#' - `faucet_error_option`: an argument has a value that it does not take, or the token could be overheard. Field `option`.
#' - `faucet_error_function`: the function uses what it does not bring along. Fields `name` (of that), `function` and `line`.
#' - `faucet_error_definition`: a definition file cannot be used. Fields `file` and `field`.
#' - `faucet_error_bundle`, `faucet_error_file`: a folder cannot be packed, or not be sent.
#' - `faucet_error_connect`, `faucet_error_timeout`, `faucet_error_answer`: the server cannot be reached, has not answered in
#'   time, or is no agent or proxy. Field `server`.
#' - `faucet_error_refused`: it refuses, as without the right token. Fields `status`, `cause`, and `field` of the definition.
#' - `faucet_error_deploy`: the function does not answer. Fields `lines`, its last lines, and `functions`, what was told of all.
#'   A version that was there before goes on.
#'
#' @seealso [invoke()] calls it, [functions()] tells of it, [secret_set()].
#' @export
#' @examples
#' \dontrun{
#' deploy(function(text, e) sub(strsplit(e, "/")[[1]][[2]], strsplit(e, "/")[[1]][[3]], text), name = "sed")
#' invoke("sed", "I hate this", e = "s/hate/love/")
#'
#' # A model, and the package that its prediction needs
#' fitted <- lm(mpg ~ wt, mtcars)
#' deploy(function(cars) predict(fitted, cars), "mpg", globals = "fitted", workers = c(1, 4))
#'
#' # A program, an API, and what a file defines
#' deploy(command = c("tr", "a-z", "A-Z"), name = "upper")
#' deploy("api", to = "proxy.example.com:9002", replicas = 2)
#' deploy("functions.yaml")
#' }
deploy <- function(
    fn = NULL, name = NULL, to = NULL, workers = c(0, 1), replicas = 1, packages = character(), globals = list(),
    secrets = character(), env = character(), timeout = NULL, max_body = NULL, queue = NULL, memory = NULL, cpu_time = NULL,
    stream = FALSE, rds = FALSE, file = NULL, command = NULL, url = NULL, services = NULL, options = NULL, at_agent = NULL,
    token = NULL, wait = 120, quiet = FALSE) {
  call <- rlang::current_env()
  written <- substitute(fn)
  wait <- check_wait(wait, "wait", call = call)
  quiet <- check_setting(quiet, "quiet", setting("flag", NULL, ""), call = call)
  server <- resolve_server(to, token, call = call)
  made <- if (is_definition_file(fn)) {
    refuse_beside_file(names(match.call())[-1], call = call)
    read_definitions(fn, call = call)
  } else {
    given <- list(
      name = name, workers = workers, replicas = replicas, packages = packages, globals = globals, secrets = secrets, env = env,
      timeout = timeout, max_body = max_body, queue = queue, memory = memory, cpu_time = cpu_time, stream = stream, rds = rds,
      file = file, command = command, url = url, services = services, options = options, at_agent = at_agent
    )
    list(define(fn, given, default_name(fn, written, command), call = call))
  }
  on.exit(for (one in made) if (isTRUE(one$is_made)) unlink(one$folder, recursive = TRUE), add = TRUE)
  progress <- deploy_progress(quiet)
  on.exit(progress$end(), add = TRUE)
  deploy_all(server, made, wait, progress, call = call)
}

# All that goes with a definition file: the rest is in it.
refuse_beside_file <- function(given, call = NULL) {
  others <- setdiff(given, c("fn", "to", "token", "wait", "quiet"))
  if (length(others) > 0) {
    abort("option", c(
      "{.arg {others}} {cli::qty(others)}{?is/are} for one function, and a file defines its own.",
      i = "Write {cli::qty(others)}{?it/them} into the file."
    ), option = others[[1]], call = call)
  }
}

# What the caller calls it.
default_name <- function(fn, written, command) {
  if (is.function(fn)) {
    if (is.name(written)) as.character(written)
  } else if (rlang::is_string(fn)) {
    sub("[.][Rr]$", "", basename(normalizePath(path.expand(fn), mustWork = FALSE)))
  } else if (is.character(command) && length(command) > 0) {
    basename(command[[1]])
  }
}

deploy_all <- function(server, made, wait, progress, call = NULL) {
  names <- vapply(made, function(one) one$definition$name, "")
  progress$begin(paste0("Deploying ", paste(names, collapse = ", "), " to ", server$url))
  definitions <- lapply(made, function(one) {
    definition <- one$definition
    if (!is.null(one$folder)) definition$bundle <- upload_folder(server, one$folder, progress, call = call)
    definition
  })
  progress$step("Starting")
  table <- settle(server, "/deploy", definitions, wait, progress, call = call)
  progress$end()
  for (row in seq_len(nrow(table))) progress$say(paste0("Deployed ", table$name[[row]], ": ", table$url[[row]]))
  invisible(table)
}

# The longest that a server holds a request back for what it asks for, in seconds.
longest_held <- 600

# Between two looks at what takes longer, in seconds.
look_pause <- 0.5

# Asks for what takes a while, and waits until it is settled. Raises what has failed.
settle <- function(server, path, content, wait, progress, call = NULL) {
  deadline <- seconds_now() + wait
  first <- min(wait, longest_held / 2)
  found <- as_rows(ask_json(
    server, "POST", with_query(path, list(wait = format(first, scientific = FALSE))), content,
    timeout = first + answer_timeout, waiting = progress$tick, call = call
  ))
  names <- vapply(found, function(one) as_string(one$name), "")
  while (any(is_under_way(found)) && seconds_now() < deadline) {
    Sys.sleep(look_pause)
    progress$tick()
    for (at in which(is_under_way(found))) {
      now <- as_rows(ask_json(server, "GET", with_query("/details", list(name = names[[at]])), call = call))
      if (length(now) > 0) found[[at]] <- now[[1]]
    }
  }
  progress$end()
  check_deployed(found, wait, call = call)
  for (one in found) if (rlang::is_string(one$note)) progress$say(paste0("`", as_string(one$name), "`: ", one$note))
  invisible(function_table(found))
}

is_under_way <- function(found) {
  vapply(found, function(one) isTRUE(one$status %in% c("uploaded", "deploying")), NA)
}

check_deployed <- function(found, wait, call = NULL) {
  bad <- Filter(Negate(is_well), found)
  if (length(bad) == 0) {
    return(invisible())
  }
  messages <- vapply(bad, why_not_deployed, "", wait = wait)
  lines <- lapply(bad, function(one) as.character(unlist(one$lines)))
  shown <- Map(function(message, lines) {
    c(message, if (length(lines) > 0) c("Its last lines:", rlang::set_names(lines, rep(" ", length(lines)))))
  }, messages, lines)
  rlang::abort(
    unlist(unname(shown)),
    class = error_class("deploy"), lines = unlist(lines), functions = function_table(found), call = shown_call(call),
    trace = trace_to(call)
  )
}

# One that is deployed and has something to say is the version before: it goes on, as the new one does not start.
is_well <- function(one) {
  identical(one$status, "deployed") && !rlang::is_string(one$message)
}

why_not_deployed <- function(one, wait) {
  name <- paste0("`", as_string(one$name), "`")
  why <- as_string(one$message)
  if (is_under_way(list(one))) {
    paste0(name, " has not answered within ", format(wait, scientific = FALSE), " s. It is still being tried.")
  } else if (is.na(why)) {
    paste0(name, " does not answer: it is ", as_string(one$status), ".")
  } else {
    before <- if (identical(one$status, "deployed")) paste0(" Version ", as_string(one$version), " goes on.")
    paste0(name, " cannot be deployed: ", why, before)
  }
}

# What is seen of a deployment: a line that changes where the terminal can do that, or else a message at its start and its end.
deploy_progress <- function(quiet) {
  changes <- !quiet && has_status_line()
  text <- NULL
  marks <- c("-", "\\", "|", "/")
  turn <- 0
  show <- function() if (changes && !is.null(text)) show_status_line(paste(marks[[turn %% 4 + 1]], text))
  list(
    begin = function(what) {
      text <<- what
      if (changes) show() else say(what, quiet = quiet)
    },
    step = function(what) {
      text <<- what
      show()
    },
    tick = function() {
      turn <<- turn + 1
      show()
    },
    say = function(what) say(what, quiet = quiet),
    end = function() {
      text <<- NULL
      if (changes) hide_status_line()
    }
  )
}
