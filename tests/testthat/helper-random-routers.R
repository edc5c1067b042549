# Random plumber routers: R code, in parts that can be left out one by one.

# A router is a list of parts, each with `code` (lines of plumber.R) and `endpoints`: a list of `methods` and `path`, from
# which requests are made. Nothing in it depends on time, process, port or chance.
random_router <- function(seed) {
  with_choices(seed, {
    # Most are plain, as most of those in use: what is said of all of a router often decides how its routes are served.
    plain <- chance(0.6)
    filters <- if (!plain) lapply(seq_len(pick(c(0, 0, 1, 2))), random_filter)
    names <- vapply(filters, function(filter) filter$name, "")
    endpoints <- lapply(seq_len(pick(if (plain) 20:30 else 6:12)), function(i) random_part(names))
    modifiers <- if (!plain || chance(0.3)) random_modifiers(if (plain) 1 else pick(0:3))
    parts <- c(filters, sample(c(endpoints, random_mounts(), modifiers)))
    if (chance(0.1)) parts <- c(parts, list(changing_part()))
    if (chance(0.3)) parts <- c(parts, list(assets_part()))
    # Whatever goes before a filter has to know it.
    if (chance(if (plain) 0.05 else 0.1)) parts <- c(parts, list(list(code = modifier(pick(filter_removals)))))
    parts
  })
}

random_part <- function(filters) {
  if (chance(0.85)) annotated(random_endpoint(filters)) else programmed(random_endpoint(filters), hook = random_hook())
}

# As `pr(filters = )` does it, which plumb() leaves no room for.
filter_removals <- c(
  "pr$.__enclos_env__$private$filts <- list()",
  "pr$.__enclos_env__$private$filts <- Filter(function(filter) filter$name != \"cookieParser\", pr$filters)",
  "pr$.__enclos_env__$private$filts <- Filter(function(filter) filter$name != \"queryString\", pr$filters)",
  "pr$.__enclos_env__$private$filts <- Filter(function(filter) filter$name != \"body\", pr$filters)",
  "pr$.__enclos_env__$private$filts <- rev(pr$filters)"
)

# An endpoint that changes the router while that runs.
changing_part <- function() {
  change <- pick(c(
    "req$pr$handle(\"GET\", \"/added\", function(n = 0) list(added = n))",
    "req$pr$handle(\"GET\", \"/\", function() \"changed\")",
    "req$pr$removeHandle(\"GET\", \"/\")",
    "req$pr$setErrorHandler(function(req, res, err) list(changed = conditionMessage(err)))",
    "req$pr$set404Handler(function(req, res) list(changed = req$PATH_INFO))", "req$pr$setSerializer(serializer_text())",
    "req$pr$registerHook(\"preroute\", function(res) res$setHeader(\"X-Late\", \"1\"))", "req$pr$setDebug(TRUE)",
    "req$pr$registerHook(\"postserialize\", function(value) { value$headers[[\"X-Late\"]] <- \"1\"; value })",
    "req$pr$filter(\"late\", function(req, res) { res$setHeader(\"X-Late\", \"1\"); forward() })", "req$pr$setParsers(\"text\")",
    "req$pr$mount(\"/added\", pr() %>% pr_get(\"/\", function() \"mounted\"))", "options(plumber.trailingSlash = TRUE)",
    "options(plumber.methodNotAllowed = FALSE)", "options(plumber.sharedSecret = \"s\")", "options(digits = 3, scipen = 10)",
    "options(plumber.maxRequestSize = 10)", "register_serializer(\"text\", serializer_html, verbose = FALSE)",
    "for (end in req$pr$endpoints[[1]]) end$serializer <- serializer_text()",
    "for (end in unlist(req$pr$endpoints)) end$verbs <- c(end$verbs, \"PUT\")",
    "for (end in unlist(req$pr$endpoints)) end$registerHook(\"preexec\", function(res) res$setHeader(\"X-Late\", \"1\"))",
    "for (end in unlist(req$pr$endpoints)) end$registerHook(\"postexec\", function(value) \"late\")",
  "for (end in unlist(req$pr$endpoints)) end$setPath(paste0(end$path, \"/moved\"))",
    "for (end in unlist(req$pr$endpoints)) end$parsers <- NULL",
    "options(warn = 2)", "options(warnPartialMatchArgs = TRUE)", "typed <<- function(value) \"changed\"",
    "lockBinding(\"typed\", environment(typed))"
  ))
  # Seldom, as the first requests are for what was there before.
  code <- c("#* @get /change", "function(req) {", "  calls$count <- calls$count + 1",
  paste0("  if (calls$count == 3) { ", change, " }"), "  calls$count", "}")
  list(code = code, endpoints = list(list(methods = "GET", path = "/change")))
}

# What an endpoint has of its own, as code that registers it with the endpoint `end`.
random_hook <- function() {
  if (chance(0.6)) {
    pick(c(
      "end$registerHook(\"preexec\", function(data, req) { data$n <- req$args$n; req$args$hooked <- \"yes\" })",
      "end$registerHook(\"preexec\", function(res) res$setHeader(\"X-Hook\", \"1\"))",
      "end$registerHook(\"preexec\", function(n = 0) if (identical(n, \"5\")) stop(\"the hook fails\"))",
      "end$registerHook(\"postexec\", function(data, value) if (is.character(value)) toupper(value) else value)",
      "end$registerHook(\"postexec\", function(value, ...) value)",
      "end$registerHook(\"aroundexec\", function(..., .next) { value <- .next(...); if (is.list(value)) \"a list\" else value })",
      paste0(
        "end$registerHook(\"aroundexec\", function(req, res, .next, ...) {",
        " res$setHeader(\"X-Around\", \"1\"); .next(req = req, res = res, ...) })"
      )
    ))
  }
}

# What every handler may call. What a front adds to a request is none of the API's business, and differs.
router_prelude <- c(
  "own <- \"^(HTTP_)?(X[-_](FORWARDED|REQUEST)[-_].*|CONNECTION|HOST)$\"",
  "own_names <- \"^(SERVER_PORT|REMOTE_PORT|pr|rook[.].*|httpuv.version|[.].*)$\"",
  "headers_of <- function(req) as.list(req$HEADERS[!grepl(own, names(req$HEADERS), ignore.case = TRUE)])",
  "variables_of <- function(req) {",
  "  names <- grep(\"^(HTTP|CONTENT)_\", ls(req), value = TRUE)",
  "  mget(sort(names[!grepl(own, names)]), req)",
  "}",
  "names_of <- function(req) {",
  "  names <- ls(req, all.names = TRUE)",
  "  sort(names[!grepl(own, names) & !grepl(own_names, names)])",
  "}",
  "bytes_of <- function(text) if (is.null(text)) \"(none)\" else paste(charToRaw(text), collapse = \"\")",
  "sendable <- function(value) {",
  "  text <- function(value) sendable(if (is.list(value)) \"a list\" else value)",
  "  if (promises::is.promise(value)) return(promises::then(value, text))",
  "  if (is.atomic(value) && !is.character(value) && !is.raw(value) && !is.null(value)) format(value) else value",
  "}",
  "mounted <- function(router, path, filters = plumber:::defaultPlumberFilters) {",
  "  if (!grepl(\"/$\", path)) path <- paste0(path, \"/\")",
  "  if (is.null(router$mounts[[path]])) router$mount(path, pr(filters = filters))",
  "  router$mounts[[path]]",
  "}",
  "typed <- function(value) list(value = value, type = typeof(value), names = if (!is.environment(value)) names(value))",
  "known <- function(router, filter, otherwise) {",
  "  names <- c(\"__first__\", vapply(router$filters, function(filter) filter$name, \"\"))",
  "  if (filter %in% names) filter else otherwise",
  "}",
  "go_on <- function() forward()", "value_later <- function() promises::promise_resolve(\"later\")",
  "pass_later <- function() promises::then(promises::promise_resolve(1), function(value) forward())",
  "late_hook <- function(req, stage) {",
  "  if (calls$hooks > 0) return()",
  "  calls$hooks <- 1",
  "  for (end in unlist(req$pr$endpoints)) end$registerHook(stage, function(res) { res$setHeader(\"X-Late\", stage); \"late\" })",
  "}",
  "late_filter <- function(req) {",
  "  if (calls$filters > 0) return()",
  "  calls$filters <- 1",
  "  req$pr$filter(\"late\", function(req, res) { res$setHeader(\"X-Late\", \"filter\"); forward() })",
  "}",
  "warn_later <- function() promises::then(promises::promise_resolve(1), function(value) { warning(\"w\"); stop(\"e\") })",
  "ask_plain <- function(req) {",
  "  own <- list2env(as.list(req, all.names = TRUE)[c(\"HEADERS\", \"REQUEST_METHOD\", \"rook.input\")], parent = emptyenv())",
  "  own$PATH_INFO <- \"/nosuch/plain\"",
  "  rawToChar(charToRaw(req$pr$call(own)$body))",
  "}",
  "last_seen <- new.env()",
  "calls <- list2env(list(count = 0, hooks = 0, filters = 0))",
  "described <- function(x) UseMethod(\"described\")",
  "described.default <- function(x) class(x)",
  "memoised <- local({ kept <- list(); function(n = \"none\") { new <- is.null(kept[[n]]); kept[[n]] <<- TRUE; new } })",
  "shout <- function(...) function(val, req, res, errorHandler) {",
  "  tryCatch({",
  "    res$setHeader(\"Content-Type\", \"text/x-shout\")",
  "    res$body <- toupper(paste(format(val), collapse = \" \"))",
  "    res$toResponse()",
  "  }, error = function(error) errorHandler(req, res, error))",
  "}",
  "register_serializer(\"shout\", shout, verbose = FALSE)",
  "send_path <- function(val, req, res, errorHandler) list(status = 200L, headers = list(), body = req$PATH_INFO)",
  "register_serializer(\"path\", function(...) send_path, verbose = FALSE)",
  "count_of <- function(value) as.character(length(value))",
  "counted <- function(...) serializer_headers(list(\"X-Own\" = \"1\"), count_of)",
  "register_serializer(\"counted\", counted, verbose = FALSE)",
  "failing <- function(val, req, res, errorHandler) stop(\"the serializer fails\")",
  "register_serializer(\"fails\", function(...) failing, verbose = FALSE)",
  "own_parser <- function(...) function(value, ...) list(own = rawToChar(value[value != 0]))",
  "register_parser(\"own\", own_parser, fixed = \"application/x-own\", verbose = FALSE)",
  ""
)

# Files that some of the routers send.
router_files <- list(
  "www/index.html" = "<h1>index</h1>", "www/a.txt" = c("first", "second \u00e9"), "www/b c.txt" = "a space",
  "www/sub/index.html" = "sub", "www/data.json" = "{\"a\": 1}", "www/none" = "no extension", "www/\u00e9.html" = "e"
)

router_code <- function(router) {
  c(router_prelude, unlist(lapply(router, function(part) c(part$code, ""))))
}

write_router <- function(router, dir) {
  for (name in names(router_files)) {
    file <- file.path(dir, name)
    dir.create(dirname(file), recursive = TRUE, showWarnings = FALSE)
    writeLines(enc2utf8(router_files[[name]]), file, useBytes = TRUE)
    Sys.setFileTime(file, as.POSIXct("2020-02-29 12:00:00", tz = "UTC"))
  }
  for (folder in file.path(dir, c("www/sub", "www"))) Sys.setFileTime(folder, as.POSIXct("2020-02-29 12:00:00", tz = "UTC"))
  writeLines(enc2utf8(router_code(router)), file.path(dir, "plumber.R"), useBytes = TRUE)
}

# All endpoints of a router, as clients reach them.
endpoints_of <- function(router) {
  unlist(lapply(router, function(part) part$endpoints), recursive = FALSE)
}

random_filter <- function(i) {
  name <- paste0("filter", i)
  body <- pick(list(
    "  forward()",
    c("  res$setHeader(\"X-Filter\", paste(req$REQUEST_METHOD, req$PATH_INFO))", "  forward()"),
    c("  if (identical(req$argsQuery$stop, \"1\")) {", "    res$status <- 401", "    return(list(error = \"stopped\"))", "  }",
      "  forward()"),
    c("  if (!is.null(req$HTTP_X_FAIL)) stop(\"the filter fails: \", req$HTTP_X_FAIL)", "  forward()"),
    c("  req$args <- c(req$args, list(from_filter = \"yes\", n = 100))", "  forward()"),
    c("  if (!is.null(req$argsQuery$skip)) \"no forward\" else forward()"),
    c("  req$body <- list(n = \"of the filter\")", "  res$setCookie(\"filter\", req$argsQuery$n)", "  plumber::forward()"),
    c("  if (is.null(req$cookies$user)) res$setHeader(\"X-User\", \"none\") else req$user <- req$cookies$user", "  forward()"),
    c("  req$PATH_INFO <- sub(\"^/old\", \"\", req$PATH_INFO)", "  forward()")
  ))
  serializer <- if (chance(0.3)) paste("#* @serializer", pick(c("text", "html", "unboxedJSON")))
  list(name = name, code = c(paste("#* @filter", name), serializer, "function(req, res) {", body, "}"))
}

path_segments <- c(
  "a", "b", "items", "x-y", "v1.0", "long-name_with.dots", "A", "a+b", "~u", "a%20b", "%C3%A9", "a,b", "0", "old", "@home",
  "$price", "a:b", "it's", "(x)", "*", "[ab]", "a|b", "x?", ".", "\\d", "a{2}", "^a", "a$"
)
path_types <- c("int", "integer", "double", "dbl", "numeric", "number", "bool", "logical", "str", "chr", "string")

# Paths of one shape, of which the first that fits is to win.
family_paths <- list(
  list(path = "/item/<n:int>", parameters = "n"), list(path = "/item/<x:dbl>", parameters = "x"),
  list(path = "/item/5", parameters = character()),
  list(path = "/item/<b:bool>", parameters = "b"), list(path = "/item/<id>", parameters = "id"),
  list(path = "/item/<s:str>", parameters = "s"),
  list(path = "/item/", parameters = character()), list(path = "/item", parameters = character()),
  list(path = "/<type>/5", parameters = "type"),
  list(path = "/item/<n:[int]>", parameters = "n"), list(path = "/<type>/<id:int>", parameters = c("type", "id")),
  list(path = "/item/<id>/", parameters = "id"), list(path = "/item/<n:int>.json", parameters = "n"),

  list(path = "/item/<.x>", parameters = ".x"), list(path = "/item/<n:nosuch>", parameters = "n"),
  list(path = "/item/.*", parameters = character()),
  list(path = "/item|/other", parameters = character()), list(path = "item/a", parameters = character()),
  list(path = "/item/<req>", parameters = "req"),
  list(path = "/item/<res:int>", parameters = "res"), list(path = "/item/<a>-<b>", parameters = c("a", "b")),
  list(path = "//item", parameters = character()),
  list(path = "/item/<n:file>", parameters = "n"), list(path = "/item/[0-9]", parameters = character()),
  list(path = "/item/a?", parameters = character())
)

# A path, with what it takes: `path` and `parameters`.
random_path <- function() {
  if (chance(0.25)) pick(family_paths) else path_of_segments(pick(0:3))
}

path_of_segments <- function(depth) {
  names <- sample(c("n", "x", "s", "b", "id", "a.b", "type"))
  parameters <- character()
  has_array <- FALSE
  segments <- vapply(seq_len(depth), function(i) {
    if (chance(0.55)) {
      return(pick(path_segments))
    }
    parameters <<- c(parameters, names[[i]])
    type <- random_type(may_be_array = !has_array)
    has_array <<- has_array || startsWith(type, ":[")
    paste0("<", names[[i]], type, ">")
  }, "")
  path <- paste0("/", paste(segments, collapse = "/"))
  if (depth > 0 && chance(0.15)) path <- paste0(path, "/")
  list(path = path, parameters = parameters)
}

# The type of a parameter, as a path has it.
random_type <- function(may_be_array) {
  if (!chance(0.7)) {
    return("")
  }
  type <- pick(path_types)
  # plumber's pattern for several strings takes exponential time, and that of numbers with another one after it.
  if (!type %in% c("str", "chr", "string") && may_be_array && chance(0.15)) type <- paste0("[", type, "]")
  paste0(":", type)
}

random_endpoint <- function(filters = character()) {
  path <- random_path()
  some <- c("get", "get", "post", "post", "put", "delete", "head", "options", "patch")
  methods <- if (chance(0.08)) "use" else pick_some(some, pick(c(1, 1, 1, 2)))
  preempts <- c("queryString", "body", "cookieParser", "sharedSecret", "__first__", filters)
  parser <- if (chance(0.25)) pick(router_parsers)
  endpoint <- list(
    methods = unique(methods), path = path$path,
    serializer = if (chance(0.6)) pick(router_serializers),
    parsers = if (!is.null(parser)) parser,
    preempt = if (chance(0.12)) pick(preempts),
    handler = random_handler(path$parameters)
  )
  if (isTRUE(endpoint$serializer[1] %in% c("html", "null", "contentType"))) endpoint$handler <- sending(endpoint$handler)
  # In an environment, such as the request, are R's own matters; and yaml ends the process when it is given one.
  if (isTRUE(endpoint$serializer[1] %in% c("rds", "yaml"))) endpoint$handler <- function_code("req", pick(handler_echoes))
  endpoint
}

# The same handler for a serializer that changes nothing: its value is no number (see `never_made`).
sending <- function(handler) {
  last <- length(handler)
  if (last == 1) {
    return(function_code("", "\"sent\""))
  }
  c(handler[[1]], "  sendable({", paste0("  ", handler[-c(1, last)]), "  })", handler[[last]])
}

# Names with their arguments, as a list.
router_serializers <- list(
  c("json", ""), c("json", "list(na = \"string\")"), c("json", "list(digits = 3, pretty = TRUE)"), c("unboxedJSON", ""),
  c("unboxedJSON", "list(null = \"null\")"), c("text", ""), c("html", ""), c("cat", ""), c("print", ""), c("format", ""),
  c("rds", ""), c("rds", "list(ascii = TRUE)"), c("octet", ""), c("contentType", "list(type = \"application/x-own\")"),
  c("contentType", "list(type = \"text/plain; charset=latin1\")"), c("yaml", ""), c("null", ""), c("device_", ""),
  c("text", "list(type = \"text/x-own\")"), c("csv_", ""), c("json", "list(auto_unbox = TRUE, null = \"null\")"),
  c("json", "list(dataframe = \"columns\")"),
  c("json", "list(type = \"application/x-own\")"), c("unboxedJSON", "list(na = \"null\", digits = NA)"), c("shout", ""),
  c("path", ""), c("counted", ""),
  c("fails", ""), c("html", "list(type = \"text/x-html\")"), c("svg", "list(width = 2, height = 2)"),
  c("png", "list(width = 40, height = 40)"),
  c("octet", "list(type = \"image/x-own\")"), c("contentType", "list(type = \"text/plain\")"), c("headers_", ""),
  c("cat", "list(type = \"text/x-cat\")"),
  c("format", "list(nsmall = 2)"), c("yaml", "list(indent = 4)"), c("json", "list(force = TRUE)"), c("print", "list(digits = 3)")
)

# Those that are no serializers by name: plumber's csv needs a package that few machines have.
serializer_calls <- list(
  csv_ = paste0(
    "serializer_text(type = \"text/csv\", serialize_fn = function(x) {",
    " paste(utils::capture.output(utils::write.csv(x)), collapse = \"\\n\") })"
  ),
  device_ = "serializer_svg(width = 2, height = 2)",
  headers_ = "serializer_headers(list(\"X-One\" = \"1\", \"X-Two\" = 2), function(value) paste(format(value), collapse = \",\"))"
)

router_parsers <- list(
  "json", "form", "text", "octet", "multi", "yaml", "none", "rds", c("json", "form"), c("text", "multi", "octet"), "own",
  c("own", "json"),
  "json list(simplifyVector = FALSE)", "json list(simplifyDataFrame = FALSE)"
)

annotated <- function(endpoint) {
  serializer <- endpoint$serializer
  tag <- serializer[1]
  if (!is.null(serializer) && tag %in% names(serializer_calls)) {
    # There is no tag for it.
    return(programmed(endpoint))
  }
  list(
    endpoints = list(reached(endpoint)),
    code = c(
      paste0("#* @", endpoint$methods, " ", endpoint$path),
      if (!is.null(serializer)) trimws(paste("#* @serializer", tag, serializer[2])),
      if (!is.null(endpoint$parsers)) paste("#* @parser", endpoint$parsers),
      if (!is.null(endpoint$preempt)) paste("#* @preempt", endpoint$preempt),
      endpoint$handler
    )
  )
}

# The same in R code, also for a router that is mounted at `prefix`.
programmed <- function(endpoint, router = "pr", prefix = "", hook = NULL) {
  last <- sprintf("end <- utils::tail(%s$endpoints[[%s]], 1)[[1]]", router, preempt_code(router, endpoint, "\"__no-preempt__\""))
  list(
    endpoints = list(reached(endpoint, prefix)),
    code = modifier(c(handle_code(router, endpoint), if (!is.null(hook)) c(last, hook)))
  )
}

# What changes the router itself. Its value must be no other router.
modifier <- function(lines) {
  c("#* @plumber", "function(pr) {", paste0("  ", lines), "  NULL", "}")
}

# The call that adds an endpoint to a router, as lines.
handle_code <- function(router, endpoint) {
  serializer <- endpoint$serializer
  call <- if (is.null(serializer)) {
    "serializer_json()"
  } else if (serializer[1] %in% names(serializer_calls)) {
    serializer_calls[[serializer[1]]]
  } else {
    arguments <- if (nzchar(serializer[2])) serializer[2] else "list()"
    sprintf("do.call(plumber:::get_registered_serializer(\"%s\"), %s)", serializer[1], arguments)
  }
  methods <- toupper(methods_of(endpoint))
  preempt <- preempt_code(router, endpoint)
  parsers <- parsers_code(endpoint$parsers %||% c("json", "form", "text", "octet", "multi"))
  c(
    sprintf("%s$handle(%s, %s, preempt = %s,", router, deparse(methods), deparse(endpoint$path), preempt),
    sprintf("  serializer = %s, parsers = %s, handler = {", call, parsers), paste0("  ", endpoint$handler), "})"
  )
}

# Not every router has the filter.
preempt_code <- function(router, endpoint, otherwise = "NULL") {
  if (is.null(endpoint$preempt)) otherwise else sprintf("known(%s, \"%s\", %s)", router, endpoint$preempt, otherwise)
}

# Names, each perhaps with a list of arguments.
parsers_code <- function(parsers) {
  if (any(grepl(" ", parsers))) sprintf("list(%s)", sub(" ", " = ", parsers, fixed = TRUE)) else paste(deparse(parsers),
  collapse = "")
}

methods_of <- function(endpoint) {
  if ("use" %in% endpoint$methods) c("GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH") else endpoint$methods
}

reached <- function(endpoint, prefix = "") {
  list(methods = toupper(methods_of(endpoint)), path = paste0(prefix, sub("^([^/])", "/\\1", endpoint$path)))
}

# Routers in the router, and in these: each of their endpoints is a part of its own, which makes its router if it has to.
random_mounts <- function() {
  mounts <- lapply(seq_len(pick(c(0, 1, 1, 2))), function(i) {
    path <- pick(c("/sub/", "/sub/", "/a/", "/v1.0/", "/x/y/", "/items/", "/a/b/", "/sub/deep/", "/", "/item/", "/su"))
    sub <- sprintf("mounted(pr, %s%s)", deparse(path),
    pick(c("", "", "", ", filters = NULL", ", filters = plumber:::defaultPlumberFilters[1]")))
    deep <- sprintf("mounted(%s, \"/deep/\")", sub)
    prefix <- sub("/$", "", path)
    c(
      random_mount_settings(sub, 0.3),
      lapply(seq_len(pick(1:4)), function(i) programmed(random_endpoint(), sub, prefix, random_hook_seldom())),
      if (chance(0.4)) {
        c(random_mount_settings(deep, 0.2), lapply(1:2, function(i) programmed(random_endpoint(), deep, paste0(prefix, "/deep"))))
      }
    )
  })
  unlist(c(mounts, if (chance(0.1)) list(list(shared_mount()))), recursive = FALSE)
}

random_hook_seldom <- function() {
  if (chance(0.15)) random_hook()
}

random_mount_settings <- function(router, probability) {
  settings <- random_settings(router, probability)
  filter <- if (chance(0.2)) mount_filter(router)
  lapply(Filter(Negate(is.null), list(settings, filter)), function(code) list(code = modifier(code)))
}

mount_filter <- function(router) {
  body <- pick(c(
    "res$setHeader(\"X-Mount\", req$PATH_INFO); forward()", "if (is.null(req$argsQuery$stop)) forward() else \"stopped\"",
    "req$args$from_filter <- \"mount\"; forward()", "if (!is.null(req$argsQuery$skip)) stop(\"the filter fails\"); forward()"
  ))
  sprintf("%s$filter(\"own%d\", function(req, res) { %s })", router, sample.int(1000, 1), body)
}

# One router at two places.
shared_mount <- function() {
  endpoint <- random_endpoint()
  list(
    endpoints = list(reached(endpoint, "/one"), reached(endpoint, "/two")),
    code = modifier(c("both <- pr()", handle_code("both", endpoint), "pr$mount(\"/one\", both)", "pr$mount(\"/two\", both)"))
  )
}

# What may be set of a router as a whole, each with the code for it.
router_settings <- list(
  "%s$registerHook(\"preroute\", function(data, req, res) { data$seen <- req$PATH_INFO; res$setHeader(\"X-Pre\", \"1\") })",
  "%s$registerHook(\"preroute\", function(req, res) { if (identical(req$HTTP_X_FAIL, \"hook\")) stop(\"hook fails\") })",
  "%s$registerHook(\"postroute\", function(req, value) { if (is.list(value)) c(value, list(post = \"route\")) else value })",
  "%s$registerHook(\"postroute\", function(req, res) { res$setHeader(\"X-Post\", res$status) })",
  "%s$registerHook(\"preserialize\", function(data, value) { if (is.character(value)) toupper(value) else value })",
  "%s$registerHook(\"postserialize\", function(value, res) { value$headers[[\"X-Length\"]] <- length(value$body); value })",
  "%s$setErrorHandler(function(req, res, err) { res$status <- 418; list(message = conditionMessage(err)) })",
  "%s$setErrorHandler(function(req, res, err) { res$status <- 503; res$serializer <- serializer_text(); conditionMessage(err) })",
  "%s$setErrorHandler(function(req, res, err) stop(\"the handler of errors fails\"))",
  "%s$set404Handler(function(req, res) { res$status <- 404; list(no = req$PATH_INFO) })",
  "%s$set404Handler(function(req, res) stop(\"nothing here\"))",
  "%s$set404Handler(function(req, res) \"fallback\")",
  "%s$setSerializer(serializer_unboxed_json())", "%s$setSerializer(serializer_text())",
  "%s$setDebug(TRUE)", "%s$setParsers(c(\"json\", \"text\"))", "%s$setParsers(\"none\")",
  "pr_cookie(%s, NULL, \"session\")", "options(plumber.methodNotAllowed = FALSE)", "options(plumber.trailingSlash = TRUE)",
  "options(plumber.maxRequestSize = 200)", "options(plumber.sharedSecret = \"s\")", "%s$setSerializer(serializer_cat())",
  "%s$setSerializer(serializer_print())",
  "%s$setErrorHandler(function(req, res, err) { print(class(err)); res$status <- 500L; class(err) })",
  "%s$setErrorHandler(plumber:::defaultErrorHandler())",
  "%s$registerHook(\"preroute\", function(data) NULL)", "%s$registerHook(\"postroute\", function(value) value)",
  "%s$registerHook(\"preroute\", function(req) req$args <- list(n = 3))",
  "%s$registerHook(\"postserialize\", function(req, value) { cat(req$REQUEST_METHOD, value$status, \"\\n\"); value })",
  "%s$registerHook(\"preroute\", function(req) req$stamp <- 1)",
  "%s$registerHook(\"postroute\", function(data, value, res) { res$status <- 203; value })",
  "%s$registerHook(\"preroute\", function(req) { req$PATH_INFO <- \"/\" })",
  "for (one in utils::head(%s$filters, 1)) one$registerHook(\"postexec\", function(res) { res$setHeader(\"X-1\", \"1\"); TRUE })",
  "%s$setApiSpec(function(spec) list(own = 1))", "%s$setDocs(FALSE)", "options(digits = 3)", "options(scipen = 100)",
  "options(warnPartialMatchArgs = TRUE)",
  "%s$filter(\"added\", function(req) { req$added <- TRUE; forward() })", "%s$setDebug(FALSE)",
  "options(stringsAsFactors = FALSE)",
  "pr_cookie(%s, \"a key that is long enough for this, one would say\", \"session\")",
  "options(plumber.legacyRedirects = FALSE)", "%s$setParsers(c(\"json\", \"own\"))"
)

random_settings <- function(router, probability) {
  if (chance(probability)) sub("%s", router, pick(router_settings), fixed = TRUE)
}

random_modifiers <- function(count) {
  lapply(pick_some(router_settings, count), function(setting) {
    list(code = modifier(sub("%s", "pr", setting, fixed = TRUE)))
  })
}

assets_part <- function() {
  path <- pick(c("/", "/static", "/www/"))
  tag <- trimws(paste("#* @assets", pick(c("./www", "www")), path))
  files <- c(
    "/", "/index.html", "/a.txt", "/b%20c.txt", "/sub/", "/sub", "/data.json", "/none", "/%C3%A9.html", "/nosuch", "/../plumber.R"
  )
  prefix <- sub("/$", "", path)
  list(
    code = c(tag, "list()"),
    endpoints = lapply(files, function(file) list(methods = c("GET", "HEAD"), path = paste0(prefix, file)))
  )
}
