skip_on_cran()

# Asks for what never ends; returns the worker's pids before and after.
run_out_of_time <- function(server) {
  before <- wait_for_workers(server, 1)$pid
  started <- Sys.time()
  late <- request(server, "/loop?id=1")
  expect_gte(as.numeric(Sys.time() - started, units = "secs"), 2)
  expect_identical(late$status, 504L)
  expect_identical(late$headers[["faucet-error"]], "timeout")
  expect_match(json(late)$error, "^504 - Gateway Time-?out", ignore.case = TRUE)
  expect_identical(request(server, "/hello")$text, "hello")
  c(before = before, after = wait_for_workers(server, 1)$pid)
}

test_that("a handler in an endless loop costs its request, and a worker of type http is replaced", {
  server <- local_server(local_app("basic"), workers = 1, timeout = 2, worker_type = "http")
  pids <- run_out_of_time(server)
  expect_false(pids[["before"]] == pids[["after"]])
  wait_until_gone(pids[["before"]])
})

test_that("a handler in an endless loop is interrupted in a native worker, which goes on", {
  server <- local_server(local_app("basic"), workers = 1, timeout = 2, worker_type = "native", interrupt_timeout = 60)
  pids <- run_out_of_time(server)
  expect_identical(pids[["before"]], pids[["after"]])
  expect_identical(server$status()$restarts, 0L)
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
