# A WebSocket (RFC 6455), as far as tests need it: short text frames, each read to its end.

open_websocket <- function(server, path, cookie = NULL, env = parent.frame()) {
  at <- regmatches(address(server), regexec("^http://([^:]+):([0-9]+)", address(server)))[[1]]
  socket <- socketConnection(at[[2]], as.integer(at[[3]]), blocking = TRUE, open = "r+b", timeout = 30)
  withr::defer(try(close(socket), silent = TRUE), envir = env)
  writeLines(c(
    paste("GET", path, "HTTP/1.1"), paste0("Host: ", at[[2]], ":", at[[3]]),
    "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    if (!is.null(cookie)) paste("Cookie:", cookie), ""
  ), socket, sep = "\r\n")
  head <- character()
  while (length(line <- read_line(socket)) > 0 && nzchar(line)) head <- c(head, line)
  list(socket = socket, head = head)
}

read_line <- function(socket) {
  bytes <- raw()
  while (length(byte <- readBin(socket, "raw", 1)) == 1 && byte != 10) bytes <- c(bytes, byte)
  sub("\r$", "", rawToChar(bytes))
}

send_text <- function(websocket, text) {
  bytes <- charToRaw(text)
  size <- length(bytes)
  stopifnot(size < 65536)
  head <- c(0x81, if (size < 126) 0x80 + size else c(0xfe, size %/% 256, size %% 256), 0, 0, 0, 0)
  writeBin(c(as.raw(head), bytes), websocket$socket)
}

# The next frame: its opcode (1 for text, 8 for a close), and its payload. NULL at the end of the connection.
read_frame <- function(websocket) {
  read <- function(n) as.integer(readBin(websocket$socket, "raw", n))
  head <- read(2)
  if (length(head) < 2) {
    return(NULL)
  }
  size <- bitwAnd(head[[2]], 127L)
  if (size > 125) size <- sum(read(if (size == 126) 2 else 8) * 256^rev(seq_len(if (size == 126) 2 else 8) - 1))
  list(opcode = bitwAnd(head[[1]], 15L), payload = readBin(websocket$socket, "raw", size))
}

# The first text frame that matches, as text.
read_until <- function(websocket, pattern) {
  repeat {
    frame <- read_frame(websocket)
    if (is.null(frame) || frame$opcode == 8) stop("The WebSocket ended before it said: ", pattern)
    text <- rawToChar(frame$payload)
    if (grepl(pattern, text)) {
      return(text)
    }
  }
}

# The code with which a WebSocket is closed; NULL if it ends without one.
read_close <- function(websocket) {
  repeat {
    frame <- read_frame(websocket)
    if (is.null(frame)) {
      return(NULL)
    }
    if (frame$opcode == 8) {
      return(sum(as.integer(frame$payload[1:2]) * c(256, 1)))
    }
  }
}

# The cookie that names a response's session.
session_cookie <- function(headers) {
  sub(";.*$", "", headers[["set-cookie"]])
}
