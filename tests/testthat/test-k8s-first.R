skip_on_cran()

# What a new user does first: plumber runs on a port of this machine.

test_that("a front of plumber says where it is, and gives it one request at a time", {
  dir <- local_app("basic")
  url <- sub("127.0.0.1", "localhost", local_plumber(dir), fixed = TRUE)
  said <- character()
  server <- withCallingHandlers(
    faucet::run_k8s(paste0(url, "/"), host = "127.0.0.1", port = 0, block = FALSE, access_log = "none"),
    message = function(message) {
      said <<- c(said, trimws(conditionMessage(message)))
      tryInvokeRestart("muffleMessage")
    }
  )
  withr::defer(suppressMessages(server$stop(timeout = 1)))
  expect_identical(said[[1]], paste("Looking for replicas of", url))
  expect_identical(said[[length(said)]], paste0("Ready on ", server$url, " with 1 replica of ", url))
  expect_identical(request(server, "/hello")$text, "hello")

  clients <- crowd()
  hold(clients, server, dir, "first")
  clients$add(server, "/work?id=second", key = "second")
  wait_until(clients$step() && any(grepl(" 1 waiting", server$format(), fixed = TRUE)))
  expect_false(file.exists(file.path(dir, "begun-second")))
  release(dir, "first")
  done <- clients$wait()
  expect_identical(done$first$text, "held for first")
  expect_identical(done$second$text, "worked on second")

  expect_identical(server$status()$address, sub("^http://localhost", "127.0.0.1", url))
  expect_identical(server$lookup()[c("url", "state", "addresses")], list(url = url, state = "ok", addresses = 1L))
  expect_identical(withVisible(server$reload()), list(value = server, visible = FALSE))
  expect_error(server$scale(2), class = "faucet_error_unsupported")
})
