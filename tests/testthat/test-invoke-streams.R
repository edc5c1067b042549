test_that("connections are read while they are sent", {
  local_answers(function(req) {
    body <- req$rook.input$read()
    told <- sprintf('{"type": "%s", "bytes": %d, "sum": %d}', req$CONTENT_TYPE, length(body), sum(as.integer(body)))
    list(status = 200L, headers = list("Content-Type" = "application/json"), body = told)
  })
  bytes <- as.raw(rep(0:250, length.out = 3e6))
  file <- withr::local_tempfile()
  writeBin(bytes, file)
  whole <- list(bytes = length(bytes), sum = sum(as.integer(bytes)))

  # Not open: opened, and closed again.
  connection <- file(file)
  seen <- invoke("f", connection, type = "application/x-tar")
  expect_identical(seen[c("bytes", "sum")], lapply(whole, as.integer))
  expect_identical(seen$type, "application/x-tar")
  expect_error(isOpen(connection), "invalid connection")

  # Open: read from where it is, and left open.
  connection <- file(file, "rb")
  withr::defer(close(connection))
  readBin(connection, "raw", 1e6)
  seen <- invoke("f", connection)
  expect_identical(seen$bytes, 2000000L)
  expect_identical(seen$type, "application/octet-stream")
  expect_true(isOpen(connection))

  text <- textConnection(c("a", "\u00e9"))
  withr::defer(close(text))
  seen <- invoke("f", text)
  expect_identical(seen, list(type = "text/plain; charset=utf-8", bytes = 5L, sum = sum(as.integer(charToRaw("a\n\u00e9\n")))))

  expect_error(invoke("f", file("/nonexistent")), class = "faucet_error_option")
  expect_error(invoke("f", connection, rds = TRUE), class = "faucet_error_option")
})

test_that("an answer goes where it is told, whole or not at all", {
  local_answers(function(req) {
    if (basename(req$PATH_INFO) == "bad") {
      return(list(status = 500L, headers = list("Content-Type" = "application/json"), body = '{"error": "no"}'))
    }
    list(status = 200L, headers = list("Content-Type" = "application/json"), body = as.raw(rep(0:250, length.out = 3e6)))
  })
  dir <- withr::local_tempdir()
  path <- file.path(dir, "answer")
  expect_identical(withVisible(invoke("f", "x", output = path)), list(value = path, visible = FALSE))
  expect_identical(readBin(path, "raw", 4e6), as.raw(rep(0:250, length.out = 3e6)))
  writeLines("before", path)
  expect_error(invoke("bad", "x", output = path), class = "faucet_invoke_error")
  expect_identical(readLines(path), "before")
  expect_identical(list.files(dir, all.files = TRUE, no.. = TRUE), "answer")

  connection <- rawConnection(raw(), "wb")
  withr::defer(close(connection))
  invoke("f", "x", output = connection)
  expect_length(rawConnectionValue(connection), 3e6)
  closed <- file(path)
  invoke("f", "x", output = closed)
  expect_identical(file.size(path), 3e6)
  expect_error(isOpen(closed), "invalid connection")

  expect_error(invoke("f", "x", output = "/nonexistent/x"), class = "faucet_error_output")
  expect_error(invoke("f", "x", output = 3), class = "faucet_error_option")
  expect_error(invoke("f", "x", output = file(path, "rb")), class = "faucet_error_option")
})
