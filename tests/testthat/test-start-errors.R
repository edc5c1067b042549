# Each of these must come before anything starts: there is no worker to clean up after.

test_that("a directory that is missing, empty or a file is an error", {
  dir <- withr::local_tempdir()
  expect_error(faucet::run(file.path(dir, "nosuch")), class = "faucet_error_dir")
  expect_error(faucet::run(dir), class = "faucet_error_dir")
  file <- file.path(dir, "plumber.txt")
  file.create(file)
  expect_error(faucet::run(file), class = "faucet_error_dir")
  for (bad in list(NULL, NA_character_, 1, "", c(dir, dir))) {
    expect_error(faucet::run(bad), class = "faucet_error_dir")
  }
})

test_that("errors about the directory say what to do", {
  dir <- withr::local_tempdir()
  withr::local_dir(dir)
  dir.create("empty")
  file.create("plumber.txt")
  hide <- function(lines) gsub(dir, "<dir>", gsub(normalizePath(dir), "<dir>", lines, fixed = TRUE), fixed = TRUE)
  expect_snapshot_errors(transform = hide, {
    faucet::run("nosuch")
    faucet::run("empty")
    faucet::run("plumber.txt")
    faucet::run("nosuch.R")
    faucet::run(3)
    faucet::run(plumber::pr())
    faucet::run(function(req) NULL, port = 0)
    faucet::run(list(call = function(req) NULL))
    faucet::run(list("/a" = plumber::pr()))
    faucet::pool(plumber::pr())
  })
})

test_that("settings are checked before anything starts", {
  dir <- local_app("basic")
  expect_error(faucet::run(dir, workers = 0), class = "faucet_error_option")
  expect_error(faucet::run(dir, timeout = 0), class = "faucet_error_option")
  expect_error(faucet::run(dir, tiemout = 1), class = "faucet_error_option")
  expect_error(faucet::run(dir, block = NA), class = "faucet_error_option")
  expect_error(faucet::run(dir, trusted_proxies = "not an address"), class = "faucet_error_option")
  expect_snapshot_errors(faucet::run(dir, workers = 0))
})

test_that("a port in use is an error", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1)
  port <- as.integer(sub("^.*:", "", server$url))
  error <- expect_error(faucet::run(dir, port = port, block = FALSE, quiet = TRUE), class = "faucet_error_port_in_use")
  expect_match(conditionMessage(error), paste(port))
  expect_identical(request(server, "/hello")$text, "hello")
})

test_that("a port that a server of this session has says so, and how to stop that one", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1, admin_port = 0)
  port <- function(url) as.integer(sub("^.*:", "", url))
  in_use <- function(...) {
    error <- expect_error(faucet::run(dir, ..., block = FALSE, quiet = TRUE), class = "faucet_error_port_in_use")
    conditionMessage(error)
  }
  # A variable of this test's is none of the workspace.
  message <- in_use(port = port(server$url))
  expect_match(message, "a server of this session does", fixed = TRUE)
  expect_match(message, "No variable of the workspace", fixed = TRUE)
  expect_match(message, "With another `port`", fixed = TRUE)
  expect_match(in_use(port = 0, admin_port = port(server$admin_url)), "With another `admin_port`", fixed = TRUE)

  assign("a server", server, globalenv())
  withr::defer(rm("a server", envir = globalenv()))
  expect_match(in_use(port = port(server$url)), "`a server`$stop()", fixed = TRUE)

  server$stop()
  again <- faucet::run(dir, workers = 1, port = port(server$url), block = FALSE, quiet = TRUE)
  again$stop()
})

test_that("a port that another program has is not said to be this session's", {
  port <- httpuv::randomPort()
  other <- httpuv::startServer("127.0.0.1", port, list(call = function(req) NULL))
  withr::defer(other$stop())
  error <- expect_error(faucet::run(local_app("basic"), port = port, block = FALSE), class = "faucet_error_port_in_use")
  expect_match(conditionMessage(error), "Another program listens there", fixed = TRUE)
})
