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
  req$rook.input <- if (request$length > 0) rook_input() else no_input
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
rook_input <- function() {
  at <- 0
  bytes_from <- function(at, most = Inf) {
    bytes <- serve_body(at, most)
    if (is.list(bytes)) raise_failure(bytes)
    bytes
  }
  list(
    read = function(l = -1L) {
      bytes <- bytes_from(at, if (l < 0) Inf else l)
      at <<- at + length(bytes)
      bytes
    },
    read_lines = function(n = -1L) {
      bytes <- bytes_from(at)
      if (n >= 0) {
        ends <- which(bytes == as.raw(10L))
        if (n < length(ends)) bytes <- bytes[seq_len(c(0, ends)[[n + 1]])]
      }
      at <<- at + length(bytes)
      connection <- rawConnection(bytes)
      on.exit(close(connection))
      readLines(connection, warn = FALSE)
    },
    rewind = function() at <<- 0,
    close = function() invisible()
  )
}
