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

# Of its body `at` bytes have been read.
rook_request <- function(request, constants, at = 0) {
  req <- list2env(request$fields, parent = emptyenv())
  if (!is.null(request$bytes)) put_bytes(req, request$bytes)
  req$rook.input <- body_of(request, at) %||% no_input
  req$rook.errors <- constants$errors
  req$httpuv.version <- constants$version
  req
}

# Puts the values of headers that are no UTF-8 into a request, as the bytes that they are. `bytes` are raw vectors by the headers'
# names.
put_bytes <- function(req, bytes) {
  for (name in names(bytes)) {
    value <- rawToChar(bytes[[name]])
    req$HEADERS[[name]] <- value
    variable <- toupper(chartr("-", "_", name))
    assign(paste0("HTTP_", variable), value, req)
    if (variable == "CONTENT_TYPE") req$CONTENT_TYPE <- value
  }
}

# A request's body, NULL if it has none.
body_of <- function(request, at = 0) {
  if (request$length > 0) rook_input(at) else if (request$length < 0) coming_input()
}

# How much of a body that comes meanwhile is read at a time, in bytes: fewer pieces cost less.
piece_size <- 262144

# The body of a request that comes meanwhile: each piece can be read once.
coming_input <- function() {
  read <- function(l = -1L) {
    if (l >= 0) {
      return(next_piece(l))
    }
    pieces <- list()
    while (length(piece <- next_piece(piece_size)) > 0) pieces[[length(pieces) + 1]] <- piece
    as.raw(unlist(pieces))
  }
  list(
    read = read,
    read_lines = function(n = -1L) {
      connection <- rawConnection(read())
      on.exit(close(connection))
      readLines(connection, n, warn = FALSE)
    },
    rewind = function() invisible(),
    close = function() invisible()
  )
}

# Waits until there is one; empty at the end. An interrupt is taken while it waits.
next_piece <- function(most) {
  repeat {
    piece <- serve_read(most, longest_wait)
    if (is.list(piece)) raise_failure(piece)
    if (is.null(piece)) {
      return(raw())
    }
    if (length(piece) > 0) {
      return(piece)
    }
    allow_interrupt()
  }
}

# Most requests have none.
no_input <- list(
  read = function(l = -1L) raw(),
  read_lines = function(n = -1L) character(),
  rewind = function() invisible(),
  close = function() invisible()
)

# Where lines end, as readLines() sees it: at LF, CR, or both.
line_ends <- function(bytes) {
  feeds <- bytes == as.raw(10L)
  which(feeds | (bytes == as.raw(13L) & !c(feeds[-1], FALSE)))
}

# The body as a stream. It is on the native side until it is read.
rook_input <- function(at = 0) {
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
        ends <- line_ends(bytes)
        if (n <= length(ends)) bytes <- bytes[seq_len(c(0, ends)[[n + 1]])]
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
