test_that("an agent keeps a call and its result, and runs it once", {
  local_agent(result_ttl = 600, callbacks = "http://127.0.0.1:9/hooks")
  deploy_quietly(function(x, by = 1) list(sum = sum(x) + by), name = "add")
  deploy_quietly(function(x) stop("no ", x), name = "fail")
  call <- invoke("add", 1:3, by = 2, async = TRUE)
  expect_identical(call_result(call), list(sum = 8L))
  status <- call_status(call)
  expect_identical(status$status, "done")
  expect_gte(as.numeric(status$ended), as.numeric(status$started))
  call_cancel(call)
  expect_identical(expect_error(call_status(call), class = "faucet_error_refused")$status, 404L)

  error <- expect_error(call_result(invoke("add by=1 | fail", 1:3, async = TRUE)), class = "faucet_invoke_error")
  expect_identical(error[c("stage", "function", "cause")], list(stage = 2L, `function` = "fail", cause = "function_error"))
  refused <- function(...) expect_error(invoke("add", 1, async = TRUE, ...), class = "faucet_error_invoke")$cause
  expect_identical(refused(callback = "http://127.0.0.1:9/other"), "callback_refused")
  expect_identical(refused(result_ttl = 601), "bad_request")
})

test_that("a call is cancelled while it runs", {
  local_agent()
  deploy_quietly(function(x) Sys.sleep(600), name = "sleep")
  call <- invoke("sleep", "x", async = TRUE, retry = TRUE)
  wait_until(call_status(call)$status == "running")
  call_cancel(call)
  expect_error(call_result(call), class = "faucet_error_invoke_cancelled")
})

test_that("URLs for callbacks are checked at the start", {
  for (url in c("hooks.example.com", "ftp://hooks.example.com", "http://a.example/x/../y", "http://me@a.example")) {
    error <- expect_error(resolve_settings(list(callbacks = url), "run_agent"), class = "faucet_error_option")
    expect_identical(error$option, "callbacks")
  }
  urls <- c("https://hooks.example.com/faucet", "http://localhost:8000")
  expect_identical(resolve_settings(list(callbacks = urls), "run_proxy")$callbacks, urls)
  withr::local_envvar(FAUCET_CALLBACKS = paste(urls, collapse = ", "))
  expect_identical(resolve_settings(list(), "run_agent")$callbacks, urls)
})
