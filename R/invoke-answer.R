# What becomes of the answer of a call: a value, bytes that are written somewhere, or an error.

# R's own value of it.
decode_answer <- function(answer, rds, call = NULL) {
  type <- answer$headers[["content-type"]] %||% ""
  media <- tolower(trimws(sub(";.*", "", type)))
  read <- function(what, code) {
    tryCatch(code, error = function(error) {
      abort(c("invoke", "answer"), "The answer is no {what}.",
        status = answer$status, cause = "bad_answer", answer = NULL, parent = error, call = call
      )
    })
  }
  if (length(answer$body) == 0) {
    # Text may be empty.
    if (startsWith(media, "text/")) "" else if (media == "application/octet-stream") raw() else NULL
  } else if (media == "application/json" || endsWith(media, "+json")) {
    read("JSON", parse_json(answer$body, simplify = TRUE))
  } else if (media == "text/csv") {
    read("CSV", utils::read.csv(text = text_of_answer(answer), check.names = FALSE, encoding = "UTF-8"))
  } else if (startsWith(media, "text/")) {
    text_of_answer(answer)
  } else if (rds && media %in% c("application/x-rds", "application/rds")) {
    read("RDS", read_rds(answer$body))
  } else {
    answer$body
  }
}

read_rds <- function(bytes) {
  connection <- gzcon(rawConnection(bytes))
  on.exit(close(connection))
  readRDS(connection)
}

# In UTF-8, from what it says that it is.
text_of_answer <- function(answer) {
  type <- answer$headers[["content-type"]] %||% ""
  form <- "^.*;[[:space:]]*charset=\"?([^\";[:space:]]+)\"?.*$"
  charset <- if (grepl(form, type, ignore.case = TRUE)) sub(form, "\\1", type, ignore.case = TRUE) else "UTF-8"
  text <- bytes_as_text(answer$body)
  if (tolower(charset) %in% c("utf-8", "utf8")) {
    return(text)
  }
  Encoding(text) <- "unknown"
  converted <- tryCatch(iconv(text, charset, "UTF-8"), error = function(error) NA_character_)
  if (is.na(converted)) text else converted
}

# Where an answer goes that is not returned: `write` takes bytes, and is NULL if there is no such place; `complete` follows the
# last of them; `give_up` is called in any case, and last.
open_output <- function(output, call = NULL) {
  if (is.null(output)) {
    return(list(write = NULL, give_up = function() invisible()))
  }
  if (inherits(output, "connection")) {
    opened <- open_connection(output, "wb", "output", call = call)
    return(list(
      write = connection_writer(output, call = call), complete = function() if (!opened) flush(output),
      give_up = function() if (opened) close(output)
    ))
  }
  write_file(path.expand(check_text(output, "output", call = call)), call = call)
}

# Into a file beside it, which takes its place when it is complete.
write_file <- function(path, call = NULL) {
  partial <- tempfile(paste0(".", basename(path), "-"), dirname(path))
  connection <- tryCatch(suppressWarnings(file(partial, "wb")), error = function(error) {
    abort("output", "{.path {path}} cannot be written.", file = path, parent = error, call = call)
  })
  is_open <- TRUE
  list(
    write = connection_writer(connection, call = call),
    complete = function() {
      is_open <<- FALSE
      close(connection)
      if (!suppressWarnings(file.rename(partial, path))) {
        abort("output", "{.path {path}} cannot be written.", file = path, call = call)
      }
    },
    give_up = function() {
      if (is_open) close(connection)
      unlink(partial)
    }
  )
}

connection_writer <- function(connection, call = NULL) {
  put <- if (identical(summary(connection)$text, "binary")) {
    function(bytes) writeBin(bytes, connection)
  } else {
    # Of a character, there may be the first half.
    function(bytes) cat(rawToChar(bytes[bytes != as.raw(0)]), file = connection)
  }
  function(bytes) {
    tryCatch(put(bytes), error = function(error) {
      abort("output", "{.arg output} cannot be written.", parent = error, call = call)
    })
  }
}
