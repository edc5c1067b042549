# What the input of a call is sent as.

# Its Content-Type, and its bytes (`body`), or a function that reads them piece by piece (`source`) and one for the end (`close`).
encode_input <- function(input, type, rds, call = NULL) {
  if (inherits(input, "connection")) {
    return(read_connection(input, type, rds, call = call))
  }
  plain <- if (!is.object(input)) plain_bytes(input)
  if (!is.null(type)) {
    if (is.null(plain)) {
      abort("option", c(
        "With {.arg type}, {.arg input} must be one string or a raw vector, not {describe_value(input)}.",
        i = "Without, what it is sent as follows from what it is."
      ), option = "input", call = call)
    }
    return(list(body = plain, type = check_text(type, "type", call = call)))
  }
  if (rds) {
    list(body = serialize(input, NULL, version = 3), type = "application/x-rds")
  } else if (!is.null(plain)) {
    list(body = plain, type = if (is.raw(input)) "application/octet-stream" else "text/plain; charset=utf-8")
  } else {
    list(body = charToRaw(enc2utf8(input_as_json(input, call = call))), type = "application/json")
  }
}

# Of one string, or of bytes.
plain_bytes <- function(input) {
  if (is.raw(input)) {
    as.vector(input)
  } else if (rlang::is_string(input) && !is.na(input)) {
    charToRaw(enc2utf8(input))
  }
}

input_as_json <- function(input, call = NULL) {
  tryCatch(as_json(input), error = function(error) {
    abort("option", c(
      "{.arg input} cannot be written as JSON.",
      i = "With {.code rds = TRUE}, R objects are sent as they are, if the function takes them."
    ), option = "input", parent = error, call = call)
  })
}

# How much of a connection is read at a time: bytes, or lines of one that is open for text.
bytes_at_once <- 65536
lines_at_once <- 1000

# One that is not open is opened here.
read_connection <- function(input, type, rds, call = NULL) {
  if (rds) {
    abort("option", c(
      "With {.code rds = TRUE}, {.arg input} is an R object, and not a connection.",
      i = "The function gets what {.code readRDS()} makes of it."
    ), option = "input", call = call)
  }
  opened <- open_connection(input, "rb", "input", call = call)
  bytes <- identical(summary(input)$text, "binary")
  # What was opened here may well be text, and is that to R's users.
  plain <- if (bytes && !opened) "application/octet-stream" else "text/plain; charset=utf-8"
  read <- if (bytes) {
    function() readBin(input, "raw", bytes_at_once)
  } else {
    function() {
      lines <- readLines(input, lines_at_once, warn = FALSE)
      charToRaw(paste0(enc2utf8(lines), "\n", recycle0 = TRUE, collapse = ""))
    }
  }
  source <- function() {
    tryCatch(read(), error = function(error) {
      abort("file", "{.arg input} cannot be read.", parent = error, call = call)
    })
  }
  type <- if (is.null(type)) plain else check_text(type, "type", call = call)
  list(source = source, type = type, close = if (opened) function() close(input))
}

# Whether it had to be opened.
open_connection <- function(connection, mode, what, call = NULL) {
  way <- if (startsWith(mode, "r")) "read" else "write"
  refuse <- function(error = NULL) {
    abort("option", "{.arg {what}} must be a connection that can be {if (way == 'read') 'read' else 'written'}.",
      option = what, parent = error, call = call
    )
  }
  is_open <- tryCatch(isOpen(connection), error = refuse)
  if (!is_open) {
    tryCatch(suppressWarnings(open(connection, mode)), error = refuse)
  } else if (!isOpen(connection, way)) {
    refuse()
  }
  !is_open
}
