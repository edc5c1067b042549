# A front with few file descriptors, and clients that take all they can get.

skip_on_cran()
skip_on_os(c("windows", "mac", "solaris"))
skip_if(any(Sys.which(c("prlimit", "bash")) == ""), "there is no prlimit")

# A process that opens many connections, as R itself has only 128: each sends `text` and so many bytes, and all stay open
# until `stop()`.
local_hostile <- function(url, text, bytes = 0, count = 303, env = parent.frame()) {
  files <- withr::local_tempfile(.local_envir = env)
  dir.create(files)
  writeBin(c(charToRaw(text), raw(bytes)), file.path(files, "text"))
  code <- paste(
    "trap '' PIPE; exec 2> \"$1/errors\"",
    "for i in $(seq \"$3\"); do exec {fd}<> \"/dev/tcp/127.0.0.1/$2\"; cat \"$1/text\" >&$fd; done",
    "touch \"$1/begun\"; while ! test -e \"$1/stop\"; do sleep 0.05; done",
    sep = "\n"
  )
  port <- sub("^.*:", "", url)
  process <- processx::process$new("bash", c("-c", code, "bash", files, port, count))
  withr::defer(process$kill(), envir = env)
  list(
    wait = function() wait_until(file.exists(file.path(files, "begun")), what = "all clients to be there"),
    stop = function() {
      file.create(file.path(files, "stop"))
      process$wait(20000)
    }
  )
}

expect_answered <- function(front, status = c(200L, 503L)) {
  answer <- request(front$url, "/__faucet__/livez")
  expect_true(answer$status %in% status)
  answer
}

expect_lives <- function(front, hostile) {
  hostile$wait()
  for (i in 1:5) expect_answered(front)
  expect_true(front$process$is_alive())
  # R opens files whenever it likes, and new workers need some.
  expect_lt(length(list.files(file.path("/proc", front$pid, "fd"))), 550)
  hostile$stop()
  wait_until(
    tryCatch(request(front$url, "/pid")$status == 200L, error = function(e) FALSE),
    what = "requests to be served again"
  )
  body <- as.raw(rep(65, 1.2e6))
  wait_until(
    request(front$url, "/pid", method = "POST", body = body)$status != 503L,
    what = "large bodies to be taken again"
  )
  expect_true(front$process$is_alive())
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
  expect_false(any(grepl("open file|cannot open|Too many", front$stderr())))
}

test_that("unfinished uploads leave descriptors for R and for those who come", {
  front <- local_front(local_app("basic"), workers = 2L, access_log = "text", prefix = c("prlimit", "--nofile=600"))
  head <- "POST /pid HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n"
  expect_lives(front, local_hostile(front$url, head, bytes = 1.1e6))
})

test_that("WebSockets leave descriptors for R and for those who come", {
  dir <- local_code("entrypoint.R" = '
    httpuv::runServer("127.0.0.1", as.integer(Sys.getenv("FAUCET_PORT")), list(
      call = function(req) list(status = 200L, headers = list("Content-Type" = "text/plain"), body = "fine"),
      onWSOpen = function(ws) ws$send("hi")
    ))
  ')
  front <- local_front(dir, workers = 2L, access_log = "text", prefix = c("prlimit", "--nofile=600"))
  head <- paste0(
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
  )
  hostile <- local_hostile(front$url, head)
  hostile$wait()
  # Some of the descriptors are for those who want no tunnel.
  wait_until(request(front$url, "/")$status == 200L, what = "an ordinary request to be served")
  expect_lives(front, hostile)
})
