skip_on_cran()

test_that("the handle of run_k8s() tells of its pods", {
  dns <- local_dns()
  pods <- local_pods(2, local_app("pod"))
  server <- local_api(dns, pods, admin_port = 0)
  expect_s3_class(server, "faucet_server")
  for (i in 1:4) expect_identical(request(server, "/pid")$status, 200L)
  expect_identical(request(server, "/nosuch")$status, 404L)

  status <- wait_for_pods(server, pods)
  expect_true(all(c("address", "slots") %in% names(status)))
  expect_identical(class(status), "data.frame")
  expect_type(status$address, "character")
  expect_type(status$slots, "integer")
  expect_type(status$worker, "integer")
  expect_identical(anyDuplicated(status$worker), 0L)
  # Processes elsewhere.
  expect_identical(status$pid, c(NA_integer_, NA_integer_))
  expect_identical(status$memory, c(NA_real_, NA_real_))
  expect_identical(status$in_flight, c(0L, 0L))
  expect_identical(sum(status$requests), 5)
  expect_s3_class(status$started, "POSIXct")

  lookup <- server$lookup()
  expect_named(lookup, c("url", "state", "message", "since", "addresses"))
  expect_identical(lookup$addresses, 2L)

  page <- json(request(server$admin_url, "/status"))
  expect_identical(page$workers$address, status$address)
  expect_identical(page$workers$slots, status$slots)
  expect_identical(page$workers$state, status$state)
  expect_identical(as.numeric(page$workers$requests), status$requests)
  expect_identical(page$pools$lookup$state, "ok")
  expect_identical(page$pools$lookup$addresses, 2L)
  metrics <- read_metrics(server$admin_url)
  expect_identical(metric(metrics, "faucet_requests_total"), 5)
  expect_identical(metric(metrics, "faucet_workers", "state=\"ready\""), 2)
  expect_gte(metric(metrics, "faucet_lookups_total", "outcome=\"ok\""), 1)

  printed <- cli::ansi_strip(utils::capture.output(print(server)))
  expect_match(printed, server$url, fixed = TRUE, all = FALSE)
  expect_match(printed, lookup$url, fixed = TRUE, all = FALSE)
  for (address in status$address) expect_match(printed, address, fixed = TRUE, all = FALSE)

  server$stop()
  expect_false(server$is_running())
  expect_match(utils::capture.output(print(server)), "stopped", all = FALSE)
  for (pod in pods) expect_identical(request(pod$url(), "/pid")$status, 200L)
})

test_that("run() looks up no names", {
  server <- local_server(local_app("basic"), workers = 1)
  expect_null(server$lookup())
  expect_identical(server$status()$slots, 1L)
})

test_that("options and the environment reach run_k8s()", {
  dns <- local_dns()
  pods <- local_pods(1, local_app("pod"))
  dns$set("api.test", addresses_of(pods))
  withr::local_envvar(FAUCET_SLOTS = "3", FAUCET_DNS = dns$address, FAUCET_REFRESH = "0.2", FAUCET_READY_PATH = "/health")
  withr::local_options(faucet.slots = 2, faucet.admin_host = "127.0.0.2", faucet.admin_port = 0)
  server <- faucet::run_k8s(
    paste0("http://api.test:", pods[[1]]$port),
    host = "127.0.0.1", port = 0, block = FALSE, quiet = TRUE, access_log = "none"
  )
  withr::defer(server$stop(timeout = 1))
  expect_identical(server$status()$slots, 2L)
  expect_match(server$admin_url, "^http://127.0.0.2:")
  expect_identical(request(server$admin_url, "/status")$status, 200L)
})

test_that("drain() takes nothing new, and finishes what it has", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(1, dir)
  server <- local_api(dns, pods)
  clients <- crowd()
  for (i in 1:3) clients$add(server, paste0("/work?ms=100&id=", i), key = paste(i))
  wait_until(clients$step() && nrow(begun(dir)) == 1)
  server$drain()
  answers <- clients$wait()
  expect_identical(unique(vapply(answers, `[[`, 1L, "status")), 200L)
  after <- tryCatch(request(server, "/work?id=after")$status, error = function(e) 0L)
  expect_true(after %in% c(0L, 503L))
  expect_false("after" %in% begun(dir)$id)
})
