test_that("status, print, /status, /metrics and the access log agree", {
  log <- withr::local_tempfile()
  server <- local_server(local_app("basic"), workers = 2, admin_port = 0, access_log = "json", log_file = log)
  wait_for_workers(server, 2)
  paths <- c(rep("/hello", 7), "/nosuch", "/fail", "/nosuch")
  answers <- vapply(paths, function(path) request(server, path)$status, 1L)
  expect_identical(unname(answers), c(rep(200L, 7), 404L, 500L, 404L))

  entries <- wait_until({
    lines <- if (file.exists(log)) readLines(log, warn = FALSE)
    if (length(lines) == length(paths)) jsonlite::stream_in(textConnection(lines), verbose = FALSE)
  }, what = "all lines of the access log")
  status <- wait_for_workers(server, 2)
  page <- json(request(server$admin_url, "/status"))
  metrics <- read_metrics(server$admin_url)

  # Requests, in all.
  expect_identical(sum(status$requests), 10)
  expect_identical(as.numeric(sum(page$workers$requests)), 10)
  expect_identical(metric(metrics, "faucet_requests_total"), 10)
  expect_identical(metric(metrics, "faucet_request_duration_seconds_count"), 10)
  expect_identical(nrow(entries), 10L)

  # By status, and by worker.
  expect_identical(entries$path, paths)
  expect_identical(entries$status, unname(answers))
  for (code in c(200, 404, 500)) {
    expect_identical(metric(metrics, "faucet_requests_total", sprintf("status=\"%d\"", code)), sum(answers == code) * 1)
  }
  expect_identical(as.numeric(table(factor(entries$worker, status$worker))), status$requests)

  # The workers themselves.
  expect_identical(page$workers$worker, status$worker)
  expect_identical(page$workers$pid, status$pid)
  expect_identical(page$workers$state, status$state)
  expect_identical(page$workers$restarts, status$restarts)
  expect_identical(page$workers$worker_type, status$worker_type)
  expect_identical(page$workers$boot, status$boot)
  expect_identical(metric(metrics, "faucet_workers", "state=\"ready\""), 2)
  expect_identical(metric(metrics, "faucet_workers"), 2)

  printed <- capture.output(print(server))
  for (i in 1:2) {
    row <- strsplit(trimws(printed[[length(printed) - 2 + i]]), " +")[[1]]
    expected <- c(paste(i), paste(status$pid[i]), "ready", status$worker_type[i], "0", paste(status$requests[i]), "0")
    expect_identical(row[1:7], expected)
  }
})

test_that("errors that faucet makes are counted by their cause", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1, admin_port = 0, timeout = 1, worker_type = "http")
  wait_for_workers(server, 1)
  expect_identical(request(server, "/loop?id=1")$status, 504L)
  # For a moment there is a row for the process that goes, too.
  wait_until(identical(server$status()[c("state", "restarts")], data.frame(state = "ready", restarts = 1L)))
  metrics <- read_metrics(server$admin_url)
  expect_identical(metric(metrics, "faucet_requests_total", "cause=\"timeout\""), 1)
  expect_identical(metric(metrics, "faucet_restarts_total", "reason=\"timeout\""), 1)
})

test_that("health is answered while every worker is busy", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1)
  clients <- crowd()
  hold(clients, server, dir, "work")
  expect_identical(request(server, "/__faucet__/livez")$status, 200L)
  expect_identical(request(server, "/__faucet__/readyz")$status, 200L)
  expect_identical(server$status()$state, "busy")
  release(dir, "work")
  clients$wait()
})

test_that("the admin port is for this machine, unless other machines are let in", {
  # Which has 127.0.0.1 alone.
  skip_on_os("mac")
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1, admin_port = 0)
  expect_match(server$admin_url, "^http://127.0.0.1:[0-9]+$")
  server$stop()
  server <- local_server(dir, workers = 1, admin_port = 0, admin_host = "0.0.0.0")
  # As one reaches it from here.
  expect_match(server$admin_url, "^http://127.0.0.1:[0-9]+$")
  # Nobody who is bound to 127.0.0.1 alone listens there.
  expect_identical(request(sub("127.0.0.1", "127.0.0.2", server$admin_url, fixed = TRUE), "/status")$status, 200L)
  expect_error(
    faucet::run(dir, port = 0, admin_port = 0, admin_host = "203.0.113.1", block = FALSE),
    "Is `admin_host` an address of this machine?",
    fixed = TRUE, class = "faucet_error_listen"
  )
})

test_that("promtool has nothing to say about the metrics, and OpenMetrics is for those who ask for it", {
  skip_if(!nzchar(Sys.which("promtool")), "no promtool")
  server <- local_server(local_app("basic"), workers = 1, admin_port = 0)
  wait_for_workers(server, 1)
  expect_identical(request(server, "/hello")$status, 200L)
  expect_identical(request(server, "/nosuch")$status, 404L)
  page <- request(server$admin_url, "/metrics")
  expect_identical(page$headers[["content-type"]], "text/plain; version=0.0.4; charset=utf-8")
  file <- withr::local_tempfile()
  writeBin(page$body, file)
  checked <- processx::run("promtool", c("check", "metrics"), stdin = file, error_on_status = FALSE)
  expect_identical(paste0(checked$stdout, checked$stderr), "")
  expect_identical(checked$status, 0L)

  open <- request(server$admin_url, "/metrics", headers = list(Accept = "application/openmetrics-text; version=1.0.0"))
  expect_match(open$headers[["content-type"]], "^application/openmetrics-text; version=1.0.0")
  expect_match(open$text, "\n# EOF\n$")
  samples <- function(text) sort(grep("^[^#]", strsplit(text, "\n")[[1]], value = TRUE))
  expect_identical(samples(page$text), samples(open$text))
})

test_that("the admin port answers to its own names, and to those in admin_hosts", {
  ask <- function(server, host, path = "/status") {
    request(server$admin_url, path, headers = list(Host = host))
  }
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1, admin_port = 0)
  for (host in c("localhost", "localhost:9180", "127.0.0.1:1", "[::1]:9180")) {
    expect_identical(ask(server, host)$status, 200L, info = host)
  }
  for (path in c("/status", "/metrics", "/__faucet__/readyz", "/")) {
    refused <- ask(server, "rebound.example", path)
    expect_identical(refused$status, 421L)
    expect_match(json(refused)$error, "421 - Misdirected Request", fixed = TRUE)
  }
  server$stop()
  server <- local_server(dir, workers = 1, admin_port = 0, admin_hosts = c("metrics.example", "prometheus"))
  expect_identical(ask(server, "Metrics.Example:9180")$status, 200L)
  expect_identical(ask(server, "prometheus")$status, 200L)
  expect_identical(ask(server, "rebound.example")$status, 421L)
})
