skip_on_os("windows")

# What a Rook app is handed, and what becomes of its answers, is the same natively and through httpuv.

local_pair <- function(..., env = parent.frame()) {
  dir <- local_app("eval", env = env)
  lapply(rlang::set_names(kinds), function(kind) {
    local_server(dir, workers = 1, worker_type = kind, ..., env = env)
  })
}

both <- function(servers, path = "/", ..., headers = list()) {
  lapply(servers, function(server) {
    code <- quote({
      names <- setdiff(ls(req, all.names = TRUE), c("rook.input", "rook.errors"))
      mget(sort(names), req)
    })
    rlang::inject(rook_value(server, !!code, path, ..., headers = headers))
  })
}

# Connections, moments and requests differ. `.bodyData` is httpuv's own.
comparable_request <- function(values) {
  own <- c(
    ".bodyData", "REMOTE_PORT", "SERVER_PORT", "HTTP_X_REQUEST_ID", "HTTP_HOST", "HTTP_X_FORWARDED_HOST",
    "HTTP_X_CODE"
  )
  values <- values[setdiff(names(values), own)]
  headers <- values$HEADERS
  values$HEADERS <- headers[setdiff(names(headers), c("host", "x-request-id", "x-forwarded-host", "x-code"))]
  values
}

expect_same_request <- function(servers, ...) {
  values <- both(servers, ...)
  for (value in values) {
    for (name in c("HTTP_X_REQUEST_ID", "HTTP_HOST", "REMOTE_PORT", "SERVER_PORT")) expect_type(value[[name]], "character")
    expect_true(all(c("host", "x-request-id") %in% names(value$HEADERS)))
  }
  expect_identical(comparable_request(values$native), comparable_request(values$http))
  invisible(values$native)
}

test_that("a request's environment has the same names and values", {
  servers <- local_pair()
  expect_identical(lapply(servers, type_of), list(native = "native", http = "http"))

  expect_same_request(servers)
  expect_same_request(servers, "/a/b/")
  got <- expect_same_request(servers, "/path%20with/%2Fescapes/%C3%A9/a+b;c=d")
  expect_identical(got$PATH_INFO, "/path%20with/%2Fescapes/%C3%A9/a+b;c=d")
  got <- expect_same_request(servers, "/q?a=1&b=%20x+y&a=2&c")
  expect_identical(got$QUERY_STRING, "?a=1&b=%20x+y&a=2&c")
  expect_same_request(servers, "/q?")
  expect_same_request(servers, "/q??a=/b?c")
  for (method in c("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")) {
    got <- expect_same_request(servers, "/m", method = method, body = "some=body", type = "text/x-own; charset=utf-8")
    expect_identical(got$REQUEST_METHOD, method)
    expect_identical(got$CONTENT_TYPE, "text/x-own; charset=utf-8")
    expect_identical(got$CONTENT_LENGTH, "9")
  }
})

test_that("a request's headers have the same names and values, also those that come twice", {
  servers <- local_pair()
  got <- expect_same_request(servers, headers = list(
    `X-Twice` = "one", `X-Twice` = "two, three", `X-Under_Score` = "u", Cookie = "a=1; b=2", `X-Empty` = "",
    `User-Agent` = "Custom/1.0", Authorization = "Basic eDp5"
  ))
  expect_identical(got$HEADERS[["x-twice"]], "one,two, three")
  expect_identical(got$HTTP_X_TWICE, "one,two, three")
  expect_identical(got$HTTP_COOKIE, "a=1; b=2")
})

# What both answer to a request with these lines in its head.
raw_answers <- function(servers, code, lines = character()) {
  head <- c("GET / HTTP/1.1", "Host: a", paste("X-Code:", as_code(code)[["X-Code"]]), lines, "Connection: close", "", "")
  lapply(servers, function(server) exchange(server$url, charToRaw(paste(head, collapse = "\r\n"))))
}

test_that("headers that are empty, or no UTF-8, have the same values", {
  servers <- local_pair()
  code <- quote(list(status = 200L, headers = list(), body = serialize(
    list(req$HTTP_X_TEST, req$HEADERS[["x-test"]], req$CONTENT_TYPE, names(req$HEADERS)), NULL
  )))
  heads <- list(
    c("X-Test: a", "X-Test:"), c("X-Test:", "X-Test: a"), c("X-Test: a", "X-Test:", "X-Test: b"), c("X-Test:", "X-Test:"),
    "X-Test: \xe9t\xe9", c("X-Test: \xe9", "X-Test: a"), "X-Test: \u00e9", c("X-Test: a", "Content-Type: text/\xe9")
  )
  for (lines in heads) {
    got <- lapply(raw_answers(servers, code, lines), function(answer) {
      values <- unserialize(answer$body)
      list(lapply(values[1:3], function(value) if (!is.null(value)) charToRaw(value)), values[[4]])
    })
    expect_identical(got$native, got$http, info = paste(lines, collapse = " and "))
  }
})

test_that("a body is read whole, in pieces, by lines, and again", {
  body <- charToRaw("first\nsecond\r\n\nlast without an end")
  for (server in local_pair()) {
    ask <- function(code, body) {
      rlang::inject(rook_value(server, !!substitute(code), method = "POST", body = body, type = "text/plain"))
    }
    expect_identical(ask(req$rook.input$read(), body), body)
    expect_identical(ask(req$rook.input$read_lines(), body), c("first", "second", "", "last without an end"))
    pieces <- ask(
      {
        input <- req$rook.input
        list(input$read(3), input$read(4), input$read_lines(1), input$read(2), input$read(1000L), input$read(), input$read(5))
      },
      body
    )
    expect_identical(do.call(c, pieces[c(1:2)]), body[1:7])
    expect_identical(pieces[[3]], "econd")
    expect_identical(c(pieces[[4]], pieces[[5]]), body[15:length(body)])
    expect_identical(pieces[6:7], list(raw(), raw()))
    again <- ask(
      {
        input <- req$rook.input
        first <- input$read()
        input$rewind()
        second <- input$read(5)
        input$rewind()
        list(first, second, input$read_lines(2), input$read_lines(0))
      },
      body
    )
    expect_identical(again, list(body, body[1:5], c("first", "second"), character()))
    # None at all.
    expect_identical(rook_value(server, req$rook.input$read()), raw())
    expect_identical(rook_value(server, req$rook.input$read_lines()), character())
  }
})

test_that("as many lines are read as are asked for, and the rest is left", {
  servers <- local_pair()
  for (body in c("\nb", "a\nb", "a\n", "a\rb\rc", "a\r\nb\r\n", "\r\n\r", "\n\n\nc", "a")) {
    # After a CR alone, R's connections, and so httpuv, lose a byte to whoever goes on with bytes.
    rest <- if (grepl("\r([^\n]|$)", body)) quote(input$read_lines(1)) else quote(input$read())
    for (n in 0:3) {
      got <- lapply(servers, function(server) {
        code <- bquote({
          input <- req$rook.input
          list(input$read_lines(.(n)), .(rest), input$read_lines())
        })
        rlang::inject(rook_value(server, !!code, method = "POST", body = body, type = "text/plain"))
      })
      expect_identical(got$native, got$http, info = paste(n, "of", encodeString(body)))
    }
  }
})

test_that("a body in the front's temporary file is read whole and in pieces", {
  server <- local_server(local_app("eval"), workers = 1, worker_type = "native", body_memory = "64KB")
  withr::local_seed(1)
  body <- as.raw(sample(0:255, 3e5, replace = TRUE))
  got <- rook_value(
    server,
    {
      input <- req$rook.input
      parts <- list()
      repeat {
        part <- input$read(10007)
        if (length(part) == 0) break
        parts <- c(parts, list(part))
      }
      input$rewind()
      list(parts = unlist(parts), whole = input$read(), length = req$CONTENT_LENGTH)
    },
    method = "POST", body = body, type = "application/octet-stream"
  )
  expect_true(identical(got$parts, body))
  expect_true(identical(got$whole, body))
  expect_identical(got$length, "300000")
})

test_that("a body that comes in chunks has its length", {
  server <- local_server(local_app("eval"), workers = 1, worker_type = "native")
  address <- sub("^http://", "", server$url)
  connection <- socketConnection("127.0.0.1", as.integer(sub("^.*:", "", address)), open = "r+b", blocking = TRUE, timeout = 60)
  withr::defer(close(connection))
  code <- as_code(quote(list(status = 200L, headers = list(), body = paste(
    req$CONTENT_LENGTH, req$HTTP_CONTENT_LENGTH, length(req$HTTP_TRANSFER_ENCODING), rawToChar(req$rook.input$read())
  ))))
  writeLines(c(
    "POST / HTTP/1.1", paste("Host:", address), paste("X-Code:", code[["X-Code"]]), "Connection: close",
    "Transfer-Encoding: chunked", "", "5", "hello", "6", " world", "0", ""
  ), connection, sep = "\r\n")
  answer <- readLines(connection, warn = FALSE)
  expect_match(answer[[1]], "^HTTP/1.1 200")
  expect_match(answer, "^11 11 0 hello world$", all = FALSE)
})

own_answer_headers <- c("date", "connection", "keep-alive", "x-request-id", "transfer-encoding")

comparable_answer <- function(answer) {
  answer$headers <- answer$headers[!names(answer$headers) %in% own_answer_headers]
  answer$headers <- answer$headers[order(names(answer$headers))]
  answer
}

# What both answer, if they do the same.
expect_same_answer <- function(servers, code, ..., headers = list(`Accept-Encoding` = "identity")) {
  code <- substitute(code)
  answers <- lapply(servers, function(server) comparable_answer(rlang::inject(rook(server, !!code, ..., headers = headers))))
  expect_identical(answers$native, answers$http)
  answers$native
}

test_that("answers of all forms arrive as the app gave them", {
  servers <- local_pair()
  text <- expect_same_answer(servers, list(status = 200L, headers = list("Content-Type" = "text/plain"), body = "hello"))
  expect_identical(text$text, "hello")
  expect_identical(text$headers, list("content-length" = "5", "content-type" = "text/plain"))

  utf8 <- expect_same_answer(servers, list(status = 200L, headers = list("X-A" = "b"), body = "\u00e9\u4f60"))
  expect_identical(utf8$body, charToRaw(enc2utf8("\u00e9\u4f60")))

  bytes <- expect_same_answer(servers, list(status = 201L, headers = list(), body = as.raw(0:255)))
  expect_identical(bytes$status, 201L)
  expect_identical(bytes$body, as.raw(0:255))

  for (nothing in list("", raw())) {
    empty <- expect_same_answer(servers, list(status = 200L, headers = list(), body = if (length(req$HTTP_X_RAW)) raw() else ""),
      headers = c(`Accept-Encoding` = "identity", if (is.raw(nothing)) list(`X-Raw` = "1"))
    )
    expect_identical(empty$body, raw())
    expect_identical(empty$headers[["content-length"]], "0")
  }

  numbers <- expect_same_answer(servers, list(status = 404, headers = list("X-Number" = 12L, "X-Real" = 0.5), body = "no"))
  expect_identical(numbers$headers[["x-number"]], "12")

  twice <- expect_same_answer(servers, list(
    status = 200L, headers = list("Set-Cookie" = "a=1", "X-Between" = "x", "Set-Cookie" = "b=2; Path=/"), body = "x"
  ))
  expect_identical(unlist(twice$headers[names(twice$headers) == "set-cookie"], use.names = FALSE), c("a=1", "b=2; Path=/"))
})

test_that("text is sent as the bytes that it has, in headers and bodies", {
  servers <- local_pair()
  codes <- list(
    quote(list(status = 200L, headers = list("X-A" = "b"), body = iconv("\u00e9", "UTF-8", "latin1"))),
    quote(list(status = 200L, headers = list("X-A" = iconv("\u00e9", "UTF-8", "latin1"), "X-B" = "\u00e9"), body = "x")),
    quote(list(status = 200L, headers = list("X-A" = "b"), body = c("the first", "and no other"))),
    quote(list(status = 200L, headers = list("X-A" = "b"), body = NA_character_))
  )
  for (code in codes) {
    answers <- lapply(raw_answers(servers, code), comparable_answer)
    expect_identical(answers$native$status, 200L)
    expect_identical(answers$native[c("headers", "body")], answers$http[c("headers", "body")])
  }
})

test_that("an answer that httpuv refuses is refused in the same words", {
  servers <- local_pair()
  pid <- servers$native$status()$pid
  codes <- list(
    quote(list(status = 200L, headers = list(), body = character())),
    quote(list(status = 200L, headers = list("X-A" = c("a", "b")), body = "x")),
    quote(list(status = 200L, headers = list("X-A" = character()), body = "x")),
    quote(list(status = 200L, headers = list(), body = c(file = "/nowhere/at/all"))),
    quote(list(status = 200L, headers = list(), body = c(file = tempdir())))
  )
  for (code in codes) {
    answers <- lapply(raw_answers(servers, code), comparable_answer)
    expect_identical(answers$native$status, 500L)
    expect_identical(answers$native[c("headers", "body")], answers$http[c("headers", "body")])
  }
  expect_identical(servers$native$status()$pid, pid)
})

test_that("answers are compressed for clients that take that, and say the same to all", {
  servers <- local_pair()
  long <- strrep("long ", 10000)
  for (encoding in c("gzip", "deflate, gzip", "br, *;q=0.1", "gzip;q=0", "deflate", "")) {
    headers <- list(`Accept-Encoding` = encoding)
    answers <- lapply(servers, function(server) {
      rook(
        server, list(status = 200L, headers = list("Content-Type" = "text/plain"), body = strrep("long ", 10000)),
        headers = headers
      )
    })
    expect_identical(answers$native$text, long)
    expect_identical(answers$http$text, long)
    # httpuv looks for the word only.
    packed <- answers$native$headers[["content-encoding"]]
    expect_identical(packed, if (encoding %in% c("gzip", "deflate, gzip", "br, *;q=0.1")) "gzip")
    for (server in servers) {
      expect_identical(rook(server, list(status = 200L, headers = list(), body = ""), headers = headers)$body, raw())
      expect_identical(rook(server, list(status = 200L, headers = list(), body = "short"), headers = headers)$text, "short")
    }
  }
})

test_that("204 and 304 have no body, whatever the app says, and the next answer is whole", {
  for (server in local_pair()) {
    for (status in c(204L, 304L)) {
      code <- bquote(list(status = .(status), headers = list("X-A" = "b"), body = ""))
      answer <- rlang::inject(rook(server, !!code))
      expect_identical(answer$status, status)
      expect_identical(answer$headers[["x-a"]], "b")
      expect_length(answer$body, 0)
    }
  }
  server <- local_server(local_app("eval"), workers = 1, worker_type = "native")
  for (status in c(204L, 304L)) {
    code <- bquote(list(status = .(status), headers = list(), body = "not to be said"))
    answer <- rlang::inject(rook(server, !!code))
    expect_identical(answer$status, status)
    expect_length(answer$body, 0)
    expect_identical(rook(server, list(status = 200L, headers = list(), body = "next"))$text, "next")
  }
})

test_that("HEAD has no body, but what GET would have said of it", {
  for (server in local_pair()) {
    answer <- rook(server, list(status = 200L, headers = list("X-A" = "b"), body = "hello"), method = "HEAD")
    expect_identical(answer$status, 200L)
    expect_identical(answer$headers[["x-a"]], "b")
    expect_length(answer$body, 0)
    expect_identical(rook(server, list(status = 200L, headers = list(), body = "next"))$text, "next")
  }
})

test_that("an error in the app is a 500 that says the same, and costs no worker", {
  servers <- local_pair()
  pids <- lapply(servers, function(server) server$status()$pid)
  failed <- expect_same_answer(servers, stop("failed: 100% %s {here}"))
  expect_identical(failed$status, 500L)
  expect_match(failed$text, "failed: 100% %s {here}", fixed = TRUE)
  expect_identical(lapply(servers, function(server) server$status()$pid), pids)
})

test_that("an answer that cannot be said in HTTP is a 500 that does not say why, and costs no worker", {
  server <- local_server(local_app("eval"), workers = 1, worker_type = "native")
  pid <- server$status()$pid
  expect_500 <- function(code) {
    answer <- rlang::inject(rook(server, !!substitute(code)))
    expect_identical(answer$status, 500L)
    expect_identical(answer$text, "An exception occurred.")
    expect_identical(rook(server, list(status = 200L, headers = list(), body = "next"))$text, "next")
  }
  expect_500(list(status = 99L, headers = list(), body = "x"))
  expect_500(list(status = 100L, headers = list(), body = "x"))
  expect_500(list(status = 1000L, headers = list(), body = "x"))
  expect_500(list(status = NA_integer_, headers = list(), body = "x"))
  expect_500(list(status = "OK", headers = list(), body = "x"))
  expect_500(list(headers = list(), body = "x"))
  expect_500(list(status = 200L, headers = list("X A" = "b"), body = "x"))
  expect_500(list(status = 200L, headers = list("X-A" = "b\r\nX-Injected: c"), body = "x"))
  expect_500(list(status = 200L, headers = list("without a name"), body = "x"))
  expect_500(list(status = 200L, headers = list(), body = list(1)))
  expect_500(list(status = 200L, headers = list(), body = 1))
  expect_500(invisible(NULL))
  expect_500(paste("just text"))
  expect_500(quote(symbol))
  expect_identical(server$status()$pid, pid)
  expect_identical(server$status()$restarts, 0L)
})

test_that("what the app says of framing, or of faucet's own headers, is not passed on", {
  server <- local_server(local_app("eval"), workers = 1, worker_type = "native")
  secret <- withr::local_tempfile(lines = "secret")
  answer <- rook(server, list(status = 200L, headers = list(
    "Content-Length" = "2", "Transfer-Encoding" = "chunked", "Connection" = "close", "Faucet-Stream" = "1", "Faucet-Request" = "7"
  ), body = "hello"))
  expect_identical(answer$text, "hello")
  expect_identical(answer$headers[["content-length"]], "5")
  expect_false(any(c("transfer-encoding", "faucet-stream", "faucet-request") %in% names(answer$headers)))
  # Nor what a client says of them.
  seen <- rook_value(server, names(req$HEADERS), headers = list(
    `Faucet-Request` = "99", `Faucet-Body-File` = paste("7", secret), `Faucet-Stream` = "1"
  ))
  expect_false(any(startsWith(seen, "faucet-")))
})

test_that("plumber answers before the body is read where it is too large", {
  for (kind in kinds) {
    dir <- local_code("plumber.R" = c(
      "options(plumber.maxRequestSize = 10)", "#* @post /", "#* @parser text", "#* @serializer text", "function(req) \"taken\""
    ))
    server <- local_server(dir, workers = 1, worker_type = kind)
    expect_identical(type_of(server), kind)
    expect_identical(request(server, "/", "POST", strrep("x", 10), type = "text/plain")$text, "taken")
    refused <- request(server, "/", "POST", strrep("x", 11), type = "text/plain")
    expect_identical(refused$status, 413L)
    expect_identical(refused$text, "Maximum upload size exceeded")
    expect_identical(request(server, "/", "POST", "x", type = "text/plain")$text, "taken")
  }
})

test_that("requests know the port that clients use, as with plumber alone", {
  server <- local_server(local_app("eval"), workers = 1, worker_type = "native")
  expect_identical(rook_value(server, req$SERVER_PORT), sub("^.*:", "", server$url))
  expect_identical(rook_value(server, req$SERVER_NAME), "127.0.0.1")
  server$stop()
  server <- local_server(local_app("eval"), workers = 1, worker_type = "native", preload = TRUE, host = "127.0.0.2")
  expect_identical(rook_value(server, req$SERVER_PORT), sub("^.*:", "", server$url))
  expect_identical(rook_value(server, req$SERVER_NAME), "127.0.0.2")
})

test_that("why an answer failed is told to the log, with the request's id, and not to the client", {
  server <- suppressMessages(local_server(local_app("eval"), workers = 1, worker_type = "native", quiet = FALSE))
  exception <- "An exception occurred."
  failure <- function(code, logged, told = exception) list(code = code, logged = logged, told = told)
  failures <- list(
    failure(quote(list(status = NULL, headers = list(), body = "x")), "must be a number"),
    failure(quote(list(status = 200L, headers = list("x"), body = "x")), "must have names"),
    failure(quote(list(status = 200L, headers = list(), body = TRUE)), "must be raw, text"),
    failure(quote(list(status = 200L, headers = list(), body = c(file = "/nowhere/at/all"))), "does not exist",
      "500 Internal Server Error\n"),
    failure(quote(list(status = 200L, headers = list("X-A" = 1:2), body = "x")), "header X-A of a response must have one value"),
    failure(quote(list(status = 200L, headers = list(), body = character())), "length 1"),
    failure(quote(list(status = 200L, headers = list("X-A" = "a\nb"), body = "x")), "X-A"),
    failure(quote(faucet::stream(req, NULL, "no function")), "must be a function of one argument"),
    # The app's own, as httpuv has it.
    failure(quote(stop("the app's reason")), "the app's reason", "ERROR: the app's reason"),
    failure(quote(promises::promise_reject("a rejected reason")), "a rejected reason", "ERROR: a rejected reason")
  )
  for (failure in failures) {
    answer <- rlang::inject(rook(server, !!failure$code))
    expect_identical(answer$status, 500L, info = failure$logged)
    expect_identical(answer$text, failure$told, info = failure$logged)
    id <- answer$headers[["x-request-id"]]
    lines <- messages_until(server, any(grepl(paste0("(request ", id, ")"), seen, fixed = TRUE)))
    expect_match(paste(lines, collapse = "\n"), failure$logged, fixed = TRUE, info = failure$logged)
  }
  expect_identical(rook_value(server, "well"), "well")
})
