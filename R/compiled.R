# Serves requests for compiled routes: see `R/compile.R`. What is not plain after all goes on in plumber's own code, and nothing
# runs twice: see `R/resume.R`.

# Of the app that is served: the `app`, what is `private` to it, its `hooks` and its `plans`; and `globals`, plumber's own
# variables.
compiled <- new.env(parent = emptyenv())
compiled$plans <- list()

# Compiles an app's routes, unless that has been done, and returns what `compiled_routes()` tells of them, NULL of other apps.
compile_app <- function(app) {
  if (!identical(compiled$app, app)) {
    found <- tryCatch(compile_router(app), error = function(error) {
      message("No route is compiled: ", paste(conditionMessage(error), collapse = " "))
      NULL
    })
    compiled_stop()
    compiled$app <- app
    compiled$routes <- found$routes
    compiled$plans <- if (length(found$plans) > 0 && start_compiled(app, found)) found$plans else list()
  }
  compiled$routes
}

start_compiled <- function(app, found) {
  compiled$private <- private_of(app)
  compiled$hooks <- compiled$private$hooks
  compiled$globals <- asNamespace("plumber")$.globals
  most <- compiled$private$maxSize
  if (!isTRUE(most > 0)) most <- Inf
  compiled_start(found$router, found$plans, most)
}

# What plumber's forward() writes to until a handler has returned: one for each request.
new_exec <- function() {
  exec <- new.env(parent = emptyenv())
  exec$forward <- FALSE
  exec$is_ours <- TRUE
  compiled$globals$currentExec <- exec
  exec
}

# A handler has returned, or failed: with plumber, what runs from now on is outside of it, but for its promises. `warn` is R's
# option as it was.
leave_handler <- function(warn) {
  options(warn)
  compiled$globals$currentExec <- NULL
}

# Evaluates code in which what a compiled request leaves for later, the callbacks of promises, writes to that request's `exec` and
# to no other's. plumber does the same for what it serves itself, in a way of its own where routers are mounted.
with_own_execs <- function(code) {
  if (length(compiled$plans) == 0) {
    return(code)
  }
  globals <- compiled$globals
  wrap <- function(callback) {
    exec <- globals$currentExec
    if (!isTRUE(exec$is_ours)) {
      return(callback)
    }
    function(...) {
      before <- globals$currentExec
      on.exit(globals$currentExec <- before)
      globals$currentExec <- exec
      callback(...)
    }
  }
  promises::with_promise_domain(promises::new_promise_domain(wrapOnFulfilled = wrap, wrapOnRejected = wrap), code)
}

# From now on plumber serves all requests.
tell_change <- function() {
  compiled$plans <- list()
  message("The router has been changed since it was started: its routes are not compiled any more.")
}

# Whether the worker goes on.
handle_compiled <- function(app, on_headers, request, constants) {
  if (asks_for_secret()) {
    return(handle_request(app, on_headers, described_request(request), constants))
  }
  begin_request(NULL)
  plan <- compiled$plans[[request$route]]
  exec <- new_exec()
  args <- request$args
  call <- val <- body <- res <- failed <- NULL
  # These two have plumber's names, which the log shows if it fails.
  serialize_fn <- plan$serialize
  interrupted <- FALSE
  stage <- "arguments"
  # As plumber has it: a handler's warnings are shown when they come.
  warn <- options(warn = 1)
  tryCatch(
    {
      allowInterrupts({
        if (is.null(args)) {
          call <- begin_call(plan, app, request, constants)
          args <- call_arguments(call, plan)
          res <- call$res
        }
        stage <- "handler"
        val <- do.call(plan$func, args, envir = plan$envir)
        leave_handler(warn)
        stage <- next_stage(val, plan, res, exec)
        if (stage == "serializer") body <- serialize_fn(val)
      })
      if (stage != "value") {
        is_response <- stage == "response"
        stage <- "answer"
        if (is_response) answer(res$toResponse()) else answer_compiled(plan, res, body)
      }
    },
    error = function(error) {
      leave_handler(warn)
      failed <<- error
    },
    interrupt = function(condition) {
      leave_handler(warn)
      interrupted <<- TRUE
    }
  )
  if (!interrupted && (stage == "value" || !is.null(failed))) {
    if (stage == "answer") {
      answer_failure(failed)
    } else {
      interrupted <- attempt({
        if (is.null(call)) {
          call <- begin_call(plan, app, request, constants, all = TRUE, has_body = stage != "arguments")
          call_arguments(call, plan)
        }
        resume(call, plan, app, exec, stage, val, failed)
      })
    }
  }
  end_request(interrupted)
}

# What becomes of a handler's value: it is for the "serializer", it is the "response", or plumber is to look at the "value".
next_stage <- function(value, plan, res, exec) {
  if (exec$forward || has_new_hooks(plan) || !is_plain_response(res)) {
    "value"
  } else if (is.null(res)) {
    if (is_plain_value(value)) "serializer" else "value"
  } else if (inherits(value, "PlumberResponse")) {
    "response"
  } else if (identical(res$serializer, plan$serializer) && is_plain_value(value)) {
    "serializer"
  } else {
    "value"
  }
}

is_plain_value <- function(value) {
  !is.object(value) || !inherits(value, c("PlumberResponse", "plumber_attachment")) && !promises::is.promising(value)
}

# Whether a handler has registered some, which count for the request in hand.
has_new_hooks <- function(plan) {
  !identical(compiled$private$hooks, compiled$hooks) || !identical(plan$private$hooks, plan$hooks)
}

is_plain_response <- function(res) {
  is.null(res) || is.numeric(res$status) && length(res$status) == 1L && !is.na(res$status) && is.list(res$headers)
}

# Sends a serialized value.
answer_compiled <- function(plan, res, body) {
  if (is.null(res)) {
    is_bytes <- is.raw(body) || is.character(body) && length(body) == 1L
    if (is_bytes && is.null(names(body)) && length(refused$what) == 0L) {
      if (serve_has_streamed()) {
        return(invisible())
      }
      head <- plan$head
      failure <- serve_answer(head$status, head$names, head$values, if (is.raw(body)) body else charToRaw(body))
      if (!is.null(failure)) raise_failure(failure)
    } else {
      answer(list(status = 200L, headers = plan$headers, body = body))
    }
  } else {
    # The app may have kept it.
    res$headers <- c(res$headers, plan$headers)
    res$body <- body
    if (res$status %in% c(100:199, 204, 304)) body <- NULL
    answer(list(status = res$status, headers = res$headers, body = body))
  }
}

# A call whose handler takes more than what is in path and query. It has `query` and `path`, the arguments there; `bytes`, the
# body, and its `type`; and what the handler takes of `req` and `res`, or `all`. Without `has_body` the body cannot be read.
begin_call <- function(plan, app, request, constants, all = FALSE, has_body = TRUE) {
  call <- list2env(list(app = app, request = request, constants = constants), parent = emptyenv())
  told <- if (is.null(request$args)) request else serve_arguments()
  call$query <- told$query
  call$path <- if (length(told$path) == 0) stats::setNames(list(), character()) else told$path
  call$path_info <- told[["path_info"]]
  call$type <- told[["type"]]
  call$bytes <- if (has_body) body_bytes(request) else raw()
  if (all || plan$takes_req) complete_request(call)
  if (all || plan$takes_res) complete_response(call, plan)
  call
}

# The body of a request whose input nobody else reads.
body_bytes <- function(request) {
  if (request$length == 0) {
    return(raw())
  }
  bytes <- serve_body(0, Inf)
  if (is.list(bytes)) raise_failure(bytes)
  bytes
}

# The values of a handler's arguments.
call_arguments <- function(call, plan) {
  plumber <- asNamespace("plumber")
  args <- c(list(), call$query)
  set_fields(call, list(args = args, argsPath = call$path))
  body <- parse_bytes(plan, call$bytes, call$type)
  set_fields(call, list(body = body))
  args_body <- plumber$req_body_args(list(body = body))
  args <- c(args, call$path, args_body)
  set_fields(call, list(argsBody = args_body, args = args))
  plumber$getRelevantArgs(c(list(req = call$req, res = call$res), args), plan$func)
}

# Fields of a request, if there is one already; if not, when there is one.
set_fields <- function(call, fields) {
  if (is.null(call$req)) call$fields <- c(call$fields, fields) else list2env(fields, call$req)
}

# As plumber's req_body_parser() does it.
parse_bytes <- function(plan, value, type) {
  if (length(plan$parsers) == 0) {
    return(NULL)
  }
  if (length(value) == 0) {
    return(list())
  }
  if (!is.null(plan$parse_json) && identical(type, "application/json")) {
    # What the parser of that type does, in its words, which has to find out which charset that is.
    parse_fn <- plan$parse_json
    txt_value <- rawToChar(value)
    Encoding(txt_value) <- "UTF-8"
    return(parse_fn(txt_value))
  }
  parser <- asNamespace("plumber")$parser_picker(type, value[1], NULL, plan$parsers)
  if (is.null(parser)) {
    message("No suitable parser found to handle request body type ", type, ".")
    return(list())
  }
  # The call, with all of its values, is what an error tells of.
  do.call(parser, list(value = value, content_type = type, parsers = plan$parsers))
}

# Makes a call's `req`, with what plumber and its filters put there.
complete_request <- function(call) {
  req <- rook_request(described_request(call$request), call$constants, at = length(call$bytes))
  input <- req$rook.input
  internal <- list2env(list(queryStringHandled = TRUE, bodyHandled = TRUE), parent = baseenv())
  list2env(list(pr = call$app, .internal = internal, args = call$query, argsQuery = call$query, bodyRaw = call$bytes), req)
  if (!is.null(call$path_info)) req$PATH_INFO <- call$path_info
  delayedAssign(
    "postBody",
    {
      input$rewind()
      paste0(input$read_lines(), collapse = "\n")
    },
    assign.env = req
  )
  cookie <- req$HTTP_COOKIE
  if (is.null(cookie)) {
    req$cookies <- list()
  } else {
    delayedAssign("cookies", asNamespace("plumber")$parseCookies(cookie), assign.env = req)
  }
  # Of several with one name the last is the latest.
  list2env(as.list(call$fields), req)
  call$req <- req
}

complete_response <- function(call, plan) {
  res <- asNamespace("plumber")$PlumberResponse$new(compiled$private$default_serializer)
  res$serializer <- plan$serializer
  call$res <- res
}

# The request in hand as `rook_request()` takes it.
described_request <- function(request) {
  c(serve_fields(), list(length = request$length))
}
