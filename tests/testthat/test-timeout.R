skip_on_cran()

# Native workers are interrupted instead: see test-cancel.R.
test_that("a handler in an endless loop costs its request, and the worker is replaced", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1, timeout = 2, worker = "http")
  before <- wait_for_workers(server, 1)$pid
  started <- Sys.time()
  late <- request(server, "/loop?id=1")
  expect_gte(as.numeric(Sys.time() - started, units = "secs"), 2)
  expect_identical(late$status, 504L)
  expect_identical(late$headers[["faucet-error"]], "timeout")
  expect_match(json(late)$error, "^504 - Gateway Time-?out", ignore.case = TRUE)

  expect_identical(request(server, "/hello")$text, "hello")
  wait_for_workers(server, 1)
  expect_false(server$status()$pid == before)
  wait_until_gone(before)
})

test_that("a request that waits too long for a worker gets 503", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1, queue_timeout = 0.5)
  clients <- crowd()
  hold(clients, server, dir, "first")
  late <- request(server, "/work?id=second")
  expect_identical(late$status, 503L)
  expect_identical(late$headers[["faucet-error"]], "queue_timeout")
  expect_match(late$headers[["retry-after"]], "^[0-9]+$")
  release(dir, "first")
  expect_identical(clients$wait()$first$status, 200L)
  expect_false(file.exists(file.path(dir, "begun-second")))
})
