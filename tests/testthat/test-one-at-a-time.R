skip_on_cran()

# The app counts what its R process works on at the same time (see apps/overlap).

test_that("clients that come, stay and hang up never make two requests meet in one worker", {
  # Not interrupted: that ends the wait for a promise, but not the app's timer, by which it counts.
  server <- local_server(local_app("overlap"), workers = 4, cancel = FALSE)
  wait_for_workers(server, 4)

  withr::local_seed(1)
  n <- 200
  leaves <- seq_len(n) %in% sample(n, n / 2)
  # Between at once and when the queue is nearly served.
  patience <- sample(1:1500, n, replace = TRUE)
  clients <- crowd()
  for (i in seq_len(n)) {
    if (leaves[[i]]) {
      clients$add(server, "/work?ms=30", key = paste0("leaves-", i), timeout_ms = patience[[i]])
    } else {
      clients$add(server, "/work?ms=30", key = paste0("stays-", i))
    }
  }
  done <- clients$wait()

  stayed <- done[startsWith(names(done), "stays-")]
  expect_length(stayed, n / 2)
  status <- vapply(stayed, function(response) if (is.list(response)) response$status else 0L, 1L)
  expect_true(all(status == 200))
  # Otherwise this test has tested nothing.
  expect_true(any(vapply(done, is.character, TRUE)))

  # All four serve again: as many requests at once go to as many workers.
  wait_for_workers(server, 4)
  again <- crowd()
  for (i in 1:4) again$add(server, "/seen?ms=500", key = paste(i))
  seen <- lapply(again$wait(), json)
  expect_setequal(vapply(seen, `[[`, "", "worker"), paste(1:4))
  expect_identical(vapply(seen, `[[`, 1L, "most"), rlang::rep_named(names(seen), 1L))
  expect_identical(vapply(seen, `[[`, 1L, "begun"), vapply(seen, `[[`, 1L, "ended"))
  # Nobody died of it.
  expect_identical(server$status()$restarts, rep(0L, 4))
})

test_that("a client that leaves while it waits never reaches R", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1)
  clients <- crowd()
  hold(clients, server, dir, "first")
  clients$add(server, "/work?id=left", key = "left")
  wait_until(clients$step() && waiting(server) == 1)
  clients$leave("left")
  wait_until(waiting(server) == 0)
  release(dir, "first")
  expect_identical(clients$wait()$first$status, 200L)
  expect_identical(request(server, "/work?id=next")$status, 200L)
  expect_false(file.exists(file.path(dir, "begun-left")))
})

test_that("a worker is busy until it has answered, also when its client has left", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1, cancel = FALSE)
  clients <- crowd()
  hold(clients, server, dir, "left")
  clients$leave("left")
  clients$add(server, "/work?id=next", key = "next")
  wait_until(clients$step() && waiting(server) == 1)
  expect_identical(server$status()$state, "busy")
  expect_identical(server$status()$in_flight, 1L)
  release(dir, "left")
  expect_identical(clients$wait()[["next"]]$status, 200L)
  expect_true(file.exists(file.path(dir, "ended-left")))
  wait_for_workers(server, 1)
})

test_that("requests are served first come, first served", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1)
  clients <- crowd()
  hold(clients, server, dir, "first")
  for (i in 1:5) {
    clients$add(server, paste0("/work?id=", i))
    wait_until(clients$step() && waiting(server) == i)
  }
  release(dir, "first")
  clients$wait()
  begun <- file.mtime(file.path(dir, paste0("begun-", 1:5)))
  expect_false(is.unsorted(begun))
})

test_that("requests beyond the queue are turned away at once, with a time to come back", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1, queue = 1)
  clients <- crowd()
  hold(clients, server, dir, "first")
  clients$add(server, "/work?id=second", key = "second")
  wait_until(clients$step() && waiting(server) == 1)
  refused <- request(server, "/work?id=third")
  expect_identical(refused$status, 503L)
  expect_identical(refused$headers[["faucet-error"]], "queue_full")
  expect_match(refused$headers[["retry-after"]], "^[0-9]+$")
  expect_match(json(refused)$error, "^503 - Service Unavailable")
  release(dir, "first")
  expect_identical(clients$wait()$second$status, 200L)
  expect_false(file.exists(file.path(dir, "begun-third")))
})
