# What a function's input is made of, and what its value becomes: by Content-Type and Accept.

# What R makes of a body's bytes. `type` is the request's Content-Type, NULL if there is none.
decode_input <- function(bytes, type, rds = FALSE) {
  # curl's own type for what follows `-d`, which is whatever its user has typed.
  if (is.null(type) || startsWith(type, "application/x-www-form-urlencoded")) {
    return(as_text(bytes))
  }
  said <- function_media(type)
  media <- said[[1]]
  charset <- said[[2]]
  if (media == "application/json" || endsWith(media, "+json")) {
    from_json(as_text(bytes, charset))
  } else if (media == "text/csv") {
    from_csv(as_text(bytes, charset))
  } else if (startsWith(media, "text/")) {
    as_text(bytes, charset)
  } else {
    switch(
      media,
      "application/octet-stream" = bytes,
      "application/rds" = ,
      "application/x-rds" = if (rds) from_rds(bytes) else refuse_rds(media),
      "application/vnd.apache.arrow.stream" = from_arrow(bytes),
      refuse_media(media)
    )
  }
}

# One string in UTF-8.
as_text <- function(bytes, charset = "UTF-8") {
  if (any(bytes == as.raw(0L)) && grepl("^utf-?8$|ascii|8859|125[0-9]$", charset, ignore.case = TRUE)) {
    refuse_input("The input is no text, as it holds a NUL. Bytes are sent as application/octet-stream.")
  }
  if (tolower(charset) %in% c("utf-8", "utf8")) {
    text <- rawToChar(bytes)
    if (!validUTF8(text)) {
      refuse_input("The input is no text in UTF-8. Say its charset in Content-Type, or send application/octet-stream.")
    }
    Encoding(text) <- "UTF-8"
    return(text)
  }
  text <- tryCatch(iconv(list(bytes), charset, "UTF-8"), error = function(error) NA_character_)
  if (is.na(text)) refuse_input(paste0("The input is no text in charset ", encodeString(charset), ", or that is not known here."))
  text
}

from_json <- function(text) {
  need_package("jsonlite", "JSON")
  # Not fromJSON(), to which a text may also be a URL or a file.
  tryCatch(
    jsonlite::parse_json(text, simplifyVector = TRUE),
    error = function(error) refuse_input(paste("The input is no JSON:", conditionMessage(error)))
  )
}

from_csv <- function(text) {
  tryCatch(
    utils::read.csv(text = text, check.names = FALSE, encoding = "UTF-8"),
    error = function(error) refuse_input(paste("The input is no CSV:", conditionMessage(error)))
  )
}

from_rds <- function(bytes) {
  connection <- gzcon(rawConnection(bytes))
  on.exit(close(connection))
  tryCatch(
    readRDS(connection),
    error = function(error) refuse_input(paste("The input is no RDS:", conditionMessage(error)))
  )
}

from_arrow <- function(bytes) {
  need_package("arrow", "Arrow")
  tryCatch(
    as.data.frame(asNamespace("arrow")$read_ipc_stream(bytes)),
    error = function(error) refuse_input(paste("The input is no Arrow stream:", conditionMessage(error)))
  )
}

# Reading RDS is running what its sender has thought of.
refuse_rds <- function(media) {
  note_refusal("rds")
  refuse_type(paste0("This function takes no input of type ", media, ": it was deployed without `rds`."))
}

refuse_media <- function(media) {
  refuse_type(paste0(
    "An input of type ", encodeString(media), " is not known here: send application/json, text/plain, text/csv or ",
    "application/octet-stream."
  ))
}

refuse_type <- function(message) {
  refuse_call(415L, "unsupported_input", message)
}

refuse_input <- function(message) {
  refuse_call(400L, "bad_input", message)
}

need_package <- function(package, what) {
  if (!requireNamespace(package, quietly = TRUE)) {
    refuse_type(paste0(what, " needs package ", package, ", which is not installed where the function runs."))
  }
}

# What a call cannot be answered with, whoever is to blame, becomes an answer of its own.
refuse_call <- function(status, cause, message) {
  stop(structure(
    class = c("faucet_refusal", "error", "condition"),
    list(message = message, call = NULL, status = status, cause = cause)
  ))
}

# The answer to a call, from the value of the function. `accept` is the request's header, NULL if there is none.
encode_value <- function(value, accept = NULL) {
  offered <- offered_types(value)
  type <- if (is.null(accept) || accept == "*/*") offered[[1]] else function_negotiate(accept, offered)
  if (is.null(type)) {
    refuse_call(406L, "not_acceptable", paste0(
      "The function's value can be had as ", paste(offered, collapse = ", "), ", and Accept names none of these."
    ))
  }
  content <- switch(
    type,
    "text/plain" = enc2utf8(value[[1]]),
    "application/octet-stream" = value,
    "application/json" = to_json(value),
    "text/csv" = to_csv(value),
    "application/x-rds" = ,
    "application/rds" = serialize(value, NULL),
    "application/vnd.apache.arrow.stream" = to_arrow(value)
  )
  if (type %in% c("text/plain", "text/csv")) type <- paste0(type, "; charset=utf-8")
  list(status = 200L, headers = list("Content-Type" = type), body = content)
}

# What a value can be had as, by default the first.
offered_types <- function(value) {
  rds <- c("application/x-rds", "application/rds")
  if (is_plain_string(value)) {
    c("text/plain", "application/json", rds)
  } else if (is.raw(value) && !is.object(value)) {
    c("application/octet-stream", rds)
  } else if (is.data.frame(value)) {
    arrow <- if (requireNamespace("arrow", quietly = TRUE)) "application/vnd.apache.arrow.stream"
    c("application/json", "text/csv", arrow, rds)
  } else {
    c("application/json", rds)
  }
}

is_plain_string <- function(value) {
  is.character(value) && length(value) == 1 && !is.object(value) && !is.na(value)
}

to_json <- function(value) {
  # It is JSON already.
  if (inherits(value, "json")) {
    return(value)
  }
  # jsonlite takes a while, and so many functions return a number.
  simple <- scalar_json(value)
  if (!is.null(simple)) {
    return(simple)
  }
  if (!requireNamespace("jsonlite", quietly = TRUE)) {
    stop("JSON needs package jsonlite, which is not installed where the function runs.", call. = FALSE)
  }
  # Names are worth keeping, which jsonlite does in lists alone.
  jsonlite::toJSON(
    if (is_named_vector(value)) as.list(value) else value,
    auto_unbox = TRUE, digits = NA, null = "null", na = "null", POSIXt = "ISO8601", UTC = TRUE, force = TRUE
  )
}

to_csv <- function(value) {
  lines <- character()
  connection <- textConnection("lines", "w", local = TRUE, encoding = "UTF-8")
  on.exit(close(connection))
  utils::write.csv(value, connection, row.names = FALSE, na = "")
  paste0(paste0(lines, collapse = "\n"), "\n")
}

to_arrow <- function(value) {
  arrow <- asNamespace("arrow")
  sink <- arrow$BufferOutputStream$create()
  arrow$write_ipc_stream(value, sink)
  as.raw(sink$finish())
}

is_named_vector <- function(value) {
  is.atomic(value) && !is.object(value) && is.null(dim(value)) && !is.null(names(value))
}

# The JSON of one value without attributes; NULL if this is no such value.
scalar_json <- function(value) {
  if (!is.atomic(value) || length(value) != 1 || !is.null(attributes(value)) || is.na(value)) {
    return(NULL)
  }
  switch(
    typeof(value),
    logical = if (value) "true" else "false",
    integer = as.character(value),
    double = if (is.finite(value)) sprintf("%.15g", value),
    character = json_string(value)
  )
}

# The quoted form of one string.
json_string <- function(text) {
  text <- enc2utf8(text)
  if (grepl("[\"\\\\\001-\037]", text, useBytes = TRUE)) {
    text <- gsub("\\", "\\\\", text, fixed = TRUE)
    text <- gsub("\"", "\\\"", text, fixed = TRUE)
    for (code in 1:31) {
      plain <- intToUtf8(code)
      if (grepl(plain, text, fixed = TRUE)) text <- gsub(plain, sprintf("\\u%04x", code), text, fixed = TRUE)
    }
  }
  paste0("\"", text, "\"")
}
