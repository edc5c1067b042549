# Clients that do what no client should, on sockets of their own.

# `$act()`: each kind of them once, in turn at a front's `url`. Some stay, and hold what they hold until `$leave()`.
hostile_clients <- function(url, env = parent.frame()) {
  port <- as.integer(sub("^.*:", "", url))
  held <- list()
  leave <- function() {
    for (connection in held) close(connection)
    held <<- list()
  }
  withr::defer(leave(), envir = env)
  # What the front refuses or breaks off is as well.
  send <- function(bytes, hold = FALSE, read = 0) {
    tryCatch(suppressWarnings({
      connection <- socketConnection("127.0.0.1", port, open = "r+b", blocking = TRUE, timeout = 5)
      if (hold) held <<- c(held, list(connection)) else on.exit(close(connection))
      writeBin(if (is.raw(bytes)) bytes else charToRaw(bytes), connection)
      read_there(connection, read)
    }), error = function(error) NULL)
  }
  list(
    act = function() {
      send(get_head("/work?ms=50"))
      send(paste0(get_head("/work?ms=50"), "\r\n"))
      for (bytes in malformed_requests()) send(bytes)
      send(get_head("/__faucet__/turn"), read = 1)
      send("GET /work HTTP/1.1\r\nHost: storm\r\nX-Half: ", hold = TRUE)
      send(c(charToRaw(post_head("Content-Length: 2000000")), raw(1200000)), hold = TRUE)
      send(paste0(post_head("Transfer-Encoding: chunked"), strrep("1\r\nx\r\n", 5000)), hold = TRUE)
      send(get_head("/big"), hold = TRUE)
      send(get_head("/stream"), hold = TRUE)
      send(c(h2_start(), unlist(lapply(seq(1, 99, 2), function(stream) c(h2_get(stream, "/work"), h2_reset(stream))))), read = 1)
      send(c(h2_start(window = 0), h2_get(1, "/big")), hold = TRUE, read = 1)
      upgraded <- send(get_head("/", websocket_headers), hold = TRUE, read = 4096)
      if (length(upgraded) > 12 && rawToChar(upgraded[10:12]) == "101") {
        tryCatch(writeBin(websocket_messages, held[[length(held)]]), error = function(error) NULL)
      }
      send(get_head("/garbage"), read = 1)
    },
    loop = function() send(get_head("/loop")),
    crash = function(how = "kill") send(get_head(paste0("/crash?how=", how)), read = 1),
    leave = leave
  )
}

# At most so many bytes of what comes within a second. A blocking connection waits until it has all that it is asked for,
# and R begins its timeout anew whenever an event handler of the session (of later, say) runs.
read_there <- function(connection, most) {
  bytes <- raw()
  deadline <- proc.time()[["elapsed"]] + 1
  while (length(bytes) < most && proc.time()[["elapsed"]] < deadline) {
    if (socketSelect(list(connection), timeout = 0)) {
      byte <- readBin(connection, "raw", 1)
      if (length(byte) == 0) break
      bytes <- c(bytes, byte)
    } else {
      Sys.sleep(0.01)
    }
  }
  bytes
}

get_head <- function(path, headers = "") paste0("GET ", path, " HTTP/1.1\r\nHost: storm\r\n", headers, "\r\n")
post_head <- function(header) paste0("POST /echo HTTP/1.1\r\nHost: storm\r\n", header, "\r\n\r\n")

websocket_headers <- paste0(
  "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
# Text, masked with zeros, and the beginning of one more.
websocket_messages <- c(as.raw(c(0x81, 0x8c, 0, 0, 0, 0)), charToRaw("HTTP/1.1 200"), as.raw(c(0x81, 0xfe, 0xff)))

malformed_requests <- function() {
  list(
    as.raw(c(0, 1, 2, 255, 13, 10, 13, 10)),
    "FOO / HTTP/1.1\r\nHost: storm\r\n\r\n",
    "GET storm:80 HTTP/1.1\r\nHost: storm\r\n\r\n",
    "GET /work HTTP/1.1\r\nHost: a b\r\n\r\n",
    c(charToRaw("GET /work?"), as.raw(c(0xc3, 0xa9, 0xff)), charToRaw(" HTTP/1.1\r\nHost: storm\r\n\r\n")),
    get_head("/work", "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_For: 6.6.6.6\r\n"),
    get_head("/work", paste0("X: ", strrep("x", 100000), "\r\n")),
    get_head("/work", strrep("X: x\r\n", 500)),
    post_head("Content-Length: 18446744073709551615"),
    paste0(post_head("Transfer-Encoding: gzip, chunked"), "0\r\n\r\n"),
    paste0(post_head("Transfer-Encoding: chunked"), "zz\r\n\r\n"),
    paste0(get_head("/work"), get_head("/work"), "GET /wo")
  )
}

# HTTP/2 (RFC 9113) by hand, with nothing compressed.
h2_frame <- function(type, flags, stream, payload = raw()) {
  c(big_endian(length(payload), 3), as.raw(c(type, flags)), big_endian(stream, 4), payload)
}
h2_start <- function(window = NULL) {
  settings <- if (!is.null(window)) c(big_endian(4, 2), big_endian(window, 4))
  c(charToRaw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), h2_frame(4, 0, 0, c(raw(), settings)))
}
h2_get <- function(stream, path) {
  literal <- function(name, value) c(as.raw(c(name, nchar(value))), charToRaw(value))
  # Of HPACK's static table: GET, http, :path, :authority.
  h2_frame(1, 5, stream, c(as.raw(c(0x82, 0x86)), literal(4, path), literal(1, "storm")))
}
h2_reset <- function(stream) h2_frame(3, 0, stream, big_endian(8, 4))

big_endian <- function(number, bytes) as.raw((number %/% 256^((bytes - 1):0)) %% 256)
