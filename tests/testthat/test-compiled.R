# What requests get from compiled routes, and what becomes of those that are not plain after all. That all of it is what plumber
# says is for test-differential.R.

skip_on_cran()
skip_on_os("windows")
skip_if_not_installed("plumber")

# Serves endpoints as lines of a plumber.R; `said()` is what the worker says.
serve_lines <- function(..., env = parent.frame()) {
  dir <- withr::local_tempdir(.local_envir = env)
  writeLines(c(...), file.path(dir, "plumber.R"))
  local_server(dir, workers = 1, quiet = FALSE, env = env)
}

test_that("arguments are of their types, and those of the query come before those of the path", {
  server <- serve_lines(
    "#* @get /of/<i:int>/<d:dbl>/<b:bool>/<s>", "function(i, d, b, s) list(i, d, b, s, typeof(d))",
    "#* @get /all/<x>", "function(req, ...) list(names(list(...)), req$argsPath, req$PATH_INFO)"
  )
  got <- function(path) request(server, path)$text
  expect_identical(got("/of/7/1.5/TRUE/a%20b"), '[[7],[1.5],[true],["a%20b"],["double"]]')
  expect_identical(got("/of/007/-.5/t/x?i=8&s=y+z&s=%41"), '[["8"],[-0.5],[null],["y z","A"],["double"]]')
  expect_identical(got("/of/99999999999/1/F/x"), '[["NA"],[1],[false],["x"],["double"]]')
  expect_identical(got("/all/1?x=2"), '[["res","x","x"],{"x":["1"]},["/all/1"]]')
})

test_that("a handler runs once, whatever becomes of it", {
  server <- serve_lines(
    "runs <- 0", "once <- function(value) { runs <<- runs + 1; value }", "skip <- function() plumber::forward()",
    "later <- function() promises::promise_resolve(1)",
    "#* @get /runs", "function() runs",
    "#* @get /error", "function() once(stop('no'))",
    "#* @get /counted", "function() { once(1); stop('no') }",
    "#* @get /promise", "function() once(later())",
    "#* @get /forward", "function() { once(1); skip() }",
    "#* @get /attachment", "function() once(plumber::as_attachment('a', 'a.txt'))",
    "#* @get /changed", "function(res) { res$serializer <- plumber::serializer_html(); once('<p>') }",
    "#* @get /unserializable", "#* @serializer text", "function() once(list(function() 1))"
  )
  runs <- function() json(request(server, "/runs"))
  suppressMessages({
    expect_identical(request(server, "/counted")$status, 500L)
    expect_identical(runs(), 1L)
    expect_identical(request(server, "/promise")$text, "[1]")
    expect_identical(runs(), 2L)
    expect_identical(request(server, "/forward")$status, 404L)
    expect_identical(runs(), 3L)
    attached <- request(server, "/attachment")
    expect_match(attached$headers[["content-disposition"]], "a.txt", fixed = TRUE)
    expect_identical(runs(), 4L)
    expect_identical(request(server, "/changed")$text, "<p>")
    expect_identical(runs(), 5L)
    request(server, "/unserializable")
    expect_identical(runs(), 6L)
  })
})

test_that("a handler that fails leaves request and response to the router's error handler", {
  server <- serve_lines(
    "#* @plumber", "function(pr) plumber::pr_set_error(pr, function(req, res, err) {",
    "  list(conditionMessage(err), req$seen, req$body, req$PATH_INFO)", "})",
    "#* @post /x", "function(req, res) {",
    "  req$seen <- 'yes'; req$body <- 'mine'; res$status <- 418L; res$setHeader('X-A', 'b'); stop('no')", "}"
  )
  got <- request(server, "/x", "POST", charToRaw('{"a":1}'))
  expect_identical(got$status, 418L)
  expect_identical(got$headers[["x-a"]], "b")
  expect_identical(got$text, '[["no"],["yes"],["mine"],["/x"]]')
})

test_that("plumber goes on where a mount has no filters, after a promise with a late hook, and without a late filter", {
  server <- serve_lines(
    "go_on <- function() plumber::forward()", "later <- function() promises::promise_resolve(1)",
    "#* @plumber", "function(pr) {",
    "  inner <- plumber::pr(filters = NULL)",
    "  inner$handle('GET', '/x', function() go_on(), preempt = '__first__')",
    "  inner$handle('GET', '/x', function() 'last')",
    "  pr$mount('/sub', inner)",
    "  NULL", "}",
    "#* @get /hook", "function(req) {",
    "  end <- req$pr$endpoints[['__no-preempt__']][[1]]",
    "  end$registerHook('postexec', function(value) paste('hooked', value))",
    "  later()", "}",
    "runs <- 0",
    "#* @get /filter", "function(req) {", "  runs <<- runs + 1",
    "  if (runs == 1) req$pr$filter('late', function(req, res) go_on())", "  go_on()", "}",
    "#* @get /runs", "function() runs"
  )
  expect_identical(request(server, "/sub/x")$text, '["last"]')
  expect_identical(request(server, "/hook")$text, '["hooked 1"]')
  expect_identical(request(server, "/filter")$status, 404L)
  expect_identical(request(server, "/runs")$text, "[1]")
})

test_that("what forwards and returns a promise goes on as plumber has it, compiled or not, also where it is mounted", {
  server <- serve_lines(
    "both <- function() { plumber::forward(); promises::promise_resolve('mounted') }",
    "#* @plumber", "function(pr) {", "  inner <- plumber::pr()",
    "  inner$handle('GET', '/x', function() { plumber::forward(); promises::promise_resolve('mounted') })",
    "  inner$handle('GET', '/compiled', function() both())",
    "  pr$mount('/sub', inner)", "  NULL", "}",
    "#* @get /x", "function() { plumber::forward(); promises::promise_resolve('here') }",
    "#* @get /compiled", "function() both()",
    "#* @get /plain", "function() 1"
  )
  expect_identical(request(server, "/plain")$text, "[1]")
  # Its promise is awaited by the outer router, which nobody has told to forward.
  for (path in c("/x", "/compiled")) {
    expect_identical(request(server, paste0("/sub", path))$text, '["mounted"]', info = path)
    expect_identical(request(server, path)$status, 404L, info = path)
  }
})

test_that("a response that an app keeps has what the serializer has put there", {
  server <- serve_lines(
    "kept <- NULL",
    "#* @get /x", "function(res) { before <- kept; kept <<- res; c(names(before$headers), before$body) }"
  )
  expect_identical(request(server, "/x")$text, "{}")
  expect_identical(request(server, "/x")$text, '["Content-Type","{}"]')
})

test_that("a router that is changed while it runs is served by plumber, which is said once", {
  server <- serve_lines(
    "#* @get /a", "function() 'a'",
    "#* @get /change", "function(req) { plumber::pr_get(req$pr, '/new', function() 'new'); 'changed' }"
  )
  expect_identical(json(request(server, "/change")), "changed")
  expect_identical(json(request(server, "/new")), "new")
  expect_identical(json(request(server, "/a")), "a")
  said <- messages_until(server, any(grepl("not compiled any more", seen)))
  expect_length(grep("not compiled any more", said), 1)
})

test_that("a compiled handler is interrupted, streams, and knows its request", {
  server <- serve_lines(
    "#* @get /id", "function() faucet::request_id()",
    "#* @get /stream", "function() faucet::stream(NULL, NULL, function(out) out$write('piece'), type = 'text/plain')",
    "#* @get /sleep", "function() Sys.sleep(60)"
  )
  got <- request(server, "/id")
  expect_identical(json(got), got$headers[["x-request-id"]])
  expect_identical(request(server, "/stream")$text, "piece")
  expect_error(request(server, "/sleep", timeout_ms = 500))
  expect_match(json(request(server, "/id")), ".")
})

test_that("what a handler does to its request and its router counts for the rest of that request, as with plumber", {
  lines <- c(
    "wait <- function(ms) promises::promise(function(resolve, reject) later::later(function() resolve('kept'), ms / 1000))",
    "pass <- function(ms) promises::then(wait(ms), function(v) plumber::forward())",
    "#* @get /method", "function(req) { req$REQUEST_METHOD <- 'CHANGED'; req$QUERY_STRING <- 'a=%00'; stop('mine') }",
    "#* @get /locked", "function(req) { lockEnvironment(req, TRUE); stop('mine') }",
    "#* @get /secret", "function() {",
    "  options(plumber.sharedSecret = 's'); on.exit(options(plumber.sharedSecret = NULL)); stop('mine')", "}",
    "#* @get /status", "function(res) { res$status <- NULL; 1 }",
    "#* @get /pass", "function(ms = 0) pass(as.numeric(ms))",
    "#* @get /wait", "function(ms = 0) wait(as.numeric(ms))",
    "#* @post /multi", "#* @parser multi", "function() 1",
    "#* @get /late", "function(req) {",
    "  req$pr$registerHook('postserialize', function(value) { value$headers[['X-Late']] <- '1'; value })", "  1", "}"
  )
  dir <- withr::local_tempdir()
  writeLines(lines, file.path(dir, "plumber.R"))
  servers <- lapply(c("true", "false"), function(compile) {
    withr::with_envvar(c(FAUCET_COMPILE = compile), local_server(dir, workers = 1, env = parent.frame(3)))
  })
  expect_identical(vapply(servers, function(server) server$status()$compiled, ""), c("8 of 8", "0 of 8"))
  ask <- function(...) {
    both <- lapply(servers, function(server) request(server, ...)[c("status", "text")])
    expect_identical(both[[1]], both[[2]])
    both[[1]]
  }
  suppressMessages({
    for (path in c("/method", "/locked", "/secret")) expect_identical(ask(path)$status, 500L)
    expect_match(ask("/status")$text, "ERROR: argument is of length zero")
    expect_identical(ask("/pass")$status, 404L)
    expect_identical(ask("/multi", "POST", "x", type = "multipart/form-data")$status, 500L)
    # One whose client has left calls forward() while the next is waited for.
    for (server in servers) expect_error(request(server, "/pass?ms=300", timeout_ms = 100))
    expect_identical(ask("/wait?ms=600")$text, '["kept"]')
    late <- lapply(servers, function(server) request(server, "/late")$headers[["x-late"]])
    expect_identical(late, list("1", "1"))
  })
})

test_that("a condition that is no error, and one that goes to the top level, end their request and no worker", {
  server <- serve_lines(
    "#* @get /pid", "function() Sys.getpid()",
    "own <- structure(class = c('own', 'condition'), list(message = 'mine', call = NULL))",
    "#* @get /condition", "function() stop(own)",
    "#* @get /abort", "function() invokeRestart('abort')",
    "#* @get /hooked", "#* @compile off", "function() stop(own)",
    "#* @get /warn", "function() getOption('warn')"
  )
  pid <- json(request(server, "/pid"))
  warn <- json(request(server, "/warn"))
  for (path in c("/condition", "/abort", "/hooked", "/condition")) {
    got <- request(server, path)
    expect_identical(got$status, 500L)
    expect_identical(got$text, "An exception occurred.")
  }
  expect_identical(json(request(server, "/pid")), pid)
  expect_identical(json(request(server, "/warn")), warn)
  expect_identical(server$status()$restarts, 0L)
})
