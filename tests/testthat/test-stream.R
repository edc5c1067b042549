skip_on_os("windows")

two_events <- "id: 1\nevent: greeting\ndata: first\n\ndata: second\ndata: of two lines\n\n"

test_that("an event arrives before the next one is written", {
  dir <- local_app("stream")
  server <- local_server(dir, workers = 1, worker_type = "native")
  client <- listen(server, "/events?id=1")
  client$wait_for("data: first\n\n")
  expect_identical(client$text(), "id: 1\nevent: greeting\ndata: first\n\n")
  expect_null(client$end)
  expect_identical(server$status()$state, "busy")
  file.create(file.path(dir, "seen-1"))
  expect_identical(client$wait(), "complete")
  expect_identical(client$text(), two_events)
  expect_true(file.exists(file.path(dir, "open-1-TRUE")))

  expect_identical(client$response$status, 201L)
  headers <- client$response$headers
  expect_identical(headers[["content-type"]], "text/event-stream")
  expect_identical(headers[["cache-control"]], "no-cache")
  expect_identical(headers[["x-own"]], "kept")
  expect_null(headers[["content-length"]])
  expect_false(any(grepl("^faucet-", names(headers))))
  # The worker is free again.
  expect_identical(request(server, "/pid")$status, 200L)
})

test_that("the same code works where nothing is streamed, collected", {
  dir <- local_app("stream")
  file.create(file.path(dir, "seen-1"))
  expect_collected <- function(server) {
    answer <- request(server, "/events?id=1")
    expect_identical(answer$text, two_events)
    expect_identical(answer$status, 201L)
    expect_identical(answer$headers[["content-type"]], "text/event-stream")
    expect_identical(answer$headers[["x-own"]], "kept")
    answer <- request(server, "/everything")
    expect_identical(answer$text, "text \u00e9, several strings, raw, data: an event\n\n")
    expect_identical(request(server, "/fail")$status, 500L)
  }
  expect_collected(local_server(dir, workers = 1, worker_type = "http"))
  expect_collected(local_plumber(dir))
})

test_that("text, raw and nothing can be written", {
  server <- local_server(local_app("stream"), workers = 1, worker_type = "native")
  answer <- request(server, "/everything")
  expect_identical(answer$body, charToRaw(enc2utf8("text \u00e9, several strings, raw, data: an event\n\n")))
  expect_identical(answer$headers[["content-type"]], "text/plain; charset=utf-8")
  expect_null(answer$headers[["cache-control"]])
  # HEAD has no body, and its stream does not hold up the worker.
  head <- request(server, "/everything", "HEAD")
  expect_length(head$body, 0)
  expect_identical(request(server, "/pid")$status, 200L)
  # What can be written neither way is an error.
  expect_error(request(server, "/wrong"))
  expect_identical(request(server, "/pid")$status, 200L)
})

test_that("a slow client holds up what is written, and gets all of it", {
  dir <- local_app("stream")
  server <- local_server(dir, workers = 2, worker_type = "native", body_memory = "256KB")
  wait_for_workers(server)
  size <- 64 * 1024^2
  chunk <- as.raw(rep(0:255, 1024))
  port <- as.integer(sub("^.*:", "", server$url))
  client <- socketConnection("127.0.0.1", port, open = "r+b", blocking = TRUE, timeout = 60)
  withr::defer(close(client))
  writeLines(
    c(sprintf("GET /much?id=1&chunks=%d HTTP/1.0", size / length(chunk)), "Host: x", "", ""),
    client, sep = "\r\n"
  )
  wait_for_file(dir, "written-1")
  # While the client does not read, everybody else has all the time to write and to answer.
  callr::r(function() Sys.sleep(2))
  for (i in 1:50) expect_identical(request(server, "/pid")$status, 200L)
  # Buffers of the system, and of both ends.
  expect_lt(as.numeric(readLines(file.path(dir, "written-1"))), size / 2)

  while (nzchar(readLines(client, n = 1))) NULL
  received <- 0
  repeat {
    bytes <- readBin(client, raw(), length(chunk))
    if (length(bytes) == 0) break
    expected <- chunk[(seq.int(received, length.out = min(length(bytes), 3)) %% 256) + 1]
    if (!identical(bytes[seq_along(expected)], expected)) fail("The stream has lost something.")
    received <- received + length(bytes)
  }
  expect_identical(received, size)
})

test_that("a client that leaves ends the stream, and its worker serves on", {
  dir <- local_app("stream")
  server <- local_server(dir, workers = 1, worker_type = "native", interrupt_timeout = 60)
  pid <- server$status()$pid
  for (path in c("/endless", "/polite")) {
    id <- basename(path)
    client <- listen(server, paste0(path, "?id=", id))
    client$wait_for("data: tick")
    client$leave()
    expect_identical(json(request(server, "/pid"))$pid, pid)
    expect_true(file.exists(file.path(dir, paste0("ended-", id))))
  }
  expect_identical(server$status()$restarts, 0L)
})

test_that("with cancel = FALSE a stream is told that its client has left", {
  dir <- local_app("stream")
  server <- local_server(dir, workers = 1, worker_type = "native", cancel = FALSE)
  pid <- server$status()$pid
  client <- listen(server, "/polite?id=1")
  client$wait_for("data: tick")
  client$leave()
  expect_identical(json(request(server, "/pid"))$pid, pid)
  expect_true(file.exists(file.path(dir, "left-1")))
  expect_identical(
    readLines(file.path(dir, "class-1"))[1:2], c("faucet_error_closed", "faucet_error")
  )
})

test_that("an error in a stream breaks it off for its client, and its worker serves on", {
  server <- local_server(local_app("stream"), workers = 1, worker_type = "native")
  pid <- server$status()$pid
  client <- listen(server, "/fail")
  expect_false(client$wait() == "complete")
  expect_identical(client$text(), "data: before\n\n")
  expect_identical(json(request(server, "/pid"))$pid, pid)
})

test_that("the deadline of a stream counts from its last chunk", {
  server <- local_server(local_app("stream"), workers = 1, worker_type = "native", timeout = 4, interrupt_timeout = 60)
  pid <- server$status()$pid
  expect_identical(request(server, "/slow?parts=10&seconds=0.5")$text, paste0(1:10, ";", collapse = ""))
  client <- listen(server, "/slow?parts=2&seconds=30")
  expect_false(client$wait() == "complete")
  expect_identical(client$text(), "1;")
  expect_identical(json(request(server, "/pid"))$pid, pid)
})

test_that("a Rook app streams without a response to begin with", {
  for (kind in kinds) {
    server <- local_server(local_app("eval"), workers = 1, worker_type = kind)
    answer <- rook(server, stream(req, NULL, function(out) for (i in 1:3) out$event(i), type = "text/x-events"))
    expect_identical(answer$text, "data: 1\n\ndata: 2\n\ndata: 3\n\n")
    expect_identical(answer$status, 200L)
    expect_identical(answer$headers[["content-type"]], "text/x-events")
  }
})

test_that("events look as the standard asks", {
  expect_identical(format_event("text"), "data: text\n\n")
  expect_identical(format_event(""), "data: \n\n")
  expect_identical(format_event(" led by a space"), "data:  led by a space\n\n")
  expect_identical(format_event("two\nlines"), "data: two\ndata: lines\n\n")
  expect_identical(format_event(c("a\r\nb\rc", "", "d\n")), "data: a\ndata: b\ndata: c\ndata: \ndata: d\ndata: \n\n")
  expect_identical(format_event(12L), "data: 12\n\n")
  expect_identical(format_event(TRUE), "data: TRUE\n\n")
  expect_identical(format_event("x", event = "type", id = 7), "id: 7\nevent: type\ndata: x\n\n")
  expect_identical(format_event("\u00e9", event = "\u00e8"), "event: \u00e8\ndata: \u00e9\n\n")
  latin1 <- iconv("\u00e9", "UTF-8", "latin1")
  expect_identical(charToRaw(format_event(latin1)), charToRaw(enc2utf8("data: \u00e9\n\n")))
  expect_identical(format_event(jsonlite::toJSON(list(a = 1), auto_unbox = TRUE)), "data: {\"a\":1}\n\n")
  # A factor or a time is shown as R shows it.
  expect_identical(format_event(factor("level")), "data: level\n\n")
  expect_identical(format_event(as.Date("2024-01-02")), "data: 2024-01-02\n\n")
})

test_that("what is no event is refused", {
  for (data in list(NULL, NA, c("a", NA), raw(1), list("a"), quote(x), identity)) {
    expect_error(format_event(data), class = "faucet_error_option")
  }
  for (line in list("two\nlines", "two\rlines", c("a", "b"), NA, character())) {
    expect_error(format_event("x", event = line), class = "faucet_error_option")
    expect_error(format_event("x", id = line), class = "faucet_error_option")
  }
  error <- expect_error(format_event(list(1)), class = "faucet_error_option")
  expect_match(conditionMessage(error), "jsonlite::toJSON", fixed = TRUE)
})

test_that("stream() refuses what it cannot call or say", {
  expect_error(stream(list(), NULL, "no function"), class = "faucet_error_option")
  for (type in list(NULL, "", NA_character_, 1, c("a", "b"))) {
    expect_error(stream(list(), NULL, identity, type = type), class = "faucet_error_option")
  }
  for (chunk in list(NULL, 1, NA_character_, list("a"))) {
    expect_error(stream(list(), NULL, function(out) out$write(chunk)), class = "faucet_error_option")
  }
})
