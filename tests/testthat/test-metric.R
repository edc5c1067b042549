skip_on_os("windows")

# What the app's code counts, on the server's page of metrics.

counted <- function(server, name = "test_orders_total", label = "") {
  metric(read_metrics(server$admin_url), name, label)
}

count <- function(server, label = "", by = 1) {
  json(request(server, paste0("/count?by=", by, "&label=", curl::curl_escape(label))))$pid
}

test_that("what all workers count is one sum, under load, and when they are killed, recycled and replaced", {
  skip_on_cran()
  kinds <- list(
    list(worker_type = "native"), list(worker_type = "http"),
    if (.Platform$OS.type == "unix" && Sys.info()[["sysname"]] == "Linux") list(worker_type = "native", preload = TRUE)
  )
  for (kind in Filter(Negate(is.null), kinds)) {
    server <- do.call(local_server, c(list(local_app("metric"), workers = 2, admin_port = 0), kind))
    wait_for_workers(server, 2)
    load <- local_load(server, "/count?ms=1&label=load")
    load$wait_for(50)
    # One after the other, so that one serves at any time.
    pids <- server$status()$pid
    server$reload()
    answers <- load$stop()
    expect_true(all(answers$status == 200))
    n <- nrow(answers)
    expect_gt(n, 50)
    wait_until_gone(pids)
    wait_for_workers(server, 2)
    expect_identical(counted(server, label = "label=\"load\""), n * 1)
    expect_identical(counted(server, "test_seconds_count"), n * 1)
    expect_identical(counted(server, "test_seconds_bucket", "le=\"0.1\""), 0)
    expect_identical(counted(server, "test_seconds_bucket", "le=\"+Inf\""), n * 1)
    expect_identical(counted(server, "test_seconds_sum"), n / 2)

    # Killed, by the signal that nothing can answer.
    killed <- count(server, "before")
    tools::pskill(killed, tools::SIGKILL)
    wait_until(!killed %in% server$status()$pid)
    expect_identical(counted(server, label = "label=\"before\""), 1)
    expect_identical(counted(server, "test_seconds_count"), n + 1)
    wait_for_workers(server, 2)
    # A gauge is that of those who live.
    living <- server$status()$pid
    wait_until({
      count(server, "after")
      counted(server, "test_waiting") == 2
    })
    for (pid in living) tools::pskill(pid, tools::SIGKILL)
    wait_until(!any(living %in% server$status()$pid))
    wait_for_workers(server, 2)
    expect_identical(counted(server, "test_waiting"), 0)
    # In a template it is loaded once, and counts for nobody; else by each of 2 + 2 + 3 workers.
    loads <- if (isTRUE(kind$preload)) 0 else 7
    expect_identical(counted(server, label = "label=\"loaded\""), loads)
    server$stop()
  }
})

test_that("recycled workers have counted, too", {
  skip_on_cran()
  server <- local_server(local_app("metric"), workers = 1, admin_port = 0, max_requests = 3)
  pids <- integer()
  wait_until({
    pids <<- c(pids, count(server, "x"))
    length(unique(pids)) == 3
  })
  expect_identical(counted(server, label = "label=\"x\""), length(pids) * 1)
})

test_that("labels may hold any text, and the page is valid in both forms", {
  skip_on_cran()
  server <- local_server(local_app("metric"), workers = 1, admin_port = 0)
  for (label in c("a \"b\" \\ c\nd", "größe 日本", "\033[31mred\r", "{}, =", strrep("x", 1000))) count(server, label)
  page <- request(server$admin_url, "/metrics")
  text <- page$text
  Encoding(text) <- "UTF-8"
  lines <- strsplit(text, "\n")[[1]]
  sample <- function(label) paste0("test_orders_total{pool=\"/\",label=\"", label, "\"} 1")
  expect_true(sample("a \\\"b\\\" \\\\ c\\nd") %in% lines)
  expect_true(sample("größe 日本") %in% lines)
  expect_true(sample("red\\\\r") %in% lines)
  expect_true(sample("{}, =") %in% lines)
  expect_true(sample(strrep("x", 200)) %in% lines)
  expect_true("# HELP test_orders_total Orders, \"all\" of them.\\nOf each \\\\ kind." %in% lines)
  expect_true("# TYPE test_orders_total counter" %in% lines)
  expect_true("# TYPE test_waiting gauge" %in% lines)
  open <- request(server$admin_url, "/metrics", headers = list(Accept = "application/openmetrics-text; version=1.0.0"))
  expect_match(open$text, "\n# TYPE test_orders counter\n", fixed = TRUE)
  expect_match(open$text, "\n# HELP test_orders Orders, \\\"all\\\" of them.\\nOf each", fixed = TRUE)
  expect_match(open$text, "[^\n]\n# EOF\n$")
  expect_length(gregexpr("# EOF", open$text, fixed = TRUE)[[1]], 1)
  samples <- function(text) sort(grep("^[^#]", strsplit(text, "\n")[[1]], value = TRUE))
  expect_identical(samples(page$text), samples(open$text))
  skip_if(!nzchar(Sys.which("promtool")), "no promtool")
  file <- withr::local_tempfile()
  writeBin(page$body, file)
  checked <- processx::run("promtool", c("check", "metrics"), stdin = file, error_on_status = FALSE)
  expect_identical(paste0(checked$stdout, checked$stderr), "test_waiting no help text\n")
})

test_that("neither a child of a worker nor too many series count for it", {
  skip_on_cran()
  server <- local_server(local_app("metric"), workers = 1, admin_port = 0, worker_type = "http", quiet = FALSE)
  expect_identical(json(request(server, "/fork"))$counted, 100L)
  expect_identical(counted(server), 1)
  seen <- messages_until(server, {
    if (length(seen) == 0) request(server, "/many")
    any(grepl("counts no further ones", seen))
  })
  request(server, "/many")
  # The first is the one of the loading.
  expect_identical(counted(server), 1 + 2 * 999)
  expect_identical(counted(server, "faucet_metric_updates_dropped_total"), 2 * 101)
  expect_identical(count(server, "loaded"), server$status()$pid)
  expect_identical(counted(server, label = "label=\"loaded\""), 2)
})

test_that("what a worker puts in the place of its file costs nobody the page", {
  skip_on_cran()
  spoil <- list(
    function(file) processx::run("mkfifo", file),
    function(file) file.symlink("/dev/zero", file),
    function(file) writeBin(as.raw(sample(0:255, 1e5, replace = TRUE)), file),
    function(file) file.create(file),
    function(file) dir.create(file)
  )
  n <- length(spoil)
  server <- local_server(local_app("metric"), workers = n + 1, admin_port = 0)
  wait_for_workers(server, n + 1)
  # As many requests at once go to as many workers.
  files <- wait_until({
    clients <- crowd()
    for (i in seq_len(n + 1)) clients$add(server, paste0("/file?ms=300&", i))
    files <- unique(vapply(clients$wait(), function(answer) json(answer)$file, ""))
    if (length(files) == n + 1) files
  })
  # Nobody has looked yet, or they would be open already.
  for (i in seq_len(n)) {
    unlink(files[[i]])
    spoil[[i]](files[[i]])
  }
  expect_identical(request(server$admin_url, "/metrics")$status, 200L)
  expect_identical(counted(server), 1)
  # The last one is open.
  writeBin(as.raw(rep(255, 4096)), files[[n + 1]])
  expect_identical(counted(server), 0)
  expect_gt(counted(server, "faucet_requests_total", "status=\"200\""), n)
  pids <- server$status()$pid
  for (pid in pids) tools::pskill(pid, tools::SIGKILL)
  wait_until(!any(pids %in% server$status()$pid))
  wait_for_workers(server, n + 1)
  expect_identical(counted(server), n + 1)
})

test_that("pools are told apart, and an app that is an object counts with metrics of the session", {
  skip_on_cran()
  hits <- metric_counter("test_hits")
  hits$inc()
  app <- function(req) {
    hits$inc()
    list(status = 200L, headers = list("Content-Type" = "text/plain"), body = "counted")
  }
  server <- local_server(
    list("/a" = faucet::pool(app = app, workers = 1), "/b" = faucet::pool(app = app, workers = 1)),
    workers = NULL, admin_port = 0
  )
  for (path in c("/a", "/b", "/b")) expect_identical(request(server, path)$text, "counted")
  expect_identical(counted(server, "test_hits_total", "pool=\"/a\""), 1)
  expect_identical(counted(server, "test_hits_total", "pool=\"/b\""), 2)
  server$remove_pool("/b")
  expect_identical(counted(server, "test_hits_total", "pool=\"/b\""), 2)
})

test_that("Shiny apps count", {
  skip_on_cran()
  skip_if_not_installed("shiny")
  dir <- local_code("app.R" = c(
    "loads <- faucet::metric_counter(\"test_loads\")", "loads$inc(type = \"shiny\")",
    "shiny::shinyApp(shiny::fluidPage(), function(input, output) NULL)"
  ))
  server <- local_server(dir, workers = 2, admin_port = 0)
  wait_for_workers(server, 2)
  expect_identical(counted(server, "test_loads_total", "type=\"shiny\""), 2)
})

test_that("outside of workers metrics count in memory", {
  orders <- metric_counter("test_memory_total", "Orders.")
  expect_identical(metric_counter("test_memory"), orders)
  expect_invisible(orders$inc())
  orders$inc(2, country = "de")
  orders$inc(c(country = "de"))
  orders$inc(country = NULL)
  orders$inc(country = NA, by = 0.5)
  orders$inc(b = "x")
  orders$inc(c(by = "y"), size = factor("big"), n = 3, yes = TRUE)
  expect_identical(orders$value(), 2.5)
  expect_identical(orders$value(country = "de"), 3)
  expect_identical(orders$value(country = "fr"), 0)
  expect_identical(orders$value(yes = TRUE, n = 3, size = "big", c(by = "y")), 1)
  latin1 <- "gr\xfc\xdfe"
  Encoding(latin1) <- "latin1"
  encoded <- metric_counter("test_memory_encoded")
  encoded$inc(size = latin1)
  expect_identical(encoded$value(size = "gr\u00fc\u00dfe"), 1)
  encoded$inc(size = "bad \xff")
  expect_identical(encoded$value(size = "bad <ff>"), 1)

  waiting <- metric_gauge("test_memory_waiting")
  waiting$set(5)
  waiting$dec()
  waiting$inc(by = 3)
  waiting$set(-2, v = "x")
  expect_identical(waiting$value(), 7)
  expect_identical(waiting$value(v = "x"), -2)

  seconds <- metric_histogram("test_memory_seconds", buckets = c(1, 2))
  for (value in c(0.5, 1, 1.5, 7)) seconds$observe(value)
  expect_identical(seconds$value(), list(count = 4, sum = 10))
  expect_identical(seconds$value(a = "b"), list(count = 0, sum = 0))
  expect_snapshot({
    orders
    waiting
    seconds
    metric_counter("test_memory_nothing")
  })
})

test_that("what is no metric, no label and no number is an error with a class", {
  orders <- metric_counter("test_wrong")
  waiting <- metric_gauge("test_wrong_waiting")
  seconds <- metric_histogram("test_wrong_seconds")
  expect_snapshot_errors({
    metric_gauge("test_wrong")
    metric_histogram("test_wrong_seconds", buckets = 1)
    metric_counter(1)
    metric_counter("a b")
    metric_counter("faucet_orders")
    metric_gauge("orders_sum")
    metric_counter("a", help = NULL)
    metric_histogram("a", buckets = 2:1)
    metric_histogram("a", buckets = "1")
    orders$inc(by = -1)
    orders$inc("de")
    orders$inc(country = c("de", "fr"))
    orders$inc(pool = "x")
    orders$inc(`a b` = "x")
    orders$inc(Inf)
    waiting$set("x")
    waiting$set()
    seconds$observe(NA)
  })
  expect_error(metric_gauge("test_wrong"), class = "faucet_error_metric")
  error <- expect_error(orders$inc(by = "x"), class = "faucet_error_option")
  expect_identical(error$option, "by")
  expect_error(orders$inc(a = list()), NA)
  expect_error(orders$inc(a = list(1)), class = "faucet_error_option")
})
