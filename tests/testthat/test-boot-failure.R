test_that("a syntax error fails the start and shows R's message", {
  dir <- local_code("plumber.R" = c("#* @get /hello", "function() {", "  1 +* 2", "}"))
  for (block in c(TRUE, FALSE)) {
    error <- expect_error(
      faucet::run(dir, workers = 2, port = 0, block = block, quiet = TRUE),
      class = "faucet_error_boot"
    )
    expect_match(conditionMessage(error), "plumber.R:3:6: unexpected '*'", fixed = TRUE)
    expect_true(any(grepl("unexpected '*'", error$lines, fixed = TRUE)))
  }
})

test_that("an error while loading fails the start and shows R's message", {
  dir <- local_code("entrypoint.R" = "stop(\"no database: 100% {gone}\")")
  error <- expect_error(local_server(dir), class = "faucet_error_boot")
  expect_match(conditionMessage(error), "no database: 100% {gone}", fixed = TRUE)
})

test_that("an entrypoint that neither serves nor returns a router fails the start", {
  dir <- local_code("entrypoint.R" = "x <- 1")
  error <- expect_error(local_server(dir), class = "faucet_error_boot")
  expect_match(conditionMessage(error), "returned no plumber router", fixed = TRUE)
})

test_that("an app that is not ready within boot_timeout fails the start", {
  dir <- local_code("plumber.R" = c("message(\"counting sheep\")", "Sys.sleep(600)"))
  error <- expect_error(local_server(dir, workers = 1, boot_timeout = 2), class = "faucet_error_boot")
  expect_match(conditionMessage(error), "counting sheep", fixed = TRUE)
})

test_that("a failed start leaves no process and no port behind", {
  dir <- local_code("plumber.R" = c("file.create(paste0(\"pid-\", Sys.getpid()))", "stop(\"no\")"))
  # A port that was free a moment ago may be taken now.
  repeat {
    port <- httpuv::randomPort()
    error <- tryCatch(
      faucet::run(dir, port = port, block = FALSE, quiet = TRUE),
      faucet_error_port_in_use = function(error) NULL,
      error = identity
    )
    if (!is.null(error)) break
  }
  expect_s3_class(error, "faucet_error_boot")
  pids <- as.integer(sub("^pid-", "", list.files(dir, "^pid-")))
  expect_gt(length(pids), 0)
  wait_until_gone(pids)
  expect_false(accepts_connections(paste0("http://127.0.0.1:", port)))
})
