# What `run_hub()` and `run_worker()` take. Nothing of this starts anything.

refused <- function(call, option) {
  error <- expect_error(call, class = "faucet_error_option")
  expect_identical(error$option, option)
  invisible(error)
}

test_that("hubs have one form", {
  of <- function(...) resolve_settings(list(hub = c(...)), "run_worker")$hub
  expect_identical(of("hub", "TLS.example.com:1"), c("hub:4040", "tls.example.com:1"))
  expect_identical(of("tls://hub", "tls://hub:4040"), "tls://hub:4040")
  expect_identical(of("[::1]", "127.0.0.1:4041"), c("[::1]:4040", "127.0.0.1:4041"))
  for (bad in list("http://hub", "hub:0", "", "a b", NA_character_, character(), 4040)) {
    refused(faucet::run_worker(bad), "hub")
  }
  withr::local_envvar(FAUCET_HUB = "a, tls://b:5")
  expect_identical(resolve_settings(list(), "run_worker")$hub, c("a:4040", "tls://b:5"))
})

test_that("a worker needs a hub, one app, and a route that is a path", {
  refused(faucet::run_worker(), "hub")
  refused(faucet::run_worker("hub", c("/a" = "api")), "dir")
  refused(faucet::run_worker("hub", "faucet.yml"), "dir")
  for (bad in list("model", "host/model", "/a//b", 1)) refused(faucet::run_worker("hub", route = bad), "route")
  for (bad in list("ftp://a", "worker:8081", "http://a/b")) refused(faucet::run_worker("hub", redirect = bad), "redirect")
  for (bad in list("", "two words", strrep("x", 65), "\u00fc")) refused(faucet::run_worker("hub", name = bad), "name")
  refused(faucet::run_worker("hub", ca = "nosuch.pem"), "ca")
  expect_error(faucet::run_worker("hub", tempfile()), class = "faucet_error_dir")
  expect_error(faucet::run_worker("hub", function(req) NULL), "run_worker(app = )", fixed = TRUE, class = "faucet_error_dir")
  shiny <- system.file("examples", "shiny", package = "faucet")
  expect_error(faucet::run_worker("hub", shiny), class = "faucet_error_unsupported")
})

test_that("errors of both verbs say what to do", {
  withr::local_envvar(FAUCET_TOKEN = NA)
  expect_snapshot_errors({
    faucet::run_hub(worker_host = "0.0.0.0")
    faucet::run_hub(worker_host = "0.0.0.0", token = "open-sesame")
    faucet::run_hub(worker_host = "unix:/run/hub.sock")
    faucet::run_hub(workers = 2)
    faucet::run_hub("api")
    faucet::run_worker()
    faucet::run_worker("https://hub")
    faucet::run_worker("hub", token = "open-sesame")
    faucet::run_worker("hub", worker_port = 1)
    faucet::run_worker("hub", sticky = TRUE)
    faucet::run(hub = "hub")
    faucet::run_k8s("http://api", token = "open-sesame")
  })
})

test_that("strangers are let in, and told a token, only if somebody says so", {
  checked <- function(...) check_hub_exposure(resolve_settings(list(...), "run_hub"))
  for (host in c("127.0.0.1", "localhost", "::1")) expect_silent(checked(worker_host = host, pothead_port = 1))
  for (host in c("0.0.0.0", "::", "10.0.0.1", "hub")) {
    refused(checked(worker_host = host), "token")
    refused(checked(worker_host = host, token = "x"), "tls")
    expect_silent(checked(worker_host = host, insecure = TRUE))
  }
  with_tls <- function(...) {
    settings <- resolve_settings(list(...), "run_hub")
    settings$tls <- list(cert = "cert.pem", key = "key.pem")
    check_hub_exposure(settings)
  }
  refused(with_tls(worker_host = "0.0.0.0"), "token")
  refused(with_tls(worker_host = "0.0.0.0", token = "x", pothead_port = 1), "pothead_port")
  expect_silent(with_tls(worker_host = "0.0.0.0", token = "x"))

  checked <- function(...) check_worker(resolve_settings(list(...), "run_worker"))
  expect_silent(checked(hub = "hub"))
  expect_silent(checked(hub = c("tls://hub", "127.0.0.1", "localhost:1"), token = "x"))
  refused(checked(hub = c("tls://hub", "hub"), token = "x"), "hub")
  expect_silent(checked(hub = "hub", token = "x", insecure = TRUE))
})

test_that("no error shows a token", {
  secret <- "open sesame"
  refuse <- function(call) {
    error <- expect_error(call, class = "faucet_error_option")
    shown <- c(
      capture.output(print(error)), conditionMessage(error), deparse(conditionCall(error)), capture.output(print(error$trace)),
      capture.output(str(unclass(error)[c("message", "option", "source", "value")]))
    )
    expect_no_match(shown, "sesame")
  }
  refuse(faucet::run_hub(token = "open sesame"))
  refuse(faucet::run_hub(worker_host = "0.0.0.0", token = "open-sesame"))
  refuse(faucet::run_worker("hub", token = "open-sesame"))
  refuse(faucet::run_worker("hub", token = "open-sesame", nonsense = 1))
  refuse(faucet::run_hub(token = c("open-sesame", "x")))
  withr::local_envvar(FAUCET_TOKEN = secret)
  error <- refuse(faucet::run_hub())
  withr::local_envvar(FAUCET_TOKEN = NA)
  withr::local_options(faucet.token = secret)
  refuse(faucet::run_hub())
})

test_that("settings come from the environment", {
  withr::local_envvar(
    FAUCET_WORKER_PORT = "0", FAUCET_WORKER_HOST = "::1", FAUCET_TOKEN = "x", FAUCET_FORGET_AFTER = "Inf",
    FAUCET_INSECURE = "true", FAUCET_POTHEAD_PORT = "4041", FAUCET_NAME = "box", FAUCET_ROUTE = "/model/", FAUCET_WORKERS = "1:8"
  )
  hub <- resolve_settings(list(), "run_hub")
  expect_identical(
    hub[c("worker_port", "worker_host", "token", "forget_after", "insecure", "pothead_port")],
    list(worker_port = 0L, worker_host = "::1", token = "x", forget_after = Inf, insecure = TRUE, pothead_port = 4041L)
  )
  worker <- resolve_settings(list(), "run_worker")
  expect_identical(worker[c("name", "route", "workers")], list(name = "box", route = "/model", workers = c(1L, 8L)))
})
