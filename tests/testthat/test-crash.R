skip_on_cran()

test_that("a worker killed in the middle of a request costs that request only", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 2)
  before <- wait_for_workers(server, 2)

  clients <- crowd()
  clients$add(server, "/work?id=victim&ms=60000", key = "victim")
  wait_until(clients$step() && file.exists(file.path(dir, "begun-victim")))
  status <- server$status()
  busy <- status$state == "busy"
  expect_identical(sum(busy), 1L)
  expect_identical(status$in_flight[busy], 1L)
  tools::pskill(status$pid[busy], sig[["kill"]])

  victim <- clients$wait()$victim
  expect_identical(victim$status, 502L)
  expect_identical(victim$headers[["faucet-error"]], "worker_died")
  expect_match(json(victim)$error, "^502 - Bad Gateway")

  # Meanwhile the other one serves, and then both do.
  expect_identical(request(server, "/hello")$text, "hello")
  after <- wait_for_workers(server, 2)
  expect_identical(after$pid[!busy], before$pid[!busy])
  expect_false(after$pid[busy] %in% before$pid)
  expect_identical(after$restarts[busy], 1L)
  expect_length(worker_pids(server, 2), 2)
})

test_that("a worker that ends itself is replaced", {
  server <- local_server(local_app("basic"), workers = 1)
  before <- wait_for_workers(server, 1)$pid
  expect_identical(request(server, "/die")$status, 502L)
  expect_identical(request(server, "/hello")$text, "hello")
  wait_for_workers(server, 1)
  expect_false(server$status()$pid == before)
})

test_that("an answer that is none costs its own request only, and no worker", {
  dir <- local_code("plumber.R" = c(
    "#* @get /pid", "#* @serializer unboxedJSON", "function() list(pid = Sys.getpid())",
    "#* @get /status", "function(res, code) {", "  res$status <- as.integer(code)", "  'body'", "}",
    "#* @get /length", "function(res, n) {",
    "  res$setHeader('Content-Length', n)", "  'hello world'", "}"
  ))
  server <- local_server(dir, workers = 1, worker_type = "http", idle_timeout = 1)
  wait_for_workers(server, 1)
  pid <- json(request(server, "/pid"))$pid
  for (code in c(99, 100, 101, 102, 103, 123, 199)) {
    answer <- request(server, paste0("/status?code=", code))
    expect_identical(answer$status, 502L)
    expect_identical(answer$headers[["faucet-error"]], "bad_response")
    expect_identical(json(request(server, "/pid"))$pid, pid)
  }
  # It waits for more in vain. What httpuv compresses, it gives a length of its own.
  plain <- list(`Accept-Encoding` = "identity")
  answer <- request(server, "/length?n=100", headers = plain)
  expect_identical(answer$status, 502L)
  expect_identical(answer$headers[["faucet-error"]], "broken_off")
  # What comes after the end is not the next one's.
  for (n in c(0, 5)) {
    expect_identical(nchar(request(server, paste0("/length?n=", n), headers = plain)$text), as.integer(n))
    expect_identical(json(request(server, "/pid"))$pid, pid)
  }
  expect_identical(server$status()$restarts, 0L)
})

test_that("a worker that closes what it serves on is replaced", {
  dir <- local_code("plumber.R" = c(
    "#* @get /pid", "#* @serializer unboxedJSON", "function() list(pid = Sys.getpid())",
    "#* @get /close", "function() for (fd in 3:200) try(parallel:::closeFD(fd), silent = TRUE)"
  ))
  for (worker in c("native", "http")) {
    server <- local_server(dir, workers = 1, worker_type = worker)
    wait_for_workers(server, 1)
    pid <- json(request(server, "/pid"))$pid
    expect_identical(request(server, "/close")$status, 502L)
    expect_false(json(request(server, "/pid"))$pid == pid)
    wait_until_gone(pid)
  }
})

test_that("a worker that cannot start any more is tried again, while the others serve", {
  dir <- local_code("plumber.R" = c(
    "if (file.exists(\"broken\")) stop(\"broken for good\")",
    "#* @get /pid", "#* @serializer unboxedJSON", "function() list(pid = Sys.getpid())"
  ))
  server <- local_server(dir, workers = 2, max_failures = 2)
  status <- NULL
  before <- wait_for_workers(server, 2)
  file.create(file.path(dir, "broken"))
  tools::pskill(before$pid[[1]], sig[["kill"]])
  events <- messages_until(server, "failed" %in% server$status()$state)
  expect_match(events, "has failed to start 2 times in a row", all = FALSE)
  # Between two tries.
  wait_until(setequal((status <<- server$status())$state, c("failed", "ready")))
  expect_false(is.na(status$next_try[status$state == "failed"]))
  expect_true(is.na(status$next_try[status$state == "ready"]))
  expect_identical(json(request(server, "/pid"))$pid, before$pid[[2]])
  expect_true(server$is_running())
})

test_that("kill -9 of the front leaves no R process behind", {
  skip_on_os("windows")
  dir <- local_app("basic")
  front <- local_front(dir, workers = 2L)
  pids <- worker_pids(front$url, 2)
  # One worker is idle, the other one deaf to all but the hardest signal.
  clients <- crowd()
  clients$add(front$url, "/loop?id=deaf")
  wait_until(clients$step() && file.exists(file.path(dir, "begun-deaf")))
  expect_true(all(is_alive(pids)))
  front$process$signal(sig[["kill"]])
  wait_until_gone(c(front$pid, pids))
})
