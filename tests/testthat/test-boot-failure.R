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

# All that an R session prints which starts such a server in the foreground.
output_of_start <- function(code, ..., wrap = "%s") {
  dir <- local_code("plumber.R" = code, env = parent.frame())
  call <- sprintf("faucet::run(%s, port = 0, %s)", deparse(dir), paste0(...))
  rscript <- file.path(R.home("bin"), "Rscript")
  suppressWarnings(system2(rscript, c("-e", shQuote(sprintf(wrap, call))), stdout = TRUE, stderr = TRUE))
}

test_that("what failing workers print is printed once, whatever their number", {
  skip_on_cran()
  code <- c("message(\"connecting\")", "stop(\"no \", \"database\")")
  for (more in c("workers = 3", "workers = 2, preload = TRUE", "workers = 3, quiet = TRUE", "workers = 3, block = FALSE")) {
    output <- output_of_start(code, more)
    expect_length(grep("no database", output, fixed = TRUE), 1)
    expect_length(grep("before it was ready", output, fixed = TRUE), 1)
  }
})

test_that("an error has the lines if nobody has printed them", {
  skip_on_cran()
  code <- "stop(\"no \", \"database\")"
  wrap <- "suppressMessages(tryCatch(%s, error = function(error) cat(conditionMessage(error))))"
  expect_length(grep("no database", output_of_start(code, "workers = 3", wrap = wrap), fixed = TRUE), 1)
})

test_that("a reload that fails prints the lines once", {
  dir <- local_code("plumber.R" = c("#* @get /", "function() 1"))
  server <- suppressMessages(local_server(dir, workers = 1, quiet = FALSE))
  writeLines("stop(\"no \", \"database\")", file.path(dir, "plumber.R"))
  # Nobody catches them here.
  file <- withr::local_tempfile()
  con <- file(file, "w")
  withr::with_message_sink(con, error <- expect_error(server$reload(), class = "faucet_error_reload"))
  close(con)
  expect_no_match(conditionMessage(error), "no database", fixed = TRUE)
  expect_true(any(grepl("no database", error$lines, fixed = TRUE)))
})
