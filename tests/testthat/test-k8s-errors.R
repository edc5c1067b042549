run_k8s_now <- function(url, ...) {
  faucet::run_k8s(url, host = "127.0.0.1", port = 0, block = FALSE, quiet = TRUE, access_log = "none", ...)
}

test_that("a url must name replicas by http", {
  for (url in list(
    "", "api", "https://api", "ftp://api:8000", "http://", "http://api:99999", "http://api:0", "http://api/v1",
    "http://user@api", "http://api?x=1", "srv+http://_http._tcp.api:8000", NA, 8000, c("http://a", "http://b"), NULL
  )) {
    error <- expect_error(run_k8s_now(url), class = "faucet_error_option", info = url)
    expect_identical(error$option, "url", info = url)
  }
})

test_that("Kubernetes runs the workers: settings of theirs are none of run_k8s()", {
  for (option in c(
    "workers", "max_requests", "max_memory", "max_failures", "give_up_after", "interrupt_timeout", "worker_type", "preload"
  )) {
    value <- rlang::list2(!!option := 1)
    error <- expect_error(
      rlang::exec(run_k8s_now, "http://localhost:8000", !!!value),
      class = "faucet_error_option", info = option
    )
    expect_identical(error$option, option)
    expect_match(conditionMessage(error), "Kubernetes", info = option)
  }
})

test_that("other settings are checked as those of run() are", {
  for (given in list(
    list(slots = 0), list(slots = "many"), list(refresh = 0), list(refresh = -1), list(refresh = "soon"),
    list(ready_path = "health"), list(ready_path = 1), list(dns = "nobody"), list(dns = "127.0.0.1:99999"), list(dns = 53),
    list(queue = -1), list(nosuch = 1)
  )) {
    error <- expect_error(
      rlang::exec(run_k8s_now, "http://localhost:8000", !!!given),
      class = "faucet_error_option", info = given
    )
    expect_identical(error$option, names(given))
  }
})

test_that("a port that somebody has is an error of its own", {
  skip_on_cran()
  server <- local_k8s(local_pod(local_app("pod"))$url())
  expect_error(
    faucet::run_k8s("http://localhost:8000", host = "127.0.0.1", port = as.integer(sub("^.*:", "", server$url))),
    class = "faucet_error_port_in_use"
  )
})

boot_error <- function(...) {
  error <- expect_error(run_k8s_now(..., refresh = 0.2, boot_timeout = 1), class = "faucet_error_boot")
  conditionMessage(error)
}

test_that("a start without any pod says what was seen", {
  skip_on_cran()
  dns <- local_dns()
  port <- free_port()
  expect_match(boot_error(paste0("http://nosuch.test:", port), dns = dns$address), "nosuch.test", fixed = TRUE)

  dns$empty("empty.test")
  expect_match(boot_error(paste0("http://empty.test:", port), dns = dns$address), "empty.test", fixed = TRUE)

  dns$set("api.test", pod_addresses(3))
  message <- boot_error(paste0("http://api.test:", port), dns = dns$address)
  expect_match(message, "refused")
  expect_match(message, "3")

  message <- boot_error(paste0("http://localhost:", port))
  expect_match(message, "refused")

  dns$stop()
  expect_match(boot_error(paste0("http://api.test:", port), dns = dns$address), dns$address, fixed = TRUE)
})

test_that("a start says so when all pods are there but none is ready", {
  skip_on_cran()
  pod <- local_pod(local_app("pod"))
  message <- boot_error(pod$url(), ready_path = "/nosuch")
  expect_match(message, "/nosuch", fixed = TRUE)
  expect_match(message, "404", fixed = TRUE)
})

test_that("a start waits for the first pod, for DNS and for the name", {
  skip_on_cran()
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(1, dir, start = FALSE)
  dns$stop()
  url <- paste0("http://api.test:", pods[[1]]$port)
  front <- local_rscript(paste(deparse(rlang::expr(
    faucet::run_k8s(!!url, host = "127.0.0.1", port = 0L, dns = !!dns$address, refresh = 0.2, access_log = "none")
  )), collapse = "\n"))
  # Long enough to have asked in vain.
  wait_until(any(grepl("api.test", front$stderr(), fixed = TRUE)))
  dns$start()
  dns$set("api.test", addresses_of(pods))
  start_pods(pods)
  front <- wait_until_ready(front)
  expect_identical(request(front$url, "/pid")$status, 200L)
})

test_that("the number of pods is not the front's to change", {
  skip_on_cran()
  server <- local_k8s(local_pod(local_app("pod"))$url())
  error <- expect_error(server$scale(2), class = "faucet_error_unsupported")
  expect_s3_class(error, "faucet_error")
  expect_match(conditionMessage(error), "kubectl scale", fixed = TRUE)
  expect_identical(nrow(server$status()), 1L)
})
