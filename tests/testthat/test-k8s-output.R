# What the user reads of a front of replicas: of made-up ones, so that there can be as many as it takes.

replicas <- function(n = 3, state = "ready") {
  list(
    pool = rep("/", n), worker = seq_len(n), pid = rep(NA_integer_, n),
    address = paste0("10.0.", seq_len(n) %/% 256, ".", seq_len(n) %% 256, ":8000"),
    state = rep(state, length.out = n), worker_type = rep("faucet", n), slots = rep(4L, n), in_flight = rep(1L, n),
    requests = seq_len(n) * 1e5, restarts = rep(0L, n), memory = rep(NA_real_, n), started = rep(1.7e9, n),
    boot = rep(NA_real_, n), queue = 7L
  )
}

front <- function(quiet = FALSE) {
  list(url = "http://127.0.0.1:8080", replicas = "http://api.default.svc:8000", quiet = quiet)
}

lookup <- function(state = "ok", message = NA_character_) {
  list(url = front()$replicas, state = state, message = message, since = .POSIXct(1.7e9), addresses = 3L)
}

lines <- function(status, ...) {
  withr::local_options(cli.num_colors = 1L)
  format_running(front(), status, lookup(...))
}

test_that("the table of replicas shows where they are, and nothing that only processes have", {
  shown <- lines(replicas(3))
  expect_length(shown, 5)
  expect_identical(shown[[1]], "3 replicas, 3 in flight, 7 waiting")
  expect_identical(
    strsplit(trimws(shown[[2]]), " +")[[1]],
    c("worker", "address", "state", "worker_type", "slots", "in_flight", "requests", "found")
  )
  expect_match(shown[[4]], "2 +10[.]0[.]0[.]2:8000 +ready +faucet +4 +1 +200000 +2023-11-1[45]")
})

test_that("of many replicas the first are shown, and how many more there are", {
  shown <- lines(replicas(1000))
  expect_length(shown, 1 + 1 + 20 + 1)
  expect_identical(shown[[1]], "1000 replicas, 1000 in flight, 7 waiting")
  expect_match(shown[[22]], "^ +20 +10[.]0[.]0[.]20:8000")
  expect_identical(shown[[23]], "and 980 more: see $status()")
  expect_length(lines(replicas(20)), 22)
  # Of workers that faucet runs itself all are.
  expect_length(format_running(list(), replicas(50), NULL), 52)
})

test_that("replicas that cannot be reached are counted", {
  expect_identical(lines(replicas(1))[[1]], "1 replica, 1 in flight, 7 waiting")
  shown <- lines(replicas(4, c("ready", "suspended")))
  expect_identical(shown[[1]], "4 replicas (2 suspended), 4 in flight, 7 waiting")
})

test_that("a lookup that went wrong is shown, with what it said as it is", {
  shown <- lines(replicas(1), "failed", "no answer from 10.0.0.10:53 {within} 5 s")
  expect_match(shown[[2]], "^lookup failed since 2023-11-1.*: no answer from 10.0.0.10:53 \\{within\\} 5 s$")
  shown <- lines(replicas(0), "pending")
  expect_length(shown, 2)
  expect_match(shown[[2]], "^lookup pending since [-0-9: ]+$")
})

# What is said for each poll, and at the end.
said <- function(link, ...) {
  messages <- character()
  withCallingHandlers(
    {
      announce <- announcer(link)
      for (poll in list(...)) announce(poll)
      announce(NULL)
    },
    message = function(message) {
      messages <<- c(messages, trimws(conditionMessage(message)))
      tryInvokeRestart("muffleMessage")
    }
  )
  messages
}

poll <- function(state, ready, total) list(state = state, ready = ready, total = total)

test_that("the start of a front of replicas is announced in their words", {
  looking <- "Looking for replicas of http://api.default.svc:8000"
  expect_identical(
    said(front(), poll("starting", 0, 0), poll("starting", 0, 2), poll("ready", 2, 2)),
    c(looking, "Ready on http://127.0.0.1:8080 with 2 replicas of http://api.default.svc:8000")
  )
  expect_identical(
    said(front(), poll("starting", 0, 0), poll("ready", 1, 1))[[2]],
    "Ready on http://127.0.0.1:8080 with 1 replica of http://api.default.svc:8000"
  )
  expect_identical(
    said(front(), poll("starting", 0, 0), poll("ready", 1, 3))[[2]],
    "Ready on http://127.0.0.1:8080 with 1 of 3 replicas of http://api.default.svc:8000"
  )
  expect_identical(said(front(), poll("starting", 0, 0), poll("failed", 0, 0)), looking)
  # Before the first poll, which shows the log.
  expect_identical(said(front()), looking)
  expect_identical(said(front(quiet = TRUE), poll("starting", 0, 0), poll("ready", 1, 1)), character())
})

test_that("agents and proxies have no workers to speak of when they are ready", {
  ready <- poll("ready", 0, 0)
  link <- list(url = "http://127.0.0.1:9000", workers = 0, quiet = FALSE, keeps_functions = TRUE)
  to <- ": faucet::deploy(..., to = \"http://127.0.0.1:9000\")"
  expect_identical(said(link, ready)[[2]], paste0("Ready on http://127.0.0.1:9000 for functions", to))
  link$agents <- c("a:9000", "b:9000")
  expect_identical(said(link, ready)[[2]], paste0("Ready on http://127.0.0.1:9000 for functions at 2 agents", to))
  link[c("worker_address", "worker_call")] <- c("127.0.0.1:4040", "faucet::run_agent(hub = \"127.0.0.1:4040\")")
  expect_identical(said(link, ready)[[3]], "Agents dial in at 127.0.0.1:4040: faucet::run_agent(hub = \"127.0.0.1:4040\")")
})

test_that("the start of workers is announced as before", {
  link <- list(url = "http://127.0.0.1:8080", workers = 4L, quiet = FALSE)
  expect_identical(
    said(link, poll("starting", 0, 4), poll("ready", 1, 4)),
    c("Starting 4 workers", "Ready on http://127.0.0.1:8080 with 1 of 4 workers")
  )
  link$workers <- 1L
  expect_identical(
    said(link, poll("starting", 0, 1), poll("ready", 1, 1)),
    c("Starting 1 worker", "Ready on http://127.0.0.1:8080 with 1 worker")
  )
})
