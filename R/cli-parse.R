# What follows a verb: flags with their values, operands, and, behind `--`, another program's arguments.

# Returns `values` (by R's names, in the order of the flags), `operands` and `rest` (NULL without `--`). A flag is `--name value`
# or `--name=value`; those that are yes or no are `--name`, `--no-name` or `--name=false`. Lists may be given several times.
parse_arguments <- function(arguments, verb) {
  flags <- verb$flags()
  at <- match("--", arguments)
  rest <- if (!is.na(at)) arguments[seq_along(arguments) > at]
  if (!is.na(at)) arguments <- arguments[seq_len(at - 1)]
  values <- list()
  operands <- character()
  while (length(arguments) > 0) {
    argument <- arguments[[1]]
    arguments <- arguments[-1]
    # `-` alone is a name for standard input.
    if (!startsWith(argument, "-") || argument == "-") {
      operands <- c(operands, argument)
      next
    }
    taken <- take_flag(argument, arguments, flags, verb)
    arguments <- taken$left
    values <- add_value(values, taken)
  }
  check_operands(operands, rest, verb)
  list(values = values, operands = operands, rest = rest)
}

# The flag, its value, and the arguments that are left after it.
take_flag <- function(argument, left, flags, verb) {
  name <- sub("=.*$", "", argument)
  text <- if (startsWith(argument, "--") && grepl("=", argument, fixed = TRUE)) sub("^[^=]*=", "", argument)
  flag <- find_flag(name, flags, verb)
  if (flag$definition$kind == "flag") {
    value <- if (is.null(text)) TRUE else read_flag(text, flag)
    return(list(flag = flag, value = xor(value, startsWith(name, "--no-") && name != flag$flag), left = left))
  }
  if (is.null(text)) {
    if (length(left) == 0 || startsWith(left[[1]], "--")) {
      refuse_usage(paste0(flag$flag, " needs a value: ", describe_flag(flag), "."), option = flag$name)
    }
    text <- left[[1]]
    left <- left[-1]
  }
  list(flag = flag, value = read_flag(text, flag), left = left)
}

find_flag <- function(name, flags, verb) {
  for (flag in flags) {
    is_switch <- flag$definition$kind == "flag"
    names <- c(flag$flag, flag$short, if (is_switch) sub("^--", "--no-", flag$flag))
    if (name %in% names) {
      return(flag)
    }
  }
  refuse_flag(name, flags, verb)
}

refuse_flag <- function(name, flags, verb) {
  known <- vapply(flags, `[[`, "", "flag")
  secret <- paste0(name, "-file")
  if (secret %in% known) {
    variable <- setting_variable(gsub("-", "_", sub("^--", "", name), fixed = TRUE))
    refuse_usage(
      paste0("A token is no argument, as all users of this machine can see those."),
      paste0("It is given by ", secret, " FILE, or in the environment as ", variable, "."),
      option = name
    )
  }
  near <- nearest_name(sub("^--?(no-)?", "", name), sub("^--", "", known))
  refuse_usage(
    paste0("`faucet ", verb$name, "` has no option ", name, "."),
    c(if (!is.null(near)) paste0("Did you mean --", near, "?"), paste0("`faucet ", verb$name, " --help` tells all options.")),
    option = name
  )
}

# Lists grow, parts come together; all else is given once.
add_value <- function(values, taken) {
  name <- taken$flag$name
  if (!is.null(taken$flag$part)) {
    values[[name]][[taken$flag$part]] <- taken$value
  } else if (taken$flag$definition$kind %in% c("strings", "agents", "hubs", "env")) {
    values[[name]] <- c(values[[name]], taken$value)
  } else if (name %in% names(values)) {
    refuse_usage(paste0(taken$flag$flag, " is given twice."), option = name)
  } else {
    values[[name]] <- taken$value
  }
  values
}

check_operands <- function(operands, rest, verb) {
  usage <- trimws(paste("Usage: faucet", verb$name, verb$usage))
  if (!is.null(rest) && !isTRUE(verb$takes_program)) {
    refuse_usage(paste0("`faucet ", verb$name, "` takes nothing behind `--`."), usage)
  }
  if (length(operands) < verb$operands[[1]]) {
    refuse_usage(paste0("`faucet ", verb$name, "` needs more to go by."), usage)
  }
  if (length(operands) > verb$operands[[2]]) {
    extra <- operands[[verb$operands[[2]] + 1]]
    refuse_usage(paste0("`faucet ", verb$name, "` takes no `", extra, "` there."), usage)
  }
}
