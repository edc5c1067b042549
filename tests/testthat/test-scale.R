test_that("scale() starts workers and lets them go", {
  server <- local_server(local_app("basic"), workers = 1)
  first <- wait_for_workers(server, 1)$pid

  expect_identical(withVisible(server$scale(3)), list(value = server, visible = FALSE))
  three <- wait_for_workers(server, 3)
  expect_true(first %in% three$pid)
  expect_false(anyDuplicated(three$worker) > 0)
  expect_length(worker_pids(server, 3), 3)

  server$scale(1)
  one <- wait_for_workers(server, 1)
  expect_true(one$pid %in% three$pid)
  wait_until_gone(setdiff(three$pid, one$pid))
  expect_identical(json(request(server, "/pid"))$pid, one$pid)
})

test_that("a worker that scale() lets go finishes its request", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 2)
  wait_for_workers(server, 2)
  clients <- crowd()
  for (i in 1:2) clients$add(server, sprintf("/work?id=%d&ms=1500", i))
  wait_until(clients$step() && all(file.exists(file.path(dir, c("begun-1", "begun-2")))))
  server$scale(1)
  done <- clients$wait()
  expect_identical(unname(vapply(done, `[[`, 1L, "status")), c(200L, 200L))
  wait_for_workers(server, 1)
})

test_that("scale() takes a number of workers and nothing else", {
  server <- local_server(local_app("basic"), workers = 1)
  for (bad in list(0, -1, 1.5, NA, NULL, "two", c(2, 1), 1:3, Inf)) {
    expect_error(server$scale(bad), class = "faucet_error_option")
  }
  expect_identical(nrow(server$status()), 1L)
  expect_snapshot_errors(server$scale(0))
})
