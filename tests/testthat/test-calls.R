# A server that has calls, each of which is as its id says. `late` is done once it was looked at three times.
local_calls <- function(env = parent.frame()) {
  app <- function(req) {
    answer <- function(status, body, ...) {
      list(status = status, headers = list("Content-Type" = "application/json", ...), body = body)
    }
    told <- function(id, status, error = "null", result = "null") {
      times <- '"created": "2026-01-02T03:04:05Z", "started": null, "ended": null'
      form <- '{"id": "%s", "chain": "a | b", "status": "%s", %s, "error": %s, "result": %s}'
      answer(200L, sprintf(form, id, status, times, error, result))
    }
    error <- '{"error": "no {x}", "stage": 2, "function": "b", "call_id": "failed", "cause": "function_error"}'
    result <- '{"status": 200, "type": "application/json", "length": 6, "url": "/calls/late/result"}'
    look <- function() {
      looks <<- if (exists("looks")) looks + 1 else 1
      if (looks < 3) told("late", "running") else told("late", "done", result = result)
    }
    path <- sub("^/", "", req$PATH_INFO)
    switch(
      if (req$REQUEST_METHOD == "DELETE") "DELETE" else path,
      async = answer(202L, '{"id": "late", "status": "queued", "url": "/calls/late"}'),
      DELETE = list(status = 204L, headers = list(), body = ""),
      "calls/nosuch" = answer(404L, '{"error": "there is no call `nosuch`"}'),
      "calls/old/result" = answer(410L, '{"error": "kept no longer"}'),
      "calls/late/result" = answer(200L, "[1, 2]"),
      "calls/late" = look(),
      "calls/old" = told("old", "done", result = result),
      "calls/failed" = told("failed", "failed", error),
      told(basename(path), basename(path))
    )
  }
  local_answers(app, env = env)
}

test_that("a call outlives its caller, and its result is waited for", {
  server <- local_calls()
  call <- invoke("a | b", "x", async = TRUE)
  expect_s3_class(call, "faucet_call")
  expect_identical(call$id, "late")
  expect_output(print(call), "late", fixed = TRUE)
  withr::local_options(faucet.to = NULL)
  status <- call_status(call)
  expect_identical(status$status, "running")
  expect_identical(status$created, as.POSIXct("2026-01-02 03:04:05", tz = "UTC"))
  expect_identical(status$ended, as.POSIXct(NA, tz = "UTC"))
  expect_null(status$result)
  expect_identical(call_result(call), 1:2)
  expect_identical(call_status("late", to = server$url)$result, list(status = 200L, type = "application/json", length = 6L))
  expect_identical(call_cancel(call), "late")
  file <- withr::local_tempfile()
  expect_identical(call_result(call, output = file), file)
  expect_identical(readLines(file, warn = FALSE), "[1, 2]")
})

test_that("a call without a result says why", {
  local_calls()
  expect_snapshot_errors({
    call_result("failed")
    call_result("lost")
    call_result("cancelled")
    call_result("running", wait = 0.01)
    call_result("old")
    call_status("nosuch")
    call_status("no such")
  }, transform = function(lines) gsub("127[.]0[.]0[.]1:[0-9]+", "<host>", lines))
  error <- expect_error(call_result("failed"), class = "faucet_invoke_error")
  expect_identical(error[c("error", "stage", "function", "call_id", "cause")], list(
    error = "no {x}", stage = 2L, `function` = "b", call_id = "failed", cause = "function_error"
  ))
  expect_s3_class(expect_error(call_result("running", wait = 0.01)), "faucet_error_timeout")
})

test_that("a shell looks after calls, too", {
  local_calls()
  expect_identical(run_cli("invoke", "a | b", "--async", input = "x")$stdout, "late")
  expect_identical(run_cli("call", "result", "late")$text, "[1, 2]")
  expect_true(all(c("id: late", "status: done") %in% run_cli("call", "late")$stdout))
  expect_identical(jsonlite::fromJSON(run_cli("call", "status", "late", "--json")$text)$chain, "a | b")
  expect_identical(run_cli("call", "cancel", "late")$stdout, "Cancelled late")
  expect_identical(run_cli("call", "late", "late")$status, 2L)
  expect_identical(run_cli("call", "nosuch")$status, 3L)
  expect_identical(run_cli("call", "result", "failed")$status, 6L)
  expect_identical(run_cli("call", "result", "running", "--wait", "0.1")$status, 124L)
})

test_that("an agent works on a call whose caller has left", {
  local_agent()
  deploy_quietly(function(x, times = 1) x * times, name = "scale")
  deploy_quietly(function(x) stop("100% wrong"), name = "fail")
  begun <- withr::local_tempfile()
  deploy_quietly(command = c("sh", "-c", paste0("echo $$ > ", begun, "; exec sleep 1000")), name = "sleep")

  call <- invoke("scale", c(1, 2.5), times = 2, async = TRUE)
  expect_identical(call_result(call, wait = 60), c(2L, 5L))
  status <- call_status(call)
  expect_identical(status$status, "done")
  expect_s3_class(status$ended, "POSIXct")
  expect_identical(call_result(invoke("scale times=3 | scale times=2", 1.5, async = TRUE), wait = 60), 9L)

  error <- expect_error(call_result(invoke("fail", 1, async = TRUE), wait = 60), class = "faucet_invoke_error")
  expect_identical(error[c("stage", "function")], list(stage = 1L, `function` = "fail"))
  expect_match(error$error, "100% wrong", fixed = TRUE)

  call <- invoke("sleep", async = TRUE)
  wait_until(file.exists(begun) && length(readLines(begun)) == 1, what = "the program to begin")
  expect_error(call_result(call, wait = 0.1), class = "faucet_error_timeout")
  expect_identical(run_cli("call", "cancel", call$id)$status, 0L)
  wait_until_gone(as.integer(readLines(begun)))
  expect_error(invoke("nosuch", async = TRUE), class = "faucet_invoke_error")

  id <- run_cli("invoke", "scale", "times=4", "--async", "--type", "application/json", input = "2")$stdout
  expect_identical(run_cli("call", "result", id, "--wait", "60")$text, "8")
})
