# What `--help` says, made from the verbs and their flags.

# Lines are no wider than the terminal, nor than is good to read.
help_width <- function() {
  min(100L, max(60L, getOption("width", 80L)))
}

wrapped <- function(text, indent = 0L, exdent = indent) {
  strwrap(text, width = help_width(), indent = indent, exdent = exdent)
}

main_help <- function(verbs) {
  groups <- unique(vapply(verbs, `[[`, "", "group"))
  listed <- unlist(lapply(groups, function(group) {
    own <- Filter(function(verb) verb$group == group, verbs)
    lines <- vapply(own, function(verb) paste0("  ", format(verb$name, width = 10), verb$summary), "")
    c(paste0(group, ":"), unname(lines), "")
  }))
  c(
    "faucet: an application server for R.", "",
    "Usage: faucet VERB [OPTIONS]", "",
    listed,
    wrapped(paste(
      "`faucet VERB --help` tells the options of one. Each option that is a setting can also come from the environment, as",
      "FAUCET_NAME, and from R's options, as faucet.name: what is given here comes first. `faucet --version` tells the version."
    )), "",
    "Exit status:", exit_help()
  )
}

exit_help <- function() {
  meaning <- c(
    ok = "all went well; a server was stopped by Ctrl-C or TERM", failed = "it failed, in another way than these",
    usage = "wrong arguments, a wrong chain or option, or files that cannot be used",
    not_found = "there is no such function, call or secret",
    refused = "refused, as without the right token", unreachable = "the server cannot be reached, or is no agent or proxy",
    called_failed = "the function has failed, or its answer was broken off", deadline = "not done within its time",
    interrupted = "interrupted by Ctrl-C", unread = "nobody reads what is written, as in `faucet ... | head`"
  )
  unlist(lapply(names(exit_codes), function(name) {
    lines <- wrapped(meaning[[name]], indent = 7L)
    c(paste0("  ", format(exit_codes[[name]], width = 3), substring(lines[[1]], 6)), lines[-1])
  }))
}

verb_help <- function(verb) {
  flags <- verb$flags()
  is_common <- vapply(flags, function(flag) isTRUE(flag$is_common), NA)
  any_switch <- any(vapply(flags, function(flag) flag$definition$kind == "flag", NA))
  usage <- trimws(paste("Usage: faucet", verb$name, verb$usage))
  c(
    paste0(usage, if (!isTRUE(verb$takes_program)) " [OPTIONS]"), "",
    wrapped(verb$summary), "",
    if (length(verb$about) > 0) c(unlist(lapply(verb$about, function(text) c(wrapped(text), "")))),
    if (length(verb$examples) > 0) c("Examples:", paste0("  ", verb$examples), ""),
    if (any(is_common)) c("Options:", unlist(lapply(flags[is_common], flag_help)), ""),
    if (!all(is_common)) c("Further options:", unlist(lapply(flags[!is_common], flag_help)), ""),
    "  -h, --help", "      Show this.",
    if (any_switch) c("", wrapped("What is yes or no also has the form --no-NAME, as against what the environment says."))
  )
}

flag_help <- function(flag) {
  definition <- flag$definition
  names <- if (definition$kind != "flag") {
    paste(flag$flag, flag$value)
  } else if (isTRUE(definition$default)) {
    sub("^--", "--no-", flag$flag)
  } else {
    flag$flag
  }
  if (!is.null(flag$short)) names <- paste0(flag$short, ", ", names)
  doc <- plain_doc(definition$doc)
  if (isTRUE(definition$default)) doc <- paste0("Do not: ", tolower(substring(doc, 1, 1)), substring(doc, 2))
  default <- flag_default(definition)
  if (!is.null(default)) doc <- paste0(doc, " [", default, "]")
  c(paste0("  ", names), wrapped(doc, indent = 6L))
}
