# Snapshots of conditions in a form of our own: testthat's differs from version to version.

# Each call in `code`, an expression in braces, raises an error of faucet's. The snapshot has the calls as they are
# written here, the class of each below `faucet_error`, and the messages.
expect_snapshot_errors <- function(code, transform = identity, env = parent.frame()) {
  shown <- transform(unlist(lapply(calls_in(substitute(code)), function(call) {
    error <- testthat::expect_error(eval(call, env), class = "faucet_error", info = deparse(call, 500L))
    own <- grep("^faucet_error_", class(error), value = TRUE)
    c(code_lines(call), sprintf("<%s>", own), message_lines(error), "")
  })))
  expect_shown(shown)
}

# Each call in `code` signals messages.
expect_snapshot_messages <- function(code, transform = identity, env = parent.frame()) {
  shown <- transform(unlist(lapply(calls_in(substitute(code)), function(call) {
    c(code_lines(call), messages_of(eval(call, env)), "")
  })))
  expect_shown(shown)
}

# What is printed, all versions show alike. Each call ends with an empty line, the last of which goes.
expect_shown <- function(shown) {
  shown <- shown[-length(shown)]
  testthat::expect_snapshot(writeLines(shown))
}

calls_in <- function(code) {
  if (is.call(code) && identical(code[[1]], quote(`{`))) as.list(code)[-1] else list(code)
}

code_lines <- function(call) paste(">", deparse(call, 500L))

message_lines <- function(error) strsplit(conditionMessage(error), "\n", fixed = TRUE)[[1]]
