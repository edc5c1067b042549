# What a router of plumber's does with a request, worked out before the first one: which of its routes are plain, so that Rust can
# find them and their arguments, and R is called once, for the handler and the serializer (`R/compiled.R`). Why one is not is
# told by `compiled_routes()`.
#
# Reference: plumber's `Plumber$route()` and `PlumberEndpoint`, the same in all versions from 1.2.1 to 1.3.3.

known_plumber <- c("1.2.1", "1.3.3")

# NULL if the app is no router of plumber's. Otherwise a list: `routes`, a data frame with a row for each route; `router`, the
# same for Rust; and `plans`, what R needs of those that are compiled. See `compiled_start()`.
compile_router <- function(app) {
  if (!inherits(app, "Plumber")) {
    return(NULL)
  }
  reading <- list2env(list(app = app, plans = list(), rows = list()), parent = emptyenv())
  router <- read_router(reading, list(app), "", why_no_route(app))
  rows <- reading$rows
  routes <- data.frame(
    method = vapply(rows, `[[`, "", "method"),
    path = vapply(rows, `[[`, "", "path"),
    compiled = vapply(rows, function(row) is.na(row$why), NA),
    why = vapply(rows, `[[`, "", "why"),
    stringsAsFactors = FALSE
  )
  list(routes = routes, router = router, plans = reading$plans)
}

# Why none of an app's routes can be compiled; NULL if some may.
why_no_route <- function(app) {
  version <- utils::packageVersion("plumber")
  hooks <- lengths(private_of(app)$hooks[c("preroute", "postroute", "preserialize", "postserialize")])
  if (!compiles()) {
    "compile = FALSE"
  } else if (version < known_plumber[[1]] || version > known_plumber[[2]]) {
    paste0("plumber ", version, " is not known: ", paste(known_plumber, collapse = " to "), " is")
  } else if (!is_exactly(app, "Plumber")) {
    "the router is of a class of its own, or a method is its own"
  } else if (any(hooks > 0)) {
    paste0("the router has a hook: ", paste(names(hooks)[hooks > 0], collapse = ", "))
  } else if (asks_for_secret()) {
    "plumber.sharedSecret is set"
  }
}

# The front tells its workers.
compiles <- function() {
  !identical(Sys.getenv("FAUCET_COMPILE"), "false")
}

# plumber looks at the environment from 1.3.0 on.
asks_for_secret <- function() {
  !is.null(getOption("plumber.sharedSecret")) || nzchar(Sys.getenv("PLUMBER_SHAREDSECRET"))
}

private_of <- function(object) object$.__enclos_env__$private

# Whether an R6 object is of that class of plumber's, and of none that is derived from it, with that class's own methods.
is_exactly <- function(object, class) {
  class(object)[[1]] == class && identical(parent.env(object$.__enclos_env__), asNamespace("plumber")) &&
    all(vapply(called_methods[[class]], function(name) is_same_code(object[[name]], method_of(class, name)), NA))
}

# What of a class serves requests.
called_methods <- list(
  Plumber = c("call", "serve", "route", "onHeaders"),
  PlumberEndpoint = c("exec", "canServe", "matchesPath", "getPathParams"),
  PlumberFilter = "exec"
)

method_of <- function(class, name) {
  plumber <- asNamespace("plumber")
  plumber[[class]]$public_methods[[name]] %||% plumber$PlumberStep$public_methods[[name]]
}

# The last of `routers`, each mounted in the one before it, for Rust. It is at `prefix`; `why` is why nothing in it can be
# compiled; `filters` are those of plumber's that have not run before it; and `watched` is what must not change in the others.
read_router <- function(reading, routers, prefix, why, filters = plumber_filters(), watched = list()) {
  router <- routers[[length(routers)]]
  private <- private_of(router)
  endpoints <- list()
  # Those that preempt the filter with this number, or 0, all of them.
  read <- function(group, at, why) {
    for (endpoint in private$ends[[group]]) {
      place <- list(routers = routers, filter = at, filters = length(private$filts), watched = watched)
      endpoints[[length(endpoints) + 1]] <<- read_endpoint(reading, endpoint, place, prefix, why)
    }
  }
  watched <- c(watched, watch_router(router))
  read("__first__", 0L, why %||% why_preempting(filters))
  for (at in seq_along(private$filts)) {
    filter <- private$filts[[at]]
    read(filter$name, at, why %||% why_preempting(filters))
    if (is_default_filter(filter)) {
      filters <- setdiff(filters, filter$name)
    } else {
      why <- why %||% paste0("filter `", filter$name, "` comes before it")
    }
  }
  read("__no-preempt__", length(private$filts) + 1L, why %||% why_preempting(filters))
  mounts <- lapply(names(private$mnts), function(path) {
    inner <- c(routers, private$mnts[[path]])
    read_mount(reading, inner, paste0(prefix, sub("/$", "", path)), why, filters, watched)
  })
  list(endpoints = endpoints, mounts = stats::setNames(mounts, names(private$mnts)))
}

# What must not change in a router, so that its routes are what they were.
watch_router <- function(router) {
  private <- private_of(router)
  hooks <- lapply(private$filts, function(filter) watch(private_of(filter), "hooks"))
  c(
    watch(private, c("ends", "filts", "mnts", "hooks", "default_parsers")), watch(router, called_methods$Plumber),
    unlist(hooks, recursive = FALSE)
  )
}

plumber_filters <- function() names(asNamespace("plumber")$defaultPlumberFilters)

is_default_filter <- function(filter) {
  default <- asNamespace("plumber")$defaultPlumberFilters[[filter$name]]
  private <- private_of(filter)
  is_exactly(filter, "PlumberFilter") && identical(private$func, default) && all(lengths(private$hooks) == 0)
}

# Of plumber's own filters each must have run, as the request would lack something otherwise.
why_preempting <- function(missing) {
  if (length(missing) > 0) paste0("plumber's filter `", missing[[1]], "` does not come before it")
}

read_mount <- function(reading, routers, prefix, why, filters, watched) {
  if (is_exactly(routers[[length(routers)]], "Plumber")) {
    return(read_router(reading, routers, prefix, why, filters, watched))
  }
  note_route(reading, "", paste0(prefix, "/"), "it serves files, or is a router of another kind")
  # In which Rust finds nothing.
  list(endpoints = list(), mounts = list())
}

note_route <- function(reading, methods, path, why) {
  row <- list(method = paste(methods, collapse = ", "), path = path, why = why %||% NA_character_)
  reading$rows <- c(reading$rows, list(row))
}

# `place` is where it is: its `routers`, and the number of the `filter` that it preempts, of so many `filters`
# in the last of them.
read_endpoint <- function(reading, endpoint, place, prefix, why) {
  regex <- private_of(endpoint)$regex
  router <- private_of(place$routers[[length(place$routers)]])
  # The arguments in its path.
  types <- as.character(regex$types)
  why <- why %||% why_no_endpoint(endpoint, router, regex$regex, types)
  number <- 0L
  if (is.null(why)) {
    plan <- plan_of(reading$app, endpoint, router, place)
    if (is.character(plan)) {
      why <- plan
    } else {
      plan$names <- as.character(regex$names)
      plan$types <- types
      number <- length(reading$plans) + 1L
      reading$plans[[number]] <- plan
    }
  }
  note_route(reading, endpoint$verbs, paste0(prefix, endpoint$path), why)
  list(methods = as.character(endpoint$verbs), regex = regex$regex, types = types, number = number)
}

# Why an endpoint cannot be compiled, as far as that is not for its handler, serializer or parsers.
why_no_endpoint <- function(endpoint, router, regex, types) {
  if (!is_exactly(endpoint, "PlumberEndpoint")) {
    "it is of a class of its own, or a method is its own"
  } else if (is_told_off(endpoint, router$lines)) {
    "@compile off"
  } else if (!compiled_knows(regex, types)) {
    "only plumber can tell what its path matches"
  } else if (any(lengths(private_of(endpoint)$hooks) > 0)) {
    if ("aroundexec" %in% names(private_of(endpoint)$hooks)) "it draws an image, or has a hook around it" else "it has a hook"
  }
}

# Whether `#* @compile off` stands among the annotations of an endpoint, whose expression begins at that line of a file.
is_told_off <- function(endpoint, lines) {
  at <- endpoint$lines[1] - 1
  while (isTRUE(at > 0) && grepl("^#['*]|^\\s*$", lines[at], useBytes = TRUE)) {
    if (grepl("^#['*]\\s*@compile\\s+(off|false)\\s*$", lines[at], ignore.case = TRUE, useBytes = TRUE)) {
      return(TRUE)
    }
    at <- at - 1
  }
  FALSE
}

# What R needs to serve a compiled endpoint; or why it cannot be, as a string.
plan_of <- function(app, endpoint, router, place) {
  private <- private_of(endpoint)
  func <- private$func
  why <- why_no_handler(func)
  serializer <- endpoint$serializer %||% private_of(app)$default_serializer
  serializing <- known_serializer(serializer)
  parsers <- endpoint$parsers %||% router$default_parsers
  if (!is.null(why)) {
    return(why)
  } else if (is.null(serializing)) {
    return("its serializer is the app's own")
  } else if (!are_known_parsers(parsers)) {
    return("a parser is the app's own")
  }
  takes <- names(formals(func))
  is_open <- "..." %in% takes
  list(
    func = func,
    envir = private$envir,
    hooks = private$hooks,
    private = private,
    serializer = serializer,
    serialize = serializing$serialize,
    headers = serializing$headers,
    head = serializing$head,
    parsers = parsers,
    parse_json = json_function(parsers),
    takes_req = is_open || "req" %in% takes,
    takes_res = is_open || "res" %in% takes,
    # Which arguments count, where R need not look at them.
    formals = if (!is_open && !any(c("req", "res") %in% takes)) as.character(takes),
    place = place,
    watched = c(
      place$watched, watch(endpoint, c("verbs", "serializer", "parsers", "exec")),
      watch(private, c("func", "envir", "regex", "hooks")), watch(private_of(app), c("default_serializer", "maxSize"))
    )
  )
}

# Variables of an environment, for Rust to watch.
watch <- function(environment, names) {
  list(list(environment, intersect(names, ls(environment, all.names = TRUE))))
}

# Calls that a handler of a plain route does not make. What it calls by way of other functions is seen when it has.
asynchronous <- c(
  "promise", "future_promise", "promise_resolve", "promise_reject", "future", "then", "%...>%", "%...!%", "%...T>%", "%>...%"
)

why_no_handler <- function(func) {
  if (is.primitive(func)) {
    return("its handler is a primitive function")
  }
  names <- all.names(body(func))
  calls <- setdiff(names, all.vars(body(func)))
  # A package's name stands for its functions.
  if (any(c("promises", "future") %in% names) || any(asynchronous %in% calls)) {
    "it is asynchronous"
  } else if ("forward" %in% names) {
    "it calls forward()"
  }
}

# The headers and the function of a serializer that plumber has made; NULL of another one.
known_serializer <- function(serializer) {
  plumber <- asNamespace("plumber")
  if (identical(serializer, plumber$serializer_identity_)) {
    made <- list(headers = list(), serialize_fn = identity)
  } else if (is_same_code(serializer, plumber$serializer_headers(list(), identity))) {
    made <- environment(serializer)
  } else {
    return(NULL)
  }
  head <- tryCatch(response_head(200L, made$headers), error = function(error) NULL)
  if (!is.null(head)) list(headers = made$headers, serialize = made$serialize_fn, head = head)
}

# Whether all parsers are plumber's, as they may be called twice for one body.
are_known_parsers <- function(parsers) {
  functions <- unlist(lapply(parsers[c("alias", "fixed", "regex")], as.list), use.names = FALSE)
  all(vapply(functions, is_plumbers, NA))
}

# What the parser for JSON makes values of text with, if it is one that plumber makes for text.
json_function <- function(parsers) {
  parser <- parsers$fixed[["application/json"]]
  if (is_same_code(parser, asNamespace("plumber")$parser_text(identity))) environment(parser)$parse_fn
}

# Whether a function, and the one that it is made of, are code of plumber's or of R's own.
is_plumbers <- function(fun) {
  is_own <- function(fun) {
    is.primitive(fun) || identical(topenv(environment(fun)), asNamespace("plumber")) ||
      identical(environment(fun), baseenv()) || identical(environment(fun), .BaseNamespaceEnv)
  }
  inner <- if (is.function(fun) && !is.primitive(fun)) environment(fun)$parse_fn
  is.function(fun) && is_own(fun) && (is.null(inner) || is_own(inner))
}
