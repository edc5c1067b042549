query_of <- function(...) {
  call_query(list(...))
}

test_that("options become a query", {
  expect_identical(query_of(), "")
  expect_identical(query_of(e = "s/a b/\u00e9&=/"), "?e=s%2Fa%20b%2F%C3%A9%26%3D%2F")
  expect_identical(query_of(n = 3, quiet = TRUE, x = NULL, f = factor("b")), "?n=3&quiet=true&f=b")
  expect_identical(query_of(id = 1:3), "?id=1&id=2&id=3")
  expect_identical(query_of(x = 1e6, y = 0.1, z = 1L, big = 2^53, tiny = 1e-300), "?x=1000000&y=0.1&z=1&big=9007199254740992&tiny=1e-300")
  third <- sub("^[?]x=", "", query_of(x = 1 / 3))
  expect_identical(as.numeric(third), 1 / 3)
  expect_identical(query_of(day = as.Date("2024-02-29")), "?day=2024-02-29")
  expect_identical(query_of(x = character()), "")
  for (value in list(NA, list(1), mean, c("a", NA), 1i)) {
    expect_error(call_query(list(x = value)), class = "faucet_error_option")
  }
  expect_error(query_of(1), class = "faucet_error_option")
  expect_error(query_of(a = 1, 2), class = "faucet_error_option")
})

test_that("an input is sent as what it is", {
  sent <- function(input, type = NULL, rds = FALSE) encode_input(input, type, rds)
  expect_identical(sent("caf\u00e9"), list(body = charToRaw("caf\u00e9"), type = "text/plain; charset=utf-8"))
  expect_identical(sent(as.raw(1:3)), list(body = as.raw(1:3), type = "application/octet-stream"))
  json <- function(input) {
    made <- sent(input)
    expect_identical(made$type, "application/json")
    rawToChar(made$body)
  }
  expect_identical(json(c("a", NA)), '["a",null]')
  expect_identical(json(list(a = 1, b = NULL)), '{"a":1,"b":null}')
  expect_identical(json(0.1 + 0.2), "0.3")
  expect_identical(json(data.frame(x = 1:2)), '[{"x":1},{"x":2}]')
  expect_identical(json(NULL), "null")
  expect_identical(sent("<a/>", "application/xml"), list(body = charToRaw("<a/>"), type = "application/xml"))
  expect_identical(unserialize(sent(mtcars, rds = TRUE)$body), mtcars)
  expect_error(sent(3, "text/plain"), class = "faucet_error_option")
  expect_error(sent(quote(x + y)), class = "faucet_error_option")
})

test_that("an answer becomes what it is", {
  read <- function(type, body, rds = FALSE) {
    if (is.character(body)) body <- charToRaw(body)
    decode_answer(list(status = 200L, headers = list("content-type" = type), body = body), rds)
  }
  expect_identical(read("application/json; charset=utf-8", '{"a": [1, 2]}'), list(a = 1:2))
  expect_identical(read("text/plain", "caf\u00e9"), "caf\u00e9")
  expect_identical(read("text/plain; charset=ISO-8859-1", as.raw(c(0x63, 0xe9))), "c\u00e9")
  expect_identical(read("text/csv", "a,b\n1,x\n"), data.frame(a = 1L, b = "x"))
  expect_identical(read("application/octet-stream", as.raw(0:3)), as.raw(0:3))
  expect_identical(read("text/plain", raw()), "")
  expect_null(read("application/json", raw()))
  # RDS is bytes unless somebody trusts it.
  bytes <- serialize(1:3, NULL)
  expect_identical(read("application/x-rds", bytes), bytes)
  expect_identical(read("application/x-rds", bytes, rds = TRUE), 1:3)
  error <- expect_error(read("application/json", "{"), class = "faucet_error_invoke")
  expect_identical(error$cause, "bad_answer")
})

test_that("names lead to functions, and to paths below them", {
  expect_identical(call_path("sed"), "/functions/sed")
  expect_identical(call_path("api/a b/c"), "/functions/api/a%20b/c")
  expect_identical(call_path("api/"), "/functions/api/")
  for (name in list("", "/x", "../x", "a b", NA_character_, 3, c("a", "b"))) {
    expect_error(call_path(name), class = "faucet_error_option")
  }
})
