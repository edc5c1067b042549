# What is sent, as the server has seen it.
show_request <- function(req) {
  body <- req$rook.input$read()
  seen <- list(
    method = req$REQUEST_METHOD, path = req$PATH_INFO, query = req$QUERY_STRING, type = req$CONTENT_TYPE,
    accept = req$HTTP_ACCEPT, authorization = req$HTTP_AUTHORIZATION, bytes = length(body), sum = sum(as.integer(body))
  )
  list(
    status = 200L, headers = list("Content-Type" = "application/json"),
    body = as.character(jsonlite::toJSON(seen, auto_unbox = TRUE, null = "null"))
  )
}

test_that("a request comes as it was sent, and so does its answer", {
  local_answers(show_request)
  server <- resolve_server(NULL, "secret")
  seen <- ask_json(server, "POST", with_query("/deploy", list(wait = 1, name = "a b&c=\u00e9/")), list(list(name = "x")))
  expect_identical(seen$method, "POST")
  expect_identical(seen$path, "/deploy")
  expect_identical(sub("^[?]", "", seen$query), "wait=1&name=a%20b%26c%3D%C3%A9%2F")
  expect_identical(seen$type, "application/json")
  expect_identical(seen$accept, "application/json")
  expect_identical(seen$authorization, "Bearer secret")
  expect_identical(seen$bytes, nchar('[{"name":"x"}]'))
})

test_that("a file is sent whole, however large", {
  local_answers(show_request)
  file <- withr::local_tempfile()
  bytes <- as.raw(rep(0:250, length.out = 3e6))
  writeBin(bytes, file)
  seen <- parse_json(send_request(resolve_server(NULL, NULL), "PUT", "/bundles", file = file)$body)
  expect_identical(seen[c("bytes", "sum")], list(bytes = 3000000L, sum = sum(as.integer(bytes))))
  error <- expect_error(
    send_request(resolve_server(NULL, NULL), "PUT", "/bundles", file = paste0(file, "-none")),
    class = "faucet_error_file"
  )
  expect_match(conditionMessage(error), "No such file", ignore.case = TRUE)
})

test_that("an answer of any size is read, or cut off by its limit", {
  local_answers(function(req) list(status = 200L, headers = list(), body = raw(5e6)))
  server <- resolve_server(NULL, NULL)
  expect_length(send_request(server, "GET", "/")$body, 5e6)
  error <- expect_error(send_request(server, "GET", "/", most = 1000), class = "faucet_error_answer")
  expect_match(conditionMessage(error), "more than 1000 bytes", fixed = TRUE)
})

test_that("what is refused says why, and is nobody's template", {
  local_answers(function(req) {
    list(
      status = as.integer(basename(req$PATH_INFO)),
      headers = list("Content-Type" = "application/json"),
      body = '{"error": "{x} is 100% {.wrong}", "field": "name"}'
    )
  })
  server <- resolve_server(NULL, NULL)
  error <- expect_error(ask_json(server, "GET", "/400"), class = "faucet_error_refused")
  expect_identical(error[c("status", "field")], list(status = 400L, field = "name"))
  expect_match(conditionMessage(error), "{x} is 100% {.wrong}", fixed = TRUE)
  error <- expect_error(ask_json(server, "GET", "/401"), class = "faucet_error_refused")
  expect_match(conditionMessage(error), "FAUCET_TOKEN", fixed = TRUE)
})

test_that("a server that is no agent is told from one", {
  local_answers(function(req) list(status = as.integer(basename(req$PATH_INFO)), headers = list(), body = "<html>"))
  server <- resolve_server(NULL, NULL)
  for (path in c("/404", "/200")) {
    error <- expect_error(ask_json(server, "GET", path), class = "faucet_error_answer")
    expect_match(conditionMessage(error), "not as an agent or a proxy does", fixed = TRUE)
  }
})

test_that("nobody there, and no answer in time", {
  port <- httpuv::randomPort()
  error <- expect_error(functions(paste0("127.0.0.1:", port)), class = "faucet_error_connect")
  expect_match(conditionMessage(error), "connection refused", fixed = TRUE)
  expect_identical(error$server, paste0("http://127.0.0.1:", port))
  local_answers(function(req) Sys.sleep(60))
  expect_error(send_request(resolve_server(NULL, NULL), "GET", "/", timeout = 0.2), class = "faucet_error_timeout")
})

test_that("an interrupt ends a request, and closes its connection", {
  dir <- withr::local_tempdir()
  server <- local_answers(function(req) {
    file.create(file.path(dir, "begun"))
    tryCatch(Sys.sleep(600), interrupt = function(condition) file.create(file.path(dir, "interrupted")))
    list(status = 200L, headers = list(), body = "")
  })
  client <- local_rscript(sprintf(
    "tryCatch(faucet::invoke('f', to = '%s'), interrupt = function(condition) message('interrupted'))", server$url
  ))
  wait_until(file.exists(file.path(dir, "begun")), what = "the request to come")
  tools::pskill(client$pid, tools::SIGINT)
  wait_for_exit(client)
  expect_match(client$stderr(), "^interrupted$", all = FALSE)
  wait_until(file.exists(file.path(dir, "interrupted")), what = "the function to be interrupted")
  expect_true(file.exists(file.path(dir, "interrupted")))
})

test_that("a Unix socket, and TLS whose certificate is looked at", {
  socket <- withr::local_tempfile(pattern = "s")
  local_answers(show_request, host = paste0("unix:", socket))
  withr::local_options(faucet.to = paste0("unix:", socket))
  expect_identical(ask_json(resolve_server(NULL, "secret"), "GET", "/list")$path, "/list")
  certificates <- local_certificates()
  server <- local_answers(show_request, tls = tls_of(certificates))
  withr::local_options(faucet.to = server$url)
  error <- expect_error(ask_json(resolve_server(NULL, NULL), "GET", "/list"), class = "faucet_error")
  expect_no_match(class(error)[[1]], "refused")
  withr::local_options(faucet.ca = file.path(certificates, "ca.pem"))
  expect_identical(ask_json(resolve_server(NULL, NULL), "GET", "/list")$path, "/list")
})

test_that("where requests go, and what is refused", {
  withr::local_envvar(FAUCET_TO = "https://proxy.example.com/r/", FAUCET_TOKEN = "secret")
  server <- resolve_server(NULL, NULL)
  expect_identical(server$url, "https://proxy.example.com:443/r")
  expect_identical(server$token, "secret")
  expect_error(resolve_server("agent", "other"), class = "faucet_error_option")
  expect_identical(resolve_server("127.0.0.1", "other")$url, "http://127.0.0.1:9000")
  withr::local_options(faucet.insecure = TRUE)
  expect_identical(resolve_server("agent:1", "other")$url, "http://agent:1")
  for (to in list("ftp://agent", "http://user@agent", 9000, c("a", "b"), "")) {
    expect_error(resolve_server(to, NULL), class = "faucet_error_option")
  }
  error <- expect_error(functions("agent", token = "has space"), class = "faucet_error_option")
  expect_no_match(conditionMessage(error), "has space", fixed = TRUE)
})

test_that("a request belongs to the process that made it", {
  local_answers(show_request)
  started <- check_result(client_start(list(
    url = resolve_server(NULL, NULL)$url, ca = NULL, token = NULL, connect_timeout = 10, timeout = 60, most = 1e6,
    method = "GET", path = "/", headers = list(), body = NULL, file = NULL
  )))
  told <- parallel::mccollect(parallel::mcparallel(client_poll(started$handle, 0L, FALSE)))[[1]]
  expect_identical(told$class, "handle")
  client_drop(started$handle)
  expect_identical(client_poll(started$handle, 0L, FALSE)$class, "handle")
  expect_identical(client_poll(unserialize(serialize(started$handle, NULL)), 0L, FALSE)$class, "handle")
})
