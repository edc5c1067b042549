# What values settings take: from text, in their one form, and in words.

# An environment variable is text; this gives it the type that its setting takes. What does not fit stays text, which
# the check then shows.
parse_setting <- function(text, definition) {
  if (!validEnc(text)) {
    return(text)
  }
  number <- function(text) {
    value <- suppressWarnings(as.numeric(text))
    if (is.na(value)) text else value
  }
  switch(
    definition$kind,
    count = ,
    duration = ,
    size = number(trimws(text)),
    range = parse_range(text),
    hubs = ,
    agents = ,
    callbacks = ,
    strings = Filter(nzchar, trimws(strsplit(text, ",", fixed = TRUE)[[1]])),
    flag = parse_flag(text),
    text
  )
}

# "1:8" or "1,8", or one number.
parse_range <- function(text) {
  ends <- suppressWarnings(as.numeric(strsplit(text, "[:,]")[[1]]))
  if (anyNA(ends)) text else ends
}

parse_flag <- function(text) {
  switch(tolower(trimws(text)),
    true = , yes = , on = , "1" = TRUE,
    false = , no = , off = , "0" = FALSE,
    text
  )
}

# Returns the value in the one form that the rest of faucet sees, or raises an error that says what was got and what is
# taken.
check_setting <- function(value, name, definition, source = c("argument", "option", "variable"), call = NULL) {
  source <- match.arg(source)
  limits <- definition$limits
  if (is.null(value) && isTRUE(limits$null)) {
    return(NULL)
  }
  check <- switch(
    definition$kind,
    count = check_count,
    range = check_range,
    duration = check_duration,
    size = check_size,
    string = check_string,
    strings = check_strings,
    choice = check_choice,
    path = check_path,
    url_path = check_url_path,
    dns = check_dns,
    tls = check_tls,
    hubs = check_hubs,
    agents = check_agents,
    callbacks = check_callbacks,
    name = check_name,
    route = check_path_prefix,
    redirect = check_redirect,
    otlp = check_otlp,
    secret = check_secret,
    flag = check_flag
  )
  # Bytes that are no text make R's own functions fail.
  checked <- if (!is.character(value) || all(validEnc(value))) check(value, limits)
  if (!is.null(checked)) {
    if (definition$kind == "tls") check_tls_files(checked, call = call)
    return(checked)
  }

  takes <- describe_setting(definition)
  got <- describe_given(value, definition$kind)
  option <- paste0("faucet.", name)
  variable <- setting_variables(name, definition)
  where <- switch(
    source,
    argument = "{.arg {name}}",
    option = "Option {.code {option}}",
    variable = "Environment variable {.envvar {variable}}"
  )
  abort(
    "option", paste(where, "must be {takes}, not {got}."),
    option = name, source = source, value = if (definition$kind != "secret") value, call = call
  )
}

# Each of these returns NULL for what it does not take.

check_count <- function(value, limits) {
  value <- text_as_number(value)
  if (!is_number(value) || value < limits$min) {
    return(NULL)
  }
  if (is.infinite(value)) {
    return(if (isTRUE(limits$infinite)) Inf)
  }
  if (value != trunc(value) || value > (limits$max %||% .Machine$integer.max)) {
    return(NULL)
  }
  if (isTRUE(limits$infinite)) as.numeric(value) else as.integer(value)
}

# One number, or the least and the most. The least of two may be 0.
check_range <- function(value, limits) {
  if (rlang::is_string(value)) value <- parse_range(value)
  if (length(value) == 1) {
    return(check_count(value, limits))
  }
  if (length(value) == 2 && is.numeric(value) && !is.object(value)) check_ends(value, limits)
}

check_ends <- function(value, limits) {
  least <- check_count(value[[1]], list(min = 0, max = limits$max))
  most <- check_count(value[[2]], limits)
  if (!is.null(least) && !is.null(most) && least <= most) unique(c(least, most))
}

# As `Sys.getenv("PORT")` gives a whole number.
text_as_number <- function(value) {
  if (rlang::is_string(value) && grepl("^[[:space:]]*[0-9]+[[:space:]]*$", value)) as.numeric(value) else value
}

check_duration <- function(value, limits) {
  # The longest finite time, three centuries, is one that every clock can add to now.
  if (is_number(value) && value > 0 && (value <= 1e10 || (is.infinite(value) && isTRUE(limits$infinite)))) {
    as.numeric(value)
  }
}

check_size <- function(value, limits) {
  bytes <- if (rlang::is_string(value)) parse_size(value) else value
  if (is_number(bytes) && bytes >= limits$min && (bytes < 2^53 || (is.infinite(bytes) && isTRUE(limits$infinite)))) {
    if (is.infinite(bytes)) Inf else floor(as.numeric(bytes))
  }
}

check_string <- function(value, limits) {
  if (rlang::is_string(value) && nzchar(value)) value
}

check_strings <- function(value, limits) {
  if (is.character(value) && !anyNA(value)) as.character(value)
}

check_choice <- function(value, limits) {
  if (rlang::is_string(value) && value %in% limits$choices) value
}

# The workers and the native side have other ideas of the working directory.
check_path <- function(value, limits) {
  if (rlang::is_string(value) && nzchar(value)) {
    file.path(normalizePath(dirname(value), winslash = "/", mustWork = FALSE), basename(value))
  }
}

# As it stands in a request's first line.
check_url_path <- function(value, limits) {
  if (rlang::is_string(value) && grepl("^/[!-~]*$", value) && !grepl("#", value, fixed = TRUE)) value
}

# The address of a DNS server, as "127.0.0.1:5353" or "[::1]:53".
check_dns <- function(value, limits) {
  if (!rlang::is_string(value)) {
    return(NULL)
  }
  address <- trimws(value)
  if (grepl("^([0-9.]+|\\[.*\\])$", address)) {
    address <- paste0(address, ":53")
  } else if (grepl("^[0-9a-fA-F.]*:[0-9a-fA-F.]*:[0-9a-fA-F.:]*$", address)) {
    address <- paste0("[", address, "]:53")
  }
  if (is.null(option_problem("dns", address))) address
}

# The URL of a collector.
check_otlp <- function(value, limits) {
  if (rlang::is_string(value) && is.null(option_problem("otlp", value))) value
}

# The paths of the files, which check_tls_files() then looks at.
check_tls <- function(value, limits) {
  value <- as.list(value)
  if (!rlang::is_named(value) || !all(c("cert", "key") %in% names(value)) || anyDuplicated(names(value))) {
    return(NULL)
  }
  value <- lapply(Filter(Negate(is.null), value), function(path) {
    check_path(if (rlang::is_string(path) && validEnc(path)) path.expand(path), limits)
  })
  if (all(names(value) %in% c("cert", "key", "client_ca")) && !any(vapply(value, is.null, NA))) value
}

# What is wrong with them: which, where, and what to do.
check_tls_files <- function(tls, call = NULL) {
  problem <- tls_problem(tls)
  if (!is.null(problem)) abort("option", "{problem}", option = "tls", call = call)
}

check_tls_host <- function(settings, call = NULL) {
  host <- settings$host
  if (!is.null(settings$tls) && startsWith(host, "unix:")) {
    abort("option", c(
      "{.arg tls} is for TCP, and {.arg host} is a Unix socket: {.val {host}}.",
      i = "Leave {.arg tls} out: a Unix socket does not leave this machine."
    ), option = "tls", call = call)
  }
}

check_flag <- function(value, limits) {
  if (rlang::is_bool(value)) value
}

is_number <- function(value) {
  is.numeric(value) && !is.object(value) && length(value) == 1 && !is.na(value)
}

# "16MB" and the like, as bytes. Units are powers of 1024, as R's own object sizes are.
parse_size <- function(text) {
  form <- "^[[:space:]]*([0-9]+\\.?[0-9]*|\\.[0-9]+)[[:space:]]*([KMGT]?)(I?B)?[[:space:]]*$"
  text <- toupper(text)
  if (!grepl(form, text)) {
    return(NULL)
  }
  power <- match(sub(form, "\\2", text), c("", "K", "M", "G", "T")) - 1
  as.numeric(sub(form, "\\1", text)) * 1024^power
}

describe_setting <- function(definition) {
  limits <- definition$limits
  or_infinite <- if (isTRUE(limits$infinite)) " or Inf"
  what <- switch(
    definition$kind,
    count = if (is.null(limits$max)) {
      paste0("a whole number, ", limits$min, " or more,", or_infinite)
    } else {
      paste0("a whole number from ", format(limits$min), " to ", format(limits$max, scientific = FALSE), ",")
    },
    range = paste0(
      "a whole number from ", format(limits$min), " to ", format(limits$max, scientific = FALSE),
      ", or two, the least and the most, like c(1, 8),"
    ),
    duration = paste0("a number of seconds above 0", or_infinite, ","),
    size = paste0("a number of bytes, ", format(limits$min), " or more, or a string like \"16MB\",", or_infinite),
    string = "one string",
    strings = "a character vector without NA",
    choice = paste0("one of ", paste0("\"", limits$choices, "\"", collapse = ", ")),
    path = "the path of a file",
    url_path = "a path like \"/health\"",
    agents = "addresses like \"host:9000\", or all like \"https://host:9000\"",
    callbacks = "URLs like \"https://hooks.example.com/faucet\"",
    hubs = "addresses like \"hub:4040\" or \"tls://hub.example.com:4040\"",
    name = "a name of up to 64 visible ASCII characters without spaces",
    route = "a path like \"/model-a\"",
    otlp = "a URL like \"http://127.0.0.1:4318\"",
    redirect = "a URL like \"http://worker-host:8081\", without a path",
    secret = "one string of up to 1024 visible ASCII characters without spaces",
    dns = "the address of a DNS server like \"10.0.0.10\" or \"127.0.0.1:5353\"",
    tls = "a list of the paths of files, like list(cert = \"cert.pem\", key = \"key.pem\"),",
    flag = "TRUE or FALSE"
  )
  what <- sub(",$", "", what)
  # That of `hub` is that there is none.
  if (isTRUE(limits$null) && definition$kind != "hubs") paste(what, "or NULL") else what
}

# What a setting was given that does not take it.
describe_given <- function(value, kind) {
  if (kind == "secret") {
    "this one"
  } else if (kind == "tls" && is.list(value)) {
    describe_list(value)
  } else {
    describe_value(value)
  }
}

# By what is in it.
describe_list <- function(value) {
  names <- names(value)
  if (rlang::is_named(value) && all(validEnc(names)) && all(vapply(value, rlang::is_string, NA))) {
    paste0("a list of ", paste0("`", names, "`", collapse = ", "))
  } else {
    describe_value(value)
  }
}

describe_value <- function(value) {
  if (is.null(value)) {
    "NULL"
  } else if (is.atomic(value) && !is.object(value) && length(value) == 1) {
    if (is.character(value) && !is.na(value)) {
      # In any encoding, so that the message can be formatted.
      encodeString(iconv(value, to = "UTF-8", sub = "byte"), quote = "\"")
    } else {
      format(value, digits = 15)
    }
  } else if (is.atomic(value) && !is.object(value)) {
    paste0("a ", typeof(value), " vector of length ", length(value))
  } else {
    paste0("an object of class ", paste0("<", class(value), ">", collapse = ", "))
  }
}
