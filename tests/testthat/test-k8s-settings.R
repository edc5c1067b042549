resolve <- function(...) resolve_settings(list(...), "run_k8s")

# Nothing of what is given here is right: a server that started all the same would be noticed by its error class.
refused <- function(...) expect_error(faucet::run_k8s(..., port = 0, boot_timeout = 0.1), class = "faucet_error_option")

test_that("a URL is a name or an address, with a port at most", {
  urls <- c(
    "http://api", "http://api.default.svc:8000", "http://api.default.svc.cluster.local.:8000", "http://localhost:8000",
    "http://10.0.0.7:8000", "http://[::1]:8000", "srv+http://_http._tcp.api.default.svc"
  )
  for (url in urls) {
    expect_identical(check_url(url), url)
    expect_identical(check_url(paste0(url, "/")), url)
  }
})

test_that("what is no URL of replicas is an error that says what is", {
  bad <- list(
    "", "api", "api:8000", "https://api", "ftp://api", "http://", "http://api/v1", "http://api?a=1", "http://me@api",
    "http://api:0", "http://api:99999", "http://api:http", "http://a b", "http://[::1", "http://[::g]:80", "http://1.2.3",
    "srv+http://_http._tcp.api:80", "srv+http://", "http://{api}", "http://%s%n", NA_character_, NULL, 8000,
    c("http://a", "http://b"), list("http://a")
  )
  for (url in bad) {
    error <- refused(url)
    expect_identical(error$option, "url", info = deparse(url))
    expect_match(conditionMessage(error), "`url` must say where the replicas are", fixed = TRUE, info = deparse(url))
  }
  error <- expect_error(faucet::run_k8s(), class = "faucet_error_option")
  expect_identical(error$option, "url")
})

test_that("an error of the URL says what is wrong with it, and what to do", {
  withr::local_dir(withr::local_tempdir())
  dir.create("api")
  expect_snapshot_errors({
    run_k8s()
    run_k8s(8000)
    run_k8s("api:8000")
    run_k8s("https://api:8000")
    run_k8s("http://api/v1")
    run_k8s("http://api:http")
    run_k8s("api")
  })
})

test_that("an unknown setting is an error that names the verb", {
  error <- refused("http://api", ready_paht = "/health")
  expect_identical(error$option, "ready_paht")
  expect_snapshot_errors({
    run_k8s("http://api", ready_paht = "/health")
    run_k8s("http://api", nonsense_that_is_far_off = 3)
    run_k8s("http://api", "0.0.0.0", 80, 1, 5, TRUE, 3)
  })
})

test_that("a setting of the other verb is an error that says what to do instead", {
  dir <- local_app("basic")
  expect_snapshot_errors({
    run_k8s("http://api", workers = 4)
    run_k8s("http://api", max_memory = "1GB")
    run_k8s("http://api", preload = TRUE)
    run_k8s("http://api", max_failures = 1)
    run_k8s("http://api", app = identity)
    run(dir, slots = 2)
    run(dir, refresh = 2)
    run(dir, url = "http://api")
    run("http://api:8000")
  })
  local <- setdiff(names(settings_of("run")), names(settings_of("run_k8s")))
  for (name in local) {
    error <- do.call(refused, rlang::list2("http://api", !!name := 1))
    expect_identical(error$option, name)
  }
})

test_that("settings of the other verb do no harm in the environment", {
  withr::local_envvar(FAUCET_WORKERS = "4", FAUCET_WORKER_TYPE = "nonsense")
  withr::local_options(faucet.preload = TRUE)
  expect_false(any(c("workers", "worker_type", "compile", "preload") %in% names(resolve())))
})

test_that("settings come from the environment, next to what Kubernetes puts there", {
  withr::local_envvar(
    FAUCET_SLOTS = "2", FAUCET_REFRESH = "1.5", FAUCET_READY_PATH = "/health", FAUCET_DNS = "10.0.0.10",
    FAUCET_ADMIN_HOST = "0.0.0.0", FAUCET_PORT = "tcp://10.96.0.7:8080", PORT = NA
  )
  settings <- resolve()
  expect_identical(settings$slots, 2L)
  expect_identical(settings$refresh, 1.5)
  expect_identical(settings$ready_path, "/health")
  expect_identical(settings$dns, "10.0.0.10:53")
  expect_identical(settings$admin_host, "0.0.0.0")
  expect_identical(settings$port, 8080L)
})

test_that("a DNS server is an address with or without a port", {
  dns <- function(value) resolve(dns = value)$dns
  expect_null(dns(NULL))
  expect_identical(dns("127.0.0.1"), "127.0.0.1:53")
  expect_identical(dns("127.0.0.1:5353"), "127.0.0.1:5353")
  expect_identical(dns("::1"), "[::1]:53")
  expect_identical(dns("[::1]"), "[::1]:53")
  expect_identical(dns("[fd00::10]:5353"), "[fd00::10]:5353")
  bad <- list(
    "", "localhost", "dns:53", "1.2.3", "256.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:x", ":53", "[::1", "::g",
    NA, 53, c("10.0.0.1", "10.0.0.2")
  )
  for (value in bad) {
    error <- expect_error(dns(value), class = "faucet_error_option", info = deparse(value))
    expect_identical(error$option, "dns")
  }
  expect_error(dns("localhost"), "\"10.0.0.10\" or \"127.0.0.1:5353\" or NULL, not \"localhost\"", fixed = TRUE)
})

test_that("a time between lookups is NULL or seconds", {
  expect_identical(resolve(refresh = 2L)$refresh, 2)
  for (value in list(0, -1, NA_real_, Inf, "5", TRUE)) {
    expect_error(resolve(refresh = value), class = "faucet_error_option", info = deparse(value))
  }
})

test_that("a path to check begins with a slash", {
  expect_identical(resolve(ready_path = "/health?deep=1")$ready_path, "/health?deep=1")
  for (value in list("", "health", "http://api/health", "/a b", "/a#b", "/caf\u00e9", "/a\r\nHost: b", NA, 1, c("/a", "/b"))) {
    expect_error(resolve(ready_path = value), class = "faucet_error_option", info = deparse(value))
  }
})

test_that("a replica takes a whole number of requests", {
  expect_identical(resolve(slots = 4)$slots, 4L)
  expect_identical(resolve(slots = "2")$slots, 2L)
  for (value in list(0, 1.5, NA, Inf, "two", NULL, 1e6)) {
    expect_error(resolve(slots = value), class = "faucet_error_option", info = deparse(value))
  }
})

test_that("an argument that is NULL is left to options, environment and default", {
  given <- given_settings(list(host = NULL, slots = 3), list(admin_port = NULL))
  expect_identical(given, list(slots = 3, admin_port = NULL))
})
