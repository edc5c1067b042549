# Bodies of workers that dial in, past the hub.

skip_on_os("windows")

local_redirected <- function(env = parent.frame()) {
  hub <- local_hub(env = env)
  port <- free_port()
  dir <- local_code(
    "plumber.R" = c(
      "#* @get /long", "#* @serializer text",
      # Long also when it is compressed
      "function(res) { res$setHeader('Set-Cookie', 'a=1'); paste(sample(letters, 1e6, TRUE), collapse = '') }",
      "#* @get /short", "#* @serializer text", "function() 'short'",
      "#* @get /stream",
      "function(req, res) faucet::stream(req, res, function(out) repeat out$write(strrep('x', 1e5)))"
    ),
    env = env
  )
  worker <- faucet::run_worker(
    hub$worker_address, dir,
    redirect = paste0("http://127.0.0.1:", port), block = FALSE, quiet = TRUE, access_log = "none", admin_port = 0
  )
  withr::defer(suppressMessages(try(worker$stop(timeout = 1), silent = TRUE)), envir = env)
  wait_for_slots(hub, 1)
  list(hub = hub, worker = worker, url = paste0("http://127.0.0.1:", port))
}

test_that("a body is fetched once where the hub says", {
  all <- local_redirected()
  expect_identical(request(all$hub, "/short", followlocation = TRUE)$text, "short")
  told <- request(all$hub, "/long")
  expect_identical(told$status, 303L)
  expect_identical(told$headers[["set-cookie"]], "a=1")
  expect_match(told$headers[["location"]], paste0("^", all$url, "/[0-9a-f]{32}$"))
  fetched <- request(told$headers[["location"]], "")
  expect_match(fetched$text, "^[a-z]{10}")
  expect_identical(nchar(fetched$text), 1000000L)
  expect_match(fetched$headers[["content-type"]], "^text/plain")
  expect_null(fetched$headers[["set-cookie"]])
  expect_identical(request(told$headers[["location"]], "")$status, 410L)
  followed <- request(all$hub, "/long", followlocation = TRUE)
  expect_identical(nchar(followed$text), 1000000L)
  metrics <- request(all$worker$admin_url, "/metrics")$text
  expect_match(metrics, "faucet_redirects_total{pool=\"/\",outcome=\"fetched\"} 3", fixed = TRUE)
})

test_that("R is interrupted when whoever fetches a stream leaves", {
  all <- local_redirected()
  told <- request(all$hub, "/stream")
  expect_identical(told$status, 303L)
  expect_identical(all$worker$status()$state, "busy")
  client <- listen(told$headers[["location"]], "")
  client$wait_for("xxx")
  client$leave()
  wait_for_workers(all$worker)
  expect_identical(request(all$hub, "/short", followlocation = TRUE)$text, "short")
})
