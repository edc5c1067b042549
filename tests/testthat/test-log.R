poll <- function(kind, text, level = "info", dropped = 0L) {
  list(kind = kind, text = text, level = rep_len(level, length(kind)), dropped = dropped)
}

test_that("access lines go to standard output, in order", {
  expect_output(show_log(poll(c("access", "access"), c("first {x}", "second %s"))), "^first \\{x\\}\nsecond %s$")
})

test_that("workers' lines are messages of their own class", {
  line <- "[worker 2] some {text} %s"
  message <- expect_message(show_log(poll("worker", line)), class = "faucet_log")
  expect_identical(conditionMessage(message), paste0(line, "\n"))
})

test_that("events are messages of their own class, one line each", {
  long <- strrep("word ", 60)
  message <- expect_message(show_log(poll("event", long, "warn")), class = "faucet_event")
  expect_match(conditionMessage(message), long, fixed = TRUE)
  expect_identical(message$level, "warn")
})

test_that("kinds stay in the order in which they came", {
  seen <- character()
  withCallingHandlers(
    show_log(poll(c("worker", "event", "worker"), c("one", "two", "three"))),
    message = function(message) {
      seen <<- c(seen, conditionMessage(message))
      tryInvokeRestart("muffleMessage")
    }
  )
  expect_match(seen[[1]], "one")
  expect_match(seen[[2]], "two")
  expect_match(seen[[3]], "three")
})

test_that("quiet leaves errors only", {
  lines <- poll(c("access", "worker", "event"), c("line", "line", "line"), dropped = 5L)
  expect_silent(show_log(lines, quiet = TRUE))
  expect_message(show_log(poll("event", "worker 1 was given up", "error"), quiet = TRUE), "given up")
})

test_that("dropped lines are told", {
  expect_message(show_log(poll(character(), character(), dropped = 7L)), "7 log lines were dropped")
})

test_that("nothing to show shows nothing", {
  expect_silent(show_log(poll(character(), character())))
})
