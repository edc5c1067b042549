# A request as Rook apps know it: an environment, with what httpuv puts into it.

# What is the same for all requests.
rook_constants <- function() {
  list(
    errors = list(
      cat = function(...) cat(..., file = stderr()),
      flush = function() invisible()
    ),
    version = if (isNamespaceLoaded("httpuv")) utils::packageVersion("httpuv")
  )
}

rook_request <- function(request, constants) {
  req <- list2env(request$fields, parent = emptyenv())
  req$rook.input <- if (request$length > 0) rook_input(request$length) else no_input
  req$rook.errors <- constants$errors
  req$httpuv.version <- constants$version
  req
}

# Most requests have none.
no_input <- list(
  read = function(l = -1L) raw(),
  read_lines = function(n = -1L) character(),
  rewind = function() invisible(),
  close = function() invisible()
)

# The body as a stream. It is on the native side until it is read.
rook_input <- function(length) {
  at <- 0
  rest <- function() {
    bytes <- raw(length - at)
    count <- check_result(serve_body(bytes, at))$count
    if (count < base::length(bytes)) bytes[seq_len(count)] else bytes
  }
  list(
    read = function(l = -1L) {
      bytes <- if (l < 0 || l >= length - at) {
        rest()
      } else {
        some <- raw(l)
        some[seq_len(check_result(serve_body(some, at))$count)]
      }
      at <<- at + base::length(bytes)
      bytes
    },
    read_lines = function(n = -1L) {
      bytes <- rest()
      if (n >= 0) {
        ends <- which(bytes == as.raw(10L))
        if (n < base::length(ends)) bytes <- bytes[seq_len(c(0, ends)[[n + 1]])]
      }
      at <<- at + base::length(bytes)
      connection <- rawConnection(bytes)
      on.exit(close(connection))
      readLines(connection, warn = FALSE)
    },
    rewind = function() at <<- 0,
    close = function() invisible()
  )
}
