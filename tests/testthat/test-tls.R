skip_on_os("windows")

test_that("a server with TLS is reached by https, also by HTTP/2, and says so", {
  dir <- local_certificates()
  started <- from_start_until(
    local_server(local_app("basic"), workers = 1, tls = tls_of(dir), quiet = FALSE), "Ready on"
  )
  server <- started$server
  expect_match(server$url, "^https://127.0.0.1:[0-9]+$")
  expect_match(started$lines, paste0("Ready on ", server$url), fixed = TRUE, all = FALSE)
  ca <- file.path(dir, "ca.pem")
  expect_identical(request(server, "/pid", cainfo = ca)$status, 200L)
  expect_error(request(server, "/pid"), "certificate")
  for (version in c("--http1.1", "--http2")) {
    shown <- processx::run(
      "curl",
      c("-s", version, "--cacert", ca, "-o", "/dev/null", "-w", "%{http_version} %{http_code}", paste0(server$url, "/pid"))
    )
    expect_identical(shown$stdout, if (version == "--http2") "2 200" else "1.1 200")
  }
  # Without TLS.
  plain <- request(sub("^https", "http", server$url), "/pid")
  expect_identical(plain$status, 400L)
  expect_identical(plain$headers[["faucet-error"]], "bad_request")
  expect_match(plain$text, "https://", fixed = TRUE)
})

test_that("apps see https", {
  dir <- local_certificates()
  ca <- file.path(dir, "ca.pem")
  for (kind in kinds) {
    server <- local_server(local_app("eval"), workers = 1, worker_type = kind, tls = tls_of(dir))
    seen <- rook_value(server, mget(c("HTTP_X_FORWARDED_PROTO", "rook.url_scheme", "SERVER_NAME"), req), cainfo = ca)
    expect_identical(seen$HTTP_X_FORWARDED_PROTO, "https")
    # httpuv knows no other.
    expect_identical(seen$rook.url_scheme, if (kind == "native") "https" else "http")
    expect_identical(seen$SERVER_NAME, "127.0.0.1")
  }
})

test_that("the cookie of a session is for TLS alone", {
  dir <- local_certificates()
  server <- local_server(local_app("state"), workers = 1, sticky = TRUE, tls = tls_of(dir))
  response <- request(server, "/count", cainfo = file.path(dir, "ca.pem"))
  expect_match(response$headers[["set-cookie"]], "; Secure$")
})

test_that("curl gets server-sent events by HTTP/2 as they are written", {
  skip_if_not(nzchar(Sys.which("curl")), "curl is not installed")
  dir <- local_certificates()
  app <- local_app("stream")
  server <- local_server(app, workers = 1, worker_type = "native", tls = tls_of(dir))
  heard <- withr::local_tempfile()
  curl <- processx::process$new(
    "curl", c("-sN", "--http2", "--cacert", file.path(dir, "ca.pem"), paste0(server$url, "/events?id=1")),
    stdout = heard
  )
  withr::defer(curl$kill())
  text <- function() paste(readLines(heard, warn = FALSE), collapse = "\n")
  wait_until(file.exists(heard) && grepl("data: first", text(), fixed = TRUE), what = "the first event")
  expect_no_match(text(), "second", fixed = TRUE)
  expect_identical(server$status()$state, "busy")
  file.create(file.path(app, "seen-1"))
  wait_until(!curl$is_alive(), what = "the stream's end")
  expect_identical(curl$get_exit_status(), 0L)
  expect_match(text(), "data: second\ndata: of two lines", fixed = TRUE)
})

test_that("R is interrupted when a client leaves", {
  dir <- local_certificates()
  app <- local_app("cancel")
  server <- local_server(app, workers = 1, worker_type = "native", tls = tls_of(dir))
  for (version in c("--http1.1", "--http2")) {
    id <- paste0("1", version)
    path <- paste0("/work?id=", id, "&kind=sleep&ms=60000")
    curl <- processx::process$new(
      "curl", c("-s", version, "--cacert", file.path(dir, "ca.pem"), paste0(server$url, path))
    )
    withr::defer(curl$kill())
    wait_until(file.exists(file.path(app, paste0("begun-", id))), what = "the request to begin")
    curl$kill()
    wait_until(file.exists(file.path(app, paste0("broken-", id))), what = "the interrupt")
  }
  wait_for_workers(server)
  expect_identical(server$status()$restarts, 0L)
})

test_that("a body of some MB passes both ways", {
  dir <- local_certificates()
  server <- local_server(local_app("echo"), workers = 1, tls = tls_of(dir))
  body <- as.raw(sample(0:255, 5e6, replace = TRUE))
  response <- request(server, "/body", "POST", body, type = "application/octet-stream", cainfo = file.path(dir, "ca.pem"))
  expect_identical(response$status, 200L)
  expect_identical(response$body, body)
})

test_that("clients need a certificate if there is a client_ca", {
  dir <- local_certificates()
  server <- local_server(local_app("basic"), workers = 1, tls = tls_of(dir, client_ca = file.path(dir, "ca.pem")))
  sign_certificate(dir, "me", files = c("me.pem", "me.key"))
  ask <- function(...) {
    processx::run("curl", c("-s", "--cacert", "ca.pem", ..., "-w", "%{http_code}", "-o", "/dev/null", paste0(server$url, "/pid")),
      wd = dir, error_on_status = FALSE
    )
  }
  expect_identical(ask("--cert", "me.pem", "--key", "me.key")$stdout, "200")
  expect_false(ask()$status == 0)
})

test_that("a reload reads the certificate again, and one that cannot be used changes nothing", {
  dir <- local_certificates()
  server <- local_server(local_app("basic"), workers = 1, tls = tls_of(dir), quiet = FALSE)
  before <- serial_of(server)
  expect_match(before, "^serial=")
  sign_certificate(dir)
  expect_identical(serial_of(server), before)
  expect_match(messages_of(server$reload()), "the certificate was read again", all = FALSE)
  after <- serial_of(server)
  expect_false(after == before)

  writeLines("no key", file.path(dir, "key.pem"))
  pids <- server$status()$pid
  suppressMessages(error <- expect_error(server$reload(), class = "faucet_error_reload"))
  expect_match(conditionMessage(error), "`tls$key` cannot be used", fixed = TRUE)
  expect_match(conditionMessage(error), "stays in use", fixed = TRUE)
  expect_identical(serial_of(server), after)
  # The workers are new all the same. Those of before, of either reload, may still be ending.
  wait_until(!any(pids %in% server$status()$pid), what = "the old workers' end")
  expect_identical(nrow(server$status()), 1L)
})

test_that("a HUP signal reads the certificate again", {
  dir <- local_certificates()
  front <- local_front(local_app("basic"), workers = 1L, tls = tls_of(dir))
  before <- serial_of(front$url)
  sign_certificate(dir)
  front$process$signal(sig[["hup"]])
  wait_until(!identical(serial_of(front$url), before), what = "the new certificate")
  unlink(file.path(dir, "cert.pem"))
  front$process$signal(sig[["hup"]])
  wait_until(any(grepl("Reload failed: .*tls.cert", front$stderr())), what = "the log to say so")
  expect_true(front$process$is_alive())
})

test_that("a certificate that has expired is a warning in the log", {
  dir <- local_certificates(days = -1)
  started <- from_start_until(
    local_server(local_app("basic"), workers = 1, tls = tls_of(dir), quiet = FALSE), "has expired"
  )
  expect_match(started$lines, "cert.pem", fixed = TRUE, all = FALSE)
})

test_that("a front of replicas speaks TLS to its clients", {
  dir <- local_certificates()
  behind <- local_server(local_app("basic"), workers = 1)
  front <- faucet::run_k8s(
    behind$url,
    port = 0, host = "127.0.0.1", block = FALSE, quiet = TRUE, access_log = "none", tls = tls_of(dir)
  )
  withr::defer(suppressMessages(front$stop(timeout = 1)))
  expect_match(front$url, "^https://")
  expect_identical(request(front, "/pid", cainfo = file.path(dir, "ca.pem"))$status, 200L)
})

test_that("what tls does not take is an error before anything starts", {
  dir <- local_certificates()
  app <- local_app("basic")
  refused <- function(tls, message, ...) {
    error <- expect_error(faucet::run(app, tls = tls, port = 0, block = FALSE, ...), class = "faucet_error_option")
    expect_identical(error$option, "tls")
    # However it is wrapped.
    expect_match(gsub("[[:space:]]+", " ", conditionMessage(error)), message, fixed = TRUE)
  }
  refused("cert.pem", "`tls` must be a list of the paths of files")
  refused(list(cert = "a"), "not a list of `cert`")
  refused(list(cert = "a", key = "b", ca = "c"), "not a list of `cert`, `key`, `ca`")
  refused(list(cert = 1, key = "b"), "`tls` must be a list")
  refused(tls_of("/nowhere"), "`tls$cert` cannot be used: /nowhere/cert.pem: there is no such file.")
  refused(tls_of(dir, client_ca = file.path(dir, "names")), "there is no certificate in it")
  refused(list(cert = file.path(dir, "cert.pem"), key = file.path(dir, "ca.key")), "it does not fit the certificate")
  openssl(dir, c("pkcs8", "-topk8", "-in", "key.pem", "-out", "locked.pem", "-passout", "pass:secret"))
  refused(list(cert = file.path(dir, "cert.pem"), key = file.path(dir, "locked.pem")), "the key is encrypted")
  refused(tls_of(dir), "`host` is a Unix socket", host = "unix:@faucet-test")
})

test_that("tls is an option, variables, and in a file", {
  dir <- local_certificates()
  normal <- tls_of(dir)
  resolved <- function(...) resolve_settings(list(...), "run")$tls
  expect_null(resolved())
  withr::with_envvar(c(FAUCET_TLS_CERT = normal$cert, FAUCET_TLS_KEY = normal$key), {
    expect_identical(resolved(), normal)
    expect_null(resolved(tls = NULL))
    expect_no_warning(warn_of_unknown_settings())
  })
  withr::with_envvar(c(FAUCET_TLS_CERT = normal$cert), {
    error <- expect_error(resolved(), class = "faucet_error_option")
    expect_match(conditionMessage(error), "FAUCET_TLS_KEY", fixed = TRUE)
  })
  withr::with_options(list(faucet.tls = normal), expect_identical(resolved(), normal))

  app <- local_app("basic")
  file.copy(unlist(normal), app)
  writeLines(c("tls:", "  cert: cert.pem", "  key: key.pem", "pools:", "  /: \".\""), file.path(app, "faucet.yml"))
  config <- read_config(file.path(app, "faucet.yml"))
  expect_identical(config$given$tls$cert, file.path(app, "cert.pem"))
  expect_identical(read_config(file.path(app, "faucet.yml"), list(tls = normal))$given$tls, normal)
  unlink(file.path(app, "key.pem"))
  error <- expect_error(read_config(file.path(app, "faucet.yml")), class = "faucet_error_config")
  expect_identical(error$line, 1L)
})
