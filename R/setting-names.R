# Names that are given as settings: unknown, another verb's, abbreviated or misspelt ones.

check_setting_names <- function(names, given, known, verb, call = NULL) {
  if (length(given) == 0) {
    return(invisible())
  }
  if (is.null(names) || !all(nzchar(names))) {
    abort("option", c(
      "Arguments in {.arg ...} must have a name.",
      i = "All settings are in {.code help(\"faucet-options\")}."
    ), option = NA_character_, call = call)
  }
  twice <- names[duplicated(names)]
  if (length(twice) > 0) {
    abort("option", "Argument {.arg {twice[[1]]}} was given more than once.", option = twice[[1]], call = call)
  }
  for (name in setdiff(names, known)) {
    instead <- hint_elsewhere(name, verb)
    near <- if (is.null(instead)) nearest_name(name, c(known, arguments_of(verb)), given[[name]])
    abort("option", c(
      "{.fun {verb}} has no option {.arg {name}}.",
      i = instead,
      i = if (!is.null(near)) "Did you mean {.arg {near}}?",
      i = "All settings are in {.code help(\"faucet-options\")}."
    ), option = name, call = call)
  }
}

# Options and environment variables that look like settings, but are none: a warning for each, once per session.
warn_of_unknown_settings <- function(options = names(base::options()), variables = environment_names()) {
  definitions <- setting_definitions()
  known <- names(definitions)
  known_variables <- unlist(lapply(known, function(name) setting_variables(name, definitions[[name]])), use.names = FALSE)
  warn_of_unknown(
    unknown_names(options, "^faucet[.]", paste0("faucet.", known)), paste0("faucet.", known), "Option", getOption
  )
  variables <- grep(foreign_variables, variables, value = TRUE, invert = TRUE, useBytes = TRUE)
  warn_of_unknown(
    unknown_names(variables, "^FAUCET_", c(known_variables, own_variables)), known_variables,
    "Environment variable", read_variable
  )
}

# Set by faucet for its workers, or read when the package is built.
own_variables <- paste0("FAUCET_", c(
  "APP", "DOCUMENT", "FILE", "FORK", "HOST", "LIB", "METRICS", "PORT", "SERVER_NAME", "SERVER_PORT", "SOCKET", "TEMPLATE",
  "WORKER_ID",
  "PROFILE", "TARGET_DIR", "VENDOR"
))

# Set by Kubernetes next to services called "faucet" or "faucet-...", and by tests.
foreign_variables <- "^FAUCET_((SERVICE|PORT|TEST)_|.*_SERVICE_(HOST|PORT)|.*_PORT_[0-9]+_(TCP|UDP|SCTP))"

# Those with the prefix that are not known, as far as they are text.
unknown_names <- function(names, prefix, known) {
  setdiff(grep(prefix, names[validEnc(names)], value = TRUE), known)
}

warn_of_unknown <- function(unknown, known, what, value_of) {
  for (name in unknown) {
    # Without the prefix, which would allow more edits.
    bare <- function(name) tolower(sub("^(faucet[.]|FAUCET_)", "", name))
    near <- known[match(nearest_name(bare(name), bare(known), value_of(name)), bare(known))]
    rlang::warn(
      c(
        paste0(what, " `", name, "` is ignored: there is no such setting."),
        i = if (length(near) > 0) paste0("Did you mean `", near, "`?"),
        i = "All settings are in `help(\"faucet-options\")`."
      ),
      class = "faucet_warning_unknown_setting", setting = name,
      .frequency = "once", .frequency_id = unknown_setting_id(name)
    )
  }
}

unknown_setting_id <- function(name) {
  paste0("faucet_warning_unknown_setting:", name)
}

# The names of all variables that have a value. R cannot list an environment with bytes that are no text: then there are none.
environment_names <- function() {
  variables <- tryCatch(Sys.getenv(), error = function(error) character(), warning = function(warning) character())
  # Links to services, such as FAUCET_API_PORT, hold an address.
  names(variables)[nzchar(variables) & !grepl("^(tcp|udp|sctp)://", variables)]
}

# R takes an abbreviation for any argument before `...`, so that a slip, or a new setting, may end as another one's value.
# `typed` is the call as it was written, from `envir`; `call` is the environment that it runs in.
refuse_partial_names <- function(verb, fun, typed, envir, call) {
  names <- names(match.call(function(...) NULL, typed, envir = envir))[-1]
  full <- names(formals(fun))
  free <- setdiff(full[seq_len(match("...", full) - 1)], names)
  for (name in setdiff(names[nzchar(names)], full)) {
    taken <- free[startsWith(free, name)]
    if (length(taken) > 0) {
      # What was given is the value of the argument that R took it for; it may fit another one that begins the same.
      begun <- unique(c(taken, names(settings_of(verb))))
      begun <- begun[startsWith(begun, name)]
      meant <- c(begun[vapply(begun, takes_value, NA, call[[taken[[1]]]])], taken)[[1]]
      abort("option", c(
        "{.fun {verb}} takes no abbreviated names, such as {.arg {name}}.",
        i = "Did you mean {.arg {meant}}?"
      ), option = name, call = call)
    }
  }
}

# What a verb takes besides its settings.
arguments_of <- function(verb) {
  switch(verb,
    run = c("dir", "app", "block"), run_k8s = c("url", "block"), run_hub = "block",
    run_worker = c("dir", "app", "gate", "block")
  )
}

# For what only other verbs take: what to do with this one.
hint_elsewhere <- function(name, verb) {
  definition <- setting_definitions()[[name]]
  if (!is.null(definition)) {
    # What there is to say in words is about Kubernetes, or about this machine.
    if (verb %in% dial_in_verbs) takers(definition$verbs) else definition$elsewhere
  } else if (verb == "run_hub") {
    takers(Filter(function(other) name %in% arguments_of(other), all_verbs))
  } else if (name == "gate") {
    takers("run_worker")
  } else if (verb == "run_k8s" && name %in% arguments_of("run")) {
    "{.fun run_k8s} serves what runs in pods already; {.fun run} serves a directory or an app."
  } else if (name %in% arguments_of("run_k8s")) {
    paste0("{.fun ", verb, "} serves a directory or an app; {.fun run_k8s} serves what runs at a URL.")
  }
}

takers <- function(verbs) {
  if (length(verbs) > 0) paste0("It is for ", paste0("{.fun ", verbs, "}", collapse = " and "), ".")
}

# The known name that takes the fewest edits, if they are few enough to be a slip, or that begins with this one. Where there
# are several, one that takes the value goes first: `worker = "native"` means `worker_type`, `worker = 4` means `workers`.
nearest_name <- function(name, known, value = NULL) {
  plain <- function(x) gsub("[._-]", "", tolower(x))
  edits <- drop(utils::adist(plain(name), plain(known), partial = FALSE))
  is_near <- edits <= max(2, nchar(name) %/% 3)
  is_near <- is_near | (nchar(name) > 2 & startsWith(plain(known), plain(name)))
  near <- known[is_near][order(edits[is_near])]
  fits <- vapply(near, takes_value, NA, value)
  if (length(near) > 0) c(near[fits], near)[[1]]
}

# Whether there is such a setting, and it takes this value.
takes_value <- function(name, value) {
  definition <- setting_definitions()[[name]]
  if (is.null(definition) || is.null(value)) {
    return(FALSE)
  }
  if (rlang::is_string(value)) value <- parse_setting(value, definition)
  tryCatch(
    {
      check_setting(value, name, definition)
      TRUE
    },
    error = function(error) FALSE
  )
}
