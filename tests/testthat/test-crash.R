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
