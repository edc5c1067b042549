# A worker in the test itself: one slot, a connection to a hub.

# Dials and shakes hands; the answer's status line, and the connection if the roles have turned round.
dial <- function(address, ..., headers = c(`Faucet-Worker` = "box", ...)) {
  connection <- suppressWarnings(socketConnection(
    sub(":[0-9]+$", "", address), as.integer(sub("^.*:", "", address)),
    open = "r+b", blocking = TRUE, timeout = 60
  ))
  lines <- c(
    "GET /slot HTTP/1.1", "Host: hub", "Connection: Upgrade", "Upgrade: faucet-slot/1", paste0(names(headers), ": ", headers)
  )
  send_lines(connection, lines)
  head <- read_head(connection)
  if (!startsWith(head[[1]], "HTTP/1.1 101")) {
    close(connection)
    connection <- NULL
  }
  list(status = head[[1]], connection = connection)
}

local_slot <- function(address, ..., env = parent.frame()) {
  dialled <- dial(address, ...)
  testthat::expect_match(dialled$status, "^HTTP/1.1 101")
  withr::defer(try(close(dialled$connection), silent = TRUE), envir = env)
  dialled$connection
}

# Takes one request, whose head it returns, and answers it.
answer_one <- function(connection, text) {
  head <- read_head(connection)
  send_lines(connection, c("HTTP/1.1 200 OK", paste("Content-Length:", nchar(text))), text)
  head
}

send_lines <- function(connection, lines, body = "") {
  writeBin(charToRaw(paste0(paste0(lines, "\r\n", collapse = ""), "\r\n", body)), connection)
}

read_head <- function(connection) {
  head <- ""
  repeat {
    byte <- readBin(connection, "raw", 1)
    if (length(byte) == 0) stop("The connection has ended after: ", head)
    head <- paste0(head, rawToChar(byte))
    if (endsWith(head, "\r\n\r\n")) {
      return(strsplit(head, "\r\n")[[1]])
    }
  }
}
