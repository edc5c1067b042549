skip_on_os("windows")

# Responses whose body is a file: the front sends it, without R.

local_file <- function(bytes, env = parent.frame()) {
  file <- withr::local_tempfile(.local_envir = env)
  writeBin(bytes, file)
  normalizePath(file)
}

some_bytes <- function(size) {
  withr::local_seed(1)
  as.raw(sample(0:255, size, replace = TRUE))
}

file_server <- function(kind = "native", ..., env = parent.frame()) {
  local_server(local_app("eval", env = env), workers = 1, worker_type = kind, ..., env = env)
}

# The response with that file.
rook_file <- function(server, file, status = 200L, headers = list(), ...) {
  code <- bquote(list(status = .(status), headers = .(headers), body = c(file = .(file))))
  rlang::inject(rook(server, !!code, ...))
}

test_that("files of any size arrive as they are", {
  for (kind in kinds) {
    server <- file_server(kind)
    for (size in c(0, 1, 70000, 5e6)) {
      bytes <- some_bytes(size)
      answer <- rook_file(server, local_file(bytes), 203L, list("Content-Type" = "application/octet-stream", "X-A" = "b"))
      expect_identical(answer$status, 203L)
      expect_true(identical(answer$body, bytes))
      expect_identical(answer$headers[["content-type"]], "application/octet-stream")
      expect_identical(answer$headers[["x-a"]], "b")
      expect_false("faucet-file" %in% names(answer$headers))
      plain <- rook_file(server, local_file(bytes))
      expect_true(identical(plain$body, bytes))
    }
    expect_identical(server$status()$restarts, 0L)
  }
})

test_that("the length is the file's, whatever the app says", {
  server <- file_server()
  file <- local_file(some_bytes(1000))
  answer <- rook_file(server, file, headers = list("Content-Length" = "7"))
  expect_identical(answer$headers[["content-length"]], "1000")
  expect_length(answer$body, 1000)
})

test_that("HEAD, 204 and 304 have no body, and the next answer is whole", {
  server <- file_server()
  file <- local_file(some_bytes(1000))
  for (status in c(204L, 304L)) {
    answer <- rook_file(server, file, status)
    expect_identical(answer$status, status)
    expect_length(answer$body, 0)
  }
  head <- rook_file(server, file, method = "HEAD")
  expect_identical(head$status, 200L)
  expect_identical(head$headers[["content-length"]], "1000")
  expect_length(head$body, 0)
  expect_length(rook_file(server, file)$body, 1000)
})

test_that("a file that cannot be read is a 500, and costs no worker", {
  server <- file_server()
  pid <- server$status()$pid
  missing <- rook_file(server, tempfile())
  expect_identical(missing$status, 500L)
  # As httpuv says it.
  expect_identical(missing$text, "500 Internal Server Error\n")
  expect_identical(rook_file(server, tempdir())$status, 500L)
  expect_identical(rook_file(server, NA_character_)$status, 500L)
  expect_identical(rook(server, list(status = 200L, headers = list(), body = c(file = 1)))$status, 500L)
  expect_identical(rook(server, list(status = 200L, headers = list(), body = "next"))$text, "next")
  expect_identical(server$status()$pid, pid)
})

test_that("names of files may have any characters, and be relative to the app's directory", {
  dir <- local_app("eval")
  server <- local_server(dir, workers = 1, worker_type = "native")
  for (name in c("with space.txt", "\u00e9\u4f60.txt", "100% \"quoted\".txt", "plain.txt")) {
    writeLines(name, file.path(dir, name), useBytes = TRUE)
    answer <- rook_file(server, name)
    expect_identical(answer$status, 200L)
    expect_identical(answer$body, charToRaw(paste0(enc2utf8(name), "\n")))
  }
})

test_that("a file that the app removes right after is sent all the same, and one of httpuv's is removed", {
  dir <- local_app("eval")
  server <- local_server(dir, workers = 1, worker_type = "native")
  bytes <- some_bytes(3e6)
  writeBin(bytes, file.path(dir, "owned"))
  answer <- rook(server, list(status = 200L, headers = list(), body = list(file = "owned", owned = TRUE)))
  expect_true(identical(answer$body, bytes))
  # At the latest when the next request comes.
  expect_identical(rook(server, list(status = 200L, headers = list(), body = "next"))$text, "next")
  expect_false(file.exists(file.path(dir, "owned")))
})

test_that("the worker is free while a client takes its time for a file", {
  server <- file_server(body_memory = "64KB")
  bytes <- some_bytes(2^20)
  file <- local_file(rep(bytes, 32))
  code <- as_code(bquote(list(status = 200L, headers = list(), body = c(file = .(file)))))
  client <- socketConnection(
    "127.0.0.1", as.integer(sub("^.*:", "", server$url)), open = "r+b", blocking = TRUE, timeout = 60
  )
  withr::defer(close(client))
  writeLines(
    c("GET / HTTP/1.1", "Host: x", "Connection: close", paste("X-Code:", code[["X-Code"]]), "", ""), client, sep = "\r\n"
  )
  expect_match(readLines(client, n = 1), "^HTTP/1.1 200")
  # The one worker there is has time for others.
  expect_identical(rook(server, list(status = 200L, headers = list(), body = "next"))$text, "next")
  expect_identical(wait_for_workers(server)$in_flight, 0L)
  while (nzchar(readLines(client, n = 1))) NULL
  for (i in 1:32) {
    got <- readBin(client, raw(), length(bytes))
    if (!identical(got, bytes)) fail(paste("Part", i, "of the file is not what it was."))
  }
  expect_length(readBin(client, raw(), 1), 0)
})

test_that("a plumber handler may answer with a file", {
  dir <- local_code("plumber.R" = c(
    "#* @get /file",
    "function(res, name) { res$setHeader(\"Content-Type\", \"text/own\"); res$body <- c(file = name); res }"
  ))
  file <- local_file(some_bytes(1e6))
  for (kind in kinds) {
    server <- local_server(dir, workers = 1, worker_type = kind)
    answer <- request(server, paste0("/file?name=", curl::curl_escape(file)))
    expect_identical(answer$headers[["content-type"]], "text/own")
    expect_true(identical(answer$body, some_bytes(1e6)))
  }
})
