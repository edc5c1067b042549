# Workers that come and go with what there is to do.

local_growing <- function(dir, workers, ..., grow_after = 0.05, shrink_after = 0.5, env = parent.frame()) {
  server <- faucet::run(
    dir, workers,
    port = 0, block = FALSE, quiet = TRUE, access_log = "none", grow_after = grow_after, shrink_after = shrink_after, ...
  )
  withr::defer(suppressMessages(try(server$stop(timeout = 1), silent = TRUE)), envir = env)
  server
}

# Each request is an R process's alone: the answer has the process, and how many requests it had at that time.
lone_app <- function(env = parent.frame()) {
  local_code(env = env, "plumber.R" = c(
    "now <- 0",
    "#* @get /",
    "#* @serializer text",
    "function(seconds = '0') {",
    "  now <<- now + 1",
    "  on.exit(now <<- now - 1)",
    "  Sys.sleep(as.numeric(seconds))",
    "  paste(Sys.getpid(), now)",
    "}"
  ))
}

test_that("a pool without workers is ready, and a burst at it is answered, one request at a time in each R", {
  server <- local_growing(lone_app(), c(0, 2))
  expect_identical(nrow(server$status()), 0L)
  expect_identical(request(server, "/__faucet__/readyz")$status, 200L)

  clients <- crowd()
  for (i in 1:100) clients$add(server, "/", key = as.character(i))
  answers <- clients$wait()
  expect_identical(unique(vapply(answers, `[[`, 1L, "status")), 200L)
  words <- strsplit(trimws(vapply(answers, `[[`, "", "text")), " ")
  expect_identical(unique(vapply(words, `[[`, "", 2)), "1")
  processes <- unique(vapply(words, `[[`, "", 1))
  expect_lte(length(processes), 2)

  wait_until(nrow(server$status()) == 0, what = "the workers to leave")
  wait_until(!any(dir.exists(file.path("/proc", processes))), what = "their processes to end")
  expect_identical(request(server, "/")$status, 200L)
})

test_that("a pool grows while requests wait, and shrinks to the least", {
  server <- local_growing(lone_app(), c(1, 3), admin_port = 0)
  clients <- crowd()
  for (i in 1:12) clients$add(server, "/?seconds=0.5", key = as.character(i))
  wait_until(clients$step() && sum(server$status()$state == "busy") == 3, what = "three workers to be busy")
  expect_identical(unique(vapply(clients$wait(), `[[`, 1L, "status")), 200L)
  wait_until(nrow(server$status()) == 1, what = "the workers to leave")
  metrics <- read_metrics(server$admin_url)
  expect_gte(metric(metrics, "faucet_scalings_total", "decision=\"up\""), 1)
  expect_identical(metric(metrics, "faucet_scalings_total", "decision=\"down\",reason=\"idle\""), 2)

  server$scale(2)
  expect_identical(nrow(server$status()), 2L)
  server$scale(c(0, 2))
  wait_until(nrow(server$status()) == 0, what = "the workers to leave")
})

test_that("pools share `max_workers`", {
  dir <- lone_app()
  pools <- list("/a" = faucet::pool(dir, workers = c(0, 4)), "/b" = faucet::pool(dir, workers = 1))
  server <- local_growing(pools, NULL, max_workers = 2)
  clients <- crowd()
  for (i in 1:6) clients$add(server, "/a/?seconds=0.3", key = as.character(i))
  wait_until(clients$step() && any(server$status()$pool == "/a"), what = "a worker")
  expect_lte(nrow(server$status()), 2)
  expect_identical(unique(vapply(clients$wait(), `[[`, 1L, "status")), 200L)
  expect_error(server$scale(2, pool = "/b"), NA)
  expect_error(server$scale(3, pool = "/b"), "max_workers", class = "faucet_error_option")
  expect_error(
    faucet::run(dir, workers = 2, max_workers = 1, port = 0, block = FALSE, quiet = TRUE),
    "the pools have at least 2 workers",
    class = "faucet_error_option"
  )
})

test_that("a range of workers is checked, wherever it comes from", {
  range <- function(...) resolve_setting("workers", list(...))
  expect_identical(range(workers = c(1, 8)), c(1L, 8L))
  expect_identical(range(workers = c(0L, 8L)), c(0L, 8L))
  expect_identical(range(workers = c(3, 3)), 3L)
  expect_identical(range(workers = "2:5"), c(2L, 5L))
  for (bad in list(c(8, 1), c(0, 0), 0, 1:3, c(1, NA), c(1.5, 2), "1:x", c(-1, 2), list(1, "a"))) {
    expect_error(range(workers = bad), "two, the least and the most", class = "faucet_error_option")
  }
  withr::local_envvar(FAUCET_WORKERS = "1:8")
  expect_identical(range(), c(1L, 8L))
  withr::local_envvar(FAUCET_WORKERS = "0,2")
  expect_identical(range(), c(0L, 2L))
  withr::local_envvar(FAUCET_WORKERS = "4")
  expect_identical(range(), 4L)
  withr::local_envvar(FAUCET_WORKERS = "many")
  expect_error(range(), "FAUCET_WORKERS", class = "faucet_error_option")
})

test_that("with `preload`, requests wait less until there is another worker", {
  dir <- lone_app()
  grow_after <- function(...) resolve_pool("/", faucet::pool(dir, ...))$grow_after
  expect_identical(grow_after(), 1)
  expect_identical(grow_after(preload = TRUE), 0.1)
  expect_identical(grow_after(preload = TRUE, grow_after = 2), 2)
  withr::local_options(faucet.grow_after = 3)
  expect_identical(grow_after(preload = TRUE), 3)
})
