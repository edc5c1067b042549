test_that("a failure of the native side becomes an error with its class", {
  failure <- list(ok = FALSE, class = "port_in_use", message = "Port 80 is in use.", lines = character())
  error <- expect_error(check_result(failure), class = "faucet_error_port_in_use")
  expect_s3_class(error, "faucet_error")
  expect_identical(conditionMessage(error), "Port 80 is in use.")
})

test_that("a failure's text is nobody's template", {
  text <- "100% of {braces} %s %n in C:\\path are {.kept}"
  lines <- c("Error in f(): {x}", "    two  spaces %d", "")
  failure <- list(ok = FALSE, class = "boot", message = text, lines = lines)
  error <- expect_error(check_result(failure), class = "faucet_error_boot")
  expect_identical(error$lines, lines)
  expect_match(conditionMessage(error), text, fixed = TRUE)
  expect_match(conditionMessage(error), "    two  spaces %d", fixed = TRUE)
})

test_that("a failure shows R's last lines below the message", {
  failure <- list(
    ok = FALSE, class = "boot", message = "Worker 1 ended before it was ready.",
    lines = c("Error in library(nosuch) : there is no package called 'nosuch'", "Execution halted")
  )
  expect_snapshot_errors(check_result(failure))
})

test_that("a result that is well comes back", {
  result <- list(ok = TRUE, id = 3L)
  expect_identical(check_result(result), result)
})

test_that("an error's trace ends at the function that the user called", {
  serve <- function() {
    call <- rlang::current_env()
    check_deep <- function() check_result(list(ok = FALSE, class = "boot", message = "No."), call = call)
    check_deep()
  }
  error <- expect_error(serve(), class = "faucet_error_boot")
  expect_identical(error$trace$call[[length(error$trace$call)]], quote(serve()))
})
