# What of HTTP shows in R, through real workers. The rest is tested where it is implemented.

test_that("R is told who asked, for what host, and the request's id", {
  server <- local_server(local_app("echo"), workers = 1)
  answer <- request(server, "/headers", headers = list(`X-Forwarded-For` = "6.6.6.6", Host = "example.org"))
  headers <- json(answer)
  # An address that comes from somebody who is not trusted is not handed on.
  expect_identical(headers[["x-forwarded-for"]], "127.0.0.1")
  expect_identical(headers[["x-forwarded-proto"]], "http")
  expect_identical(headers[["x-forwarded-host"]], "example.org")
  expect_identical(headers[["x-request-id"]], answer$headers[["x-request-id"]])
})

test_that("a trusted proxy is believed", {
  server <- local_server(local_app("echo"), workers = 1, trusted_proxies = "127.0.0.0/8")
  headers <- json(request(server, "/headers", headers = list(
    `X-Forwarded-For` = "192.0.2.7", `X-Forwarded-Proto` = "https", `X-Request-Id` = "abc-123"
  )))
  expect_match(headers[["x-forwarded-for"]], "^192\\.0\\.2\\.7")
  expect_identical(headers[["x-forwarded-proto"]], "https")
  expect_identical(headers[["x-request-id"]], "abc-123")
})

test_that("R cannot be told a lie by a name with underscores", {
  lies <- list(
    X_Forwarded_For = "6.6.6.6", `X-Forwarded_Proto` = "https", X_Request_Id = "forged", X_Own = "mine"
  )
  for (keep in c(FALSE, TRUE)) {
    server <- local_server(local_app("echo"), workers = 1, underscores_in_headers = keep)
    answer <- request(server, "/headers", headers = lies)
    headers <- json(answer)
    expect_identical(headers[["x-forwarded-for"]], "127.0.0.1")
    expect_identical(headers[["x-forwarded-proto"]], "http")
    expect_identical(headers[["x-request-id"]], answer$headers[["x-request-id"]])
    expect_identical(grep("_", names(headers), value = TRUE), if (keep) "x_own" else character())
  }
})

test_that("150 headers pass both ways, in workers of both types", {
  own <- stats::setNames(as.list(as.character(1:150)), paste0("X-Own-", 1:150))
  for (type in c("native", "http")) {
    server <- local_server(local_app("echo"), workers = 1, worker_type = type)
    answer <- request(server, "/many", headers = own)
    expect_identical(answer$status, 200L)
    expect_identical(answer$text, "150")
    expect_length(grep("^x-own-", names(answer$headers)), 150)
    beyond <- stats::setNames(as.list(as.character(1:201)), paste0("X-Own-", 1:201))
    refused <- request(server, "/many", headers = beyond)
    expect_identical(refused$status, 431L)
    expect_identical(refused$headers[["faucet-error"]], "header_too_large")
  }
})

test_that("bodies of any bytes and any size arrive as they were sent", {
  server <- local_server(local_app("echo"), workers = 1, body_memory = "64KB")
  withr::local_seed(1)
  for (size in c(0, 1, 1000, 1e5, 5e6)) {
    body <- as.raw(sample(0:255, size, replace = TRUE))
    answer <- request(server, "/body", "POST", body, type = "application/octet-stream")
    expect_identical(answer$status, 200L)
    expect_true(identical(answer$body, body), info = format(size))
  }
})

test_that("a body above max_body is refused and never reaches R", {
  server <- local_server(local_app("echo"), workers = 1, max_body = "10KB")
  expect_identical(request(server, "/body", "POST", raw(10 * 1024), type = "application/octet-stream")$status, 200L)
  refused <- request(server, "/body", "POST", raw(10 * 1024 + 1), type = "application/octet-stream")
  expect_identical(refused$status, 413L)
  expect_identical(refused$headers[["faucet-error"]], "body_too_large")
  expect_identical(server$status()$requests, 1)
})

test_that("HEAD has no body, also where plumber sends one, and the worker's connection stays usable", {
  server <- local_server(local_app("echo"), workers = 1)
  for (path in c("/hello", "/nosuch", "/body")) {
    head <- request(server, path, "HEAD")
    expect_length(head$body, 0)
    expect_identical(request(server, "/hello")$text, "hello")
  }
  expect_identical(server$status()$restarts, 0L)
})

test_that("one client connection serves many requests", {
  server <- local_server(local_app("echo"), workers = 2)
  handle <- curl::new_handle()
  for (i in 1:20) {
    answer <- response(curl::curl_fetch_memory(paste0(server$url, "/hello"), handle = handle))
    expect_identical(answer$text, "hello")
  }
  # Connections after the first.
  timings <- curl::handle_data(handle)$times
  expect_identical(timings[["connect"]], 0)
})
