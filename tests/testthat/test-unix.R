skip_on_os("windows")

# `host = "unix:..."`. What the socket's clients get, `src/rust/core/tests/unix_socket.rs` tests; this is what a user sees.

local_socket <- function(env = parent.frame()) {
  # As short as it may have to be.
  dir <- withr::local_tempdir(pattern = "u", .local_envir = env)
  file.path(normalizePath(dir), "app.sock")
}

over <- function(socket, path, ...) {
  request("http://localhost", path, unix_socket_path = socket, ...)
}

test_that("a server listens on a Unix socket, and removes it", {
  socket <- local_socket()
  seen <- messages_of(
    server <- faucet::run(
      local_app("basic"),
      host = paste0("unix:", socket), port = 1, workers = 1, block = FALSE, access_log = "none"
    )
  )
  withr::defer(try(server$stop(timeout = 1), silent = TRUE))
  expect_match(seen, paste0("Ready on unix:", socket, " with 1 worker"), fixed = TRUE, all = FALSE)
  expect_identical(server$url, paste0("unix:", socket))
  expect_match(server$format()[[1]], paste0("unix:", socket), fixed = TRUE)
  expect_null(server$admin_url)
  expect_identical(over(socket, "/openapi.json")$status, 200L)
  expect_identical(over(socket, "/__faucet__/readyz")$status, 200L)
  server$reload()
  expect_identical(over(socket, "/openapi.json")$status, 200L)

  error <- expect_error(
    faucet::run(local_app("basic"), host = paste0("unix:", socket), block = FALSE, quiet = TRUE),
    "another program listens there", class = "faucet_error_port_in_use"
  )
  messages_of(server$stop())
  expect_false(file.exists(socket))
})

test_that("a socket that a killed server has left is replaced", {
  socket <- local_socket()
  dir <- local_app("basic")
  first <- local_rscript(sprintf("faucet::run(\"%s\", workers = 1, host = \"unix:%s\")", dir, socket))
  wait_until(any(grepl("Ready on unix:", first$stderr())), what = "the first server")
  first$process$kill()
  expect_true(file.exists(socket))
  server <- local_server(dir, workers = 1, host = paste0("unix:", socket))
  expect_identical(over(socket, "/openapi.json")$status, 200L)
})

test_that("a client over a Unix socket has no address of its own", {
  socket <- local_socket()
  headers <- list(`X-Forwarded-For` = "192.0.2.7", `X-Forwarded-Proto` = "https")
  for (trusted in list(character(), "unix:")) {
    log <- withr::local_tempfile()
    server <- local_server(
      local_app("echo"),
      workers = 1, host = paste0("unix:", socket), trusted_proxies = trusted, access_log = "json", log_file = log
    )
    told <- json(over(socket, "/headers", headers = headers))
    expect_identical(told[["x-forwarded-for"]], if (length(trusted) > 0) "192.0.2.7, unix:" else "unix:")
    expect_identical(told[["x-forwarded-proto"]], if (length(trusted) > 0) "https" else "http")
    client <- wait_until(if (file.exists(log) && length(lines <- readLines(log)) > 0) {
      jsonlite::fromJSON(lines[[1]])$client
    })
    expect_identical(client, if (length(trusted) > 0) "192.0.2.7" else "unix:")
    server$stop()
  }
})

test_that("the admin port may be a Unix socket, without a port", {
  admin <- local_socket()
  server <- local_server(local_app("basic"), workers = 1, admin_host = paste0("unix:", admin))
  expect_identical(server$admin_url, paste0("unix:", admin))
  expect_identical(over(admin, "/status")$status, 200L)
  # No page can lead a browser there.
  expect_identical(over(admin, "/metrics", headers = list(Host = "evil.example"))$status, 200L)
})

test_that("what cannot be a Unix socket is refused", {
  refused <- function(host, message) {
    expect_error(
      faucet::run(local_app("basic"), host = host, block = FALSE, quiet = TRUE), message,
      class = "faucet_error_listen", fixed = TRUE
    )
  }
  dir <- dirname(local_socket())
  refused(paste0("unix:", dir, "/", strrep("x", 120)), "bytes, and the system takes")
  refused(paste0("unix:", dir, "/none/app.sock"), "there is no such directory")
  refused("unix:", "`host` looks like \"unix:/run/app.sock\"")
  file.create(file.path(dir, "file"))
  refused(paste0("unix:", dir, "/file"), "there is a file that is no socket")
  expect_true(file.exists(file.path(dir, "file")))
})

test_that("in a configuration file the path is relative to it", {
  socket <- local_socket()
  config <- file.path(dirname(socket), "faucet.yml")
  writeLines(c("host: unix:app.sock", "workers: 1", "pools:", paste0("  /: ", local_app("basic"))), config)
  server <- faucet::run(config, block = FALSE, quiet = TRUE, access_log = "none")
  withr::defer(server$stop(timeout = 1))
  expect_identical(server$url, paste0("unix:", socket))
  expect_identical(over(socket, "/openapi.json")$status, 200L)
})
