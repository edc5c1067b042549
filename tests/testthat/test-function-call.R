# How a deployed function is called: options from the query, input by Content-Type, value by Accept.

call_function <- function(fun, query = "", body = NULL, type = NULL, accept = NULL, ..., name = "f") {
  app <- function_app(fun, name, ...)
  bytes <- if (is.character(body)) charToRaw(enc2utf8(body)) else body
  at <- 0
  read <- function(l = -1L) {
    rest <- length(bytes) - at
    taken <- bytes[at + seq_len(if (l < 0) rest else min(l, rest))]
    at <<- at + length(taken)
    taken
  }
  app$call(list(
    QUERY_STRING = query, CONTENT_TYPE = type, HTTP_ACCEPT = accept,
    CONTENT_LENGTH = if (length(bytes) > 0) as.character(length(bytes)), rook.input = list(read = read)
  ))
}

value_of <- function(...) {
  answer <- call_function(...)
  expect_identical(answer$status, 200L)
  if (is.raw(answer$body)) answer$body else as.character(answer$body)
}

refused <- function(...) {
  answer <- call_function(...)
  parsed <- jsonlite::fromJSON(answer$body)
  c(list(status = answer$status, cause = answer$headers[["Faucet-Error"]]), parsed)
}

# What the worker prints is the log's.
quietly <- function(code) {
  lines <- utils::capture.output(result <- code, type = "message")
  list(result = result, lines = lines)
}

test_that("the first argument is the input, and the others are options", {
  sed <- function(text, e) gsub(strsplit(e, "/")[[1]][[2]], strsplit(e, "/")[[1]][[3]], text)
  expect_identical(value_of(sed, "?e=s/hate/love/", "I hate this", "application/x-www-form-urlencoded"), "I love this")
  expect_identical(value_of(sed, "?e=s%2Fhate%2Flove%2F", "I hate this"), "I love this")
  expect_identical(value_of(function(x, n = 2L) n, "?n=3", accept = "application/json"), "3")
  expect_identical(value_of(function() "none"), "none")
  expect_identical(value_of(toupper, "", "abc"), "ABC")
  expect_identical(value_of(sum, "", "[1, 2, 3]", "application/json"), "6")
})

test_that("options have the type of their default", {
  got <- value_of(function(x, l = FALSE, i = 1L, d = -1.5, s = "a", v = c("a", "b"), n = NULL, e = Sys.time(), na = NA, t = T) { # nolint
    paste(typeof(l), typeof(i), typeof(d), typeof(s), typeof(v), typeof(n), typeof(e), typeof(na), typeof(t), l, t)
  }, "?l&i=7&d=1e3&s=1&v=b&n=1&e=1&na=1&t=false")
  expect_identical(got, "logical integer double character character character character character logical TRUE FALSE")
  expect_identical(value_of(function(x, ...) paste(names(list(...)), list(...)), "?a=1"), "a 1")
})

test_that("options that do not fit are named", {
  fun <- function(x, times = 1L, expression) NULL
  expect_identical(
    refused(fun, "?times=2"),
    list(status = 400L, cause = "bad_option", error = "option `expression` is missing, and has no default", option = "expression")
  )
  expect_identical(refused(fun, "?expression=a&nope=1")$option, "nope")
  expect_identical(refused(fun, "?expression=a&times=x")$error, "option `times` must be a whole number")
  expect_identical(refused(fun, "?expression=%ff")$status, 400L)
  expect_identical(refused(function(x, ...) x, "?x=1")$error, "`x` is the function's input, and no option")
  # One that is written like the function is none of R's business.
  expect_identical(value_of(function(x, f = "a") f, "?f=b"), "b")
})

test_that("input is what its type says", {
  what <- function(x) paste(class(x), collapse = " ")
  expect_identical(value_of(what, "", "{\"a\": [1, 2]}", "application/json"), "list")
  expect_identical(value_of(what, "", "[{\"a\": 1}]", "application/problem+json; charset=utf-8"), "data.frame")
  expect_identical(value_of(what, "", "a,b\n1,2\n", "text/csv"), "data.frame")
  expect_identical(value_of(what, "", "x", "Application/Octet-Stream"), "raw")
  expect_identical(value_of(what, "", "x", "text/markdown"), "character")
  expect_identical(value_of(what, "", "x"), "character")
  expect_identical(value_of(function(x) x, "", as.raw(0xe9), "text/plain; charset=\"latin1\""), "\u00e9")
  expect_identical(value_of(function(x = "default") x), "default")
  expect_identical(value_of(function(x) as.character(missing(x))), "TRUE")
  expect_identical(refused(what, "", as.raw(0xe9))$cause, "bad_input")
  expect_identical(refused(what, "", as.raw(c(97, 0)))$cause, "bad_input")
  expect_identical(refused(what, "", "{", "application/json")$cause, "bad_input")
  expect_identical(refused(what, "", "x", "text/plain; charset=klingon")$cause, "bad_input")
  expect_identical(refused(what, "", "x", "image/png")[c("status", "cause")], list(status = 415L, cause = "unsupported_input"))
})

test_that("a JSON text is not taken for a URL or a file", {
  file <- withr::local_tempfile(lines = "[1]")
  expect_identical(refused(function(x) x, "", file, "application/json")$cause, "bad_input")
})

test_that("RDS is read only by functions that say so", {
  bytes <- serialize(list(a = 1), NULL)
  what <- function(x) paste(class(x), collapse = " ")
  answer <- refused(what, "", bytes, "application/x-rds")
  expect_identical(answer[c("status", "cause")], list(status = 415L, cause = "unsupported_input"))
  expect_identical(value_of(what, "", bytes, "application/x-rds", rds = TRUE), "list")
  file <- withr::local_tempfile()
  saveRDS(list(a = 1), file)
  zipped <- readBin(file, "raw", file.size(file))
  expect_identical(value_of(what, "", zipped, "application/rds", rds = TRUE), "list")
  expect_identical(refused(what, "", "no RDS", "application/rds", rds = TRUE)$cause, "bad_input")
  # To write it is no danger.
  answer <- call_function(function(x) list(a = 1), accept = "application/x-rds, application/json;q=0.5")
  expect_identical(unserialize(answer$body), list(a = 1))
})

test_that("a value goes out as what the client likes best of what it can be", {
  type <- function(value, accept = NULL) call_function(function(x) value, accept = accept)$headers[["Content-Type"]]
  expect_identical(type("a"), "text/plain; charset=utf-8")
  expect_identical(type("a", "application/json"), "application/json")
  expect_identical(type(c("a", "b")), "application/json")
  expect_identical(type(as.raw(1)), "application/octet-stream")
  expect_identical(type(cars), "application/json")
  expect_identical(type(cars, "text/csv"), "text/csv; charset=utf-8")
  expect_identical(type(cars, "text/*;q=0.9, application/json;q=0.8"), "text/csv; charset=utf-8")
  expect_identical(type(cars, "text/html, */*;q=0.1"), "application/json")
  expect_identical(type(cars, "text/csv, application/json;q=0, */*"), "text/csv; charset=utf-8")
  expect_identical(value_of(function(x) data.frame(a = 1:2, b = c("x", NA)), accept = "text/csv"), "\"a\",\"b\"\n1,\"x\"\n2,\n")
  expect_identical(
    refused(function(x) 1, accept = "text/html")[c("status", "cause")], list(status = 406L, cause = "not_acceptable")
  )
})

test_that("values are the JSON that they look like", {
  json <- function(value) value_of(function(x) value, accept = "application/json")
  expect_identical(json(1), "1")
  expect_identical(json(1L), "1")
  expect_identical(json(0.1 + 0.2), "0.3")
  expect_identical(json(NA), "null")
  expect_identical(json(NULL), "null")
  expect_identical(json(TRUE), "true")
  expect_identical(json("a \"quoted\" \\ line\n\u00e9"), "\"a \\\"quoted\\\" \\\\ line\\u000a\u00e9\"")
  expect_identical(json(c(a = 1, b = 2)), "{\"a\":1,\"b\":2}")
  expect_identical(json(list(a = NULL, b = NA)), "{\"a\":null,\"b\":null}")
  expect_identical(json(jsonlite::toJSON(1)), "[1]")
  expect_identical(json(factor("a")), "\"a\"")
})

test_that("an error is the caller's to read, and with its call the log's", {
  fun <- function(text, e = "1") stop("no such thing: ", text)
  quiet <- quietly(refused(fun, "?e=2", "100% \"it\"", name = "sed"))
  expect_identical(quiet$result, list(status = 500L, cause = "function_error", error = "no such thing: 100% \"it\""))
  expect_match(paste(quiet$lines, collapse = "\n"), "Error in sed(text = text, e = e): no such thing: 100% \"it\"", fixed = TRUE)
  expect_identical(quietly(refused(function(x) x))$result$cause, "function_error")
  expect_identical(quietly(refused(function(x) rlang::abort("a", message = character())))$result$status, 500L)
})

test_that("a promise is kept", {
  skip_if_not_installed("promises")
  expect_identical(value_of(function(x) promises::promise_resolve("kept")), "kept")
})

test_that("a streaming function reads and writes in pieces", {
  up <- function(input, output, by = 4L) {
    while (!is.null(bytes <- input$read(by))) output$write(toupper(rawToChar(bytes)))
  }
  answer <- call_function(up, "?by=3", "abcdefgh", stream = TRUE)
  expect_identical(rawToChar(answer$body), "ABCDEFGH")
  expect_identical(answer$headers[["Content-Type"]], "text/plain; charset=utf-8")
  typed <- function(input, output) {
    output$type("text/csv")
    output$write("a\n")
  }
  expect_identical(call_function(typed, stream = TRUE)$headers[["Content-Type"]], "text/csv")
  quiet <- quietly(refused(function(input, output) output$write(1), stream = TRUE))
  expect_identical(quiet$result$cause, "function_error")
  expect_error(function_app(function(input) 1, "f", stream = TRUE), "`input` and `output`")
})

test_that("globals are found by the function and by those among them", {
  helper <- function(x) add + x
  environment(helper) <- globalenv()
  fun <- function(x) helper(as.numeric(x))
  environment(fun) <- globalenv()
  expect_identical(place_function(fun, list(helper = helper, add = 2))("1"), 3)
  # One that was made by a function keeps what it has from there.
  make <- function(own) function(x) own + add
  environment(make) <- globalenv()
  expect_identical(place_function(make(1), list(add = 2))(), 3)
  expect_identical(environment(place_function(stats::median, list())), environment(stats::median))
})

test_that("another version of R or of a package is named", {
  here <- as.character(getRversion())
  expect_silent(check_versions(list(r = here, packages = list(rlang = as.character(packageVersion("rlang")))), "f"))
  expect_silent(check_versions(list(r = paste0(sub("[.][0-9]+$", "", here), ".99")), "f"))
  expect_error(check_versions(list(r = "3.6.1"), "f"), paste0("deployed with R 3.6.1 (here is R ", here, ")"), fixed = TRUE)
  expect_error(
    check_versions(list(packages = list(rlang = "0.0.1", nosuchpackage = "1.0")), "f"),
    "rlang 0.0.1 \\(here is .*\\), nosuchpackage 1.0 \\(which is not installed here\\)"
  )
})

test_that("secrets are those that were declared", {
  withr::local_envvar(FAUCET_SECRETS = NA)
  expect_error(secret("db"), class = "faucet_error_secret")
  folder <- withr::local_tempdir()
  withr::local_envvar(FAUCET_SECRETS = folder)
  writeBin(charToRaw("p\u00e4ss\n"), file.path(folder, "db"))
  writeBin(as.raw(c(1, 0)), file.path(folder, "bytes"))
  expect_identical(secret("db"), "p\u00e4ss")
  expect_identical(expect_error(secret("bytes"), class = "faucet_error_secret")$secret, "bytes")
  for (name in c("other", "../db", "", "a/b")) expect_error(secret(name), class = "faucet_error_secret")
  expect_error(secret(1), class = "faucet_error_option")
})

test_that("a client that says nothing of what it accepts is not taken for one that says something else", {
  app <- function_app(function(x = "value") x, "f")
  answer <- app$call(list(QUERY_STRING = "", HTTP_ACCEPT_ENCODING = "identity", HTTP_ACCEPT_LANGUAGE = "de"))
  expect_identical(answer$status, 200L)
})
