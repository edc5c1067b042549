test_that("a chain is told from a name", {
  for (name in c("sed", "api/predict", "a.b-c_d")) expect_false(is_chain(name))
  for (chain in c("a | b", "a|b", "sed e=x", "sed(e='x')", "a\nb")) expect_true(is_chain(chain))
})

# What check_call() returns.
how <- function(...) {
  utils::modifyList(list(timeout = Inf, buffer = FALSE, async = FALSE, retry = FALSE, method = "POST"), list(...))
}

test_that("calls go where they are asked for", {
  path <- function(name, options = list(), ...) call_target(name, options, how(...))$path
  expect_identical(path("sed", list(e = "x")), "/functions/sed?e=x")
  expect_identical(path("sed e=x | b"), "/invoke?chain=sed%20e%3Dx%20%7C%20b")
  expect_identical(path("a | b", timeout = 1.5), "/invoke?chain=a%20%7C%20b&timeout=1.5")
  expect_identical(path("a", buffer = TRUE), "/invoke?chain=a&buffer=1")
  expect_identical(utils::URLdecode(path("sed", list(e = "it's \\ |", n = 1:2), buffer = TRUE)),
    "/invoke?chain=sed(e = 'it\\'s \\\\ |', n = '1', n = '2')&buffer=1"
  )
  expect_identical(
    path("a", async = TRUE, callback = "http://x/y?z", result_ttl = 1e6, retry = TRUE, timeout = 5),
    "/async?chain=a&timeout=5&callback=http%3A%2F%2Fx%2Fy%3Fz&result_ttl=1000000&retry=1"
  )
  # The server's own word on its deadline comes first.
  expect_gt(call_target("a | b", list(), how(timeout = 2))$patience, 2)
  expect_error(call_target("a | b", list(e = 1), how()), class = "faucet_error_option")
  expect_error(call_target("a | b", list(), how(method = "GET")), class = "faucet_error_option")
  expect_error(call_target("api/x", list(), how(buffer = TRUE)), class = "faucet_error_option")
})

test_that("what makes no sense together is refused", {
  for (code in expression(
    invoke("a", "x", callback = "http://x"), invoke("a", "x", result_ttl = 3), invoke("a", "x", retry = TRUE),
    invoke("a", "x", async = TRUE, buffer = TRUE), invoke("a", "x", async = TRUE, output = "file"),
    invoke("a", "x", buffer = NA), invoke("a | b", "x", e = 1)
  )) {
    expect_error(eval(code), class = "faucet_error_option")
  }
})

test_that("a mark is below what is wrong in a chain", {
  expect_identical(unname(show_column("a | | b", 5)), c("a | | b", "    ^"))
  expect_identical(unname(show_column("a |", 4)), c("a |", "   ^"))
  expect_identical(unname(show_column("\u4e2d |\t x", 3)), c("\u4e2d |  x", "   ^"))
  expect_null(show_column("a", NULL))
  # Of a long one, what is near.
  long <- paste(rep("abc", 100), collapse = " | ")
  shown <- unname(show_column(long, 301))
  expect_match(shown[[1]], "^[.]{3}.*[.]{3}$")
  expect_identical(substring(shown[[1]], nchar(shown[[2]]), nchar(shown[[2]])), substring(long, 301, 301))
})

# A server that answers as its chain says. (Of a worker's own causes, a front passes only some on.)
local_failing <- function(env = parent.frame()) {
  local_answers(env = env, function(req) {
    answer <- function(status, cause, body) {
      headers <- list("Content-Type" = "application/json", "Faucet-Error" = cause)
      list(status = status, headers = headers, body = body)
    }
    if (grepl("nosuch", req$QUERY_STRING, fixed = TRUE)) {
      answer(404L, "no_function", '{"error": "there is no function {x}", "stage": 2, "function": "nosuch", "call_id": "c1"}')
    } else if (grepl("bad", req$QUERY_STRING, fixed = TRUE)) {
      answer(400L, "bad_chain", '{"error": "a function\'s name is missing", "column": 7, "call_id": "c2"}')
    } else if (grepl("fail", req$QUERY_STRING, fixed = TRUE)) {
      answer(500L, "function_error", '{"error": "100% wrong", "stage": 1, "function": "fail", "call_id": "c3"}')
    } else {
      list(status = 200L, headers = list("Content-Type" = "text/plain"), body = "well")
    }
  })
}

test_that("an error of a chain tells the stage, and where a chain cannot be read", {
  local_failing()
  expect_identical(invoke("a | b", "x"), "well")
  error <- expect_error(invoke("fail | a", "x"), class = "faucet_invoke_error")
  expect_true(all(c("faucet_error_invoke_function_error", "faucet_error_invoke", "faucet_error") %in% class(error)))
  expect_identical(error[c("error", "stage", "function", "call_id", "status", "cause")], list(
    error = "100% wrong", stage = 1L, `function` = "fail", call_id = "c3", status = 500L, cause = "function_error"
  ))
  expect_identical(expect_error(invoke("bad | | x", "x"), class = "faucet_invoke_error")$column, 7L)
  expect_snapshot_errors({
    invoke("a | nosuch", "x")
    invoke("bad | | x", "x")
    invoke("fail | a", "x")
  })
})

test_that("a call without an answer is an error of calls, too", {
  to <- paste0("127.0.0.1:", free_port())
  error <- expect_error(invoke("a | b", "x", to = to), class = "faucet_invoke_error")
  expect_s3_class(error, "faucet_error_connect")
  expect_identical(error[c("stage", "function", "call_id", "status", "cause")], list(
    stage = NA_integer_, `function` = NA_character_, call_id = NA_character_, status = NA_integer_, cause = "connect"
  ))
  expect_match(error$error, "cannot be reached", fixed = TRUE)
})

test_that("callers have a token of their own", {
  local_answers(function(req) {
    list(status = 200L, headers = list("Content-Type" = "text/plain"), body = req$HTTP_AUTHORIZATION)
  })
  withr::local_options(faucet.token = "deployer")
  expect_identical(invoke("a", "x"), "Bearer deployer")
  withr::local_options(faucet.call_token = "caller")
  expect_identical(invoke("a", "x"), "Bearer caller")
  expect_identical(invoke("a", "x", token = "given"), "Bearer given")
})

test_that("a chain of functions is called, whatever its input and output are", {
  local_agent()
  deploy_quietly(function(text, e) {
    parts <- strsplit(e, "/", fixed = TRUE)[[1]]
    sub(parts[[2]], parts[[3]], text)
  }, name = "sed")
  deploy_quietly(function(text) toupper(text), name = "to-upper")
  echo <- function(input, output) while (!is.null(bytes <- input$read())) output$write(bytes)
  deploy_quietly(echo, stream = TRUE)
  deploy_quietly(function(input, output) {
    output$write("begun")
    stop("no more")
  }, name = "break", stream = TRUE)
  expect_identical(invoke("sed e=s/hate/love/ | to-upper", "I hate this"), "I LOVE THIS")
  expect_identical(invoke("sed(e = 's/hate/lo | ve/') | to_upper", "I hate this"), "I LO | VE THIS")

  # More than any buffer on the way, in both directions at the same time.
  bytes <- as.raw(rep(0:250, length.out = 3e6))
  from <- withr::local_tempfile()
  to <- withr::local_tempfile()
  writeBin(bytes, from)
  input <- file(from, "rb")
  withr::defer(close(input))
  invoke("echo | echo", input, output = to)
  expect_identical(readBin(to, "raw", 4e6), bytes)

  error <- expect_error(invoke("sed e=s/a/b/ | nosuch", "x"), class = "faucet_error_invoke_no_function")
  expect_identical(error[c("stage", "function", "status")], list(stage = 2L, `function` = "nosuch", status = 404L))
  error <- expect_error(invoke("to-upper | sed", "x"), class = "faucet_error_invoke_bad_option")
  expect_identical(error[c("stage", "function", "option")], list(stage = 2L, `function` = "sed", option = "e"))
  error <- expect_error(invoke("to-upper | | sed", "x"), class = "faucet_error_invoke_bad_chain")
  expect_identical(error$column, 12L)
  error <- expect_error(invoke("to-upper | sed e=x", "x"), class = "faucet_error_invoke_function_error")
  expect_identical(error[c("stage", "function", "status")], list(stage = 2L, `function` = "sed", status = 500L))
  expect_match(error$call_id, "^[0-9a-f-]+$")
  # In the middle of the answer: never a value.
  expect_error(invoke("break | echo", "x"), class = "faucet_invoke_error")
  expect_error(invoke("echo | break", "x", output = to), class = "faucet_invoke_error")
  expect_identical(file.size(to), 3e6)
  error <- expect_error(invoke("break | echo", "x", buffer = TRUE), class = "faucet_invoke_error")
  expect_identical(error$stage, 1L)
})
