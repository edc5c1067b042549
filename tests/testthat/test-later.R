skip_on_os("windows")

# Promises and callbacks of `later`, which R's event loop runs while plumber is served by httpuv.

local_later <- function(kind, code, env = parent.frame()) {
  dir <- local_code("plumber.R" = code, env = env)
  server <- local_server(dir, workers = 1, worker_type = kind, env = env)
  expect_identical(type_of(server), kind)
  list(dir = dir, server = server)
}

for (kind in kinds) {
  test_that(paste("callbacks run in an idle worker:", kind), {
    app <- local_later(kind, c(
      "tick <- function(n) { file.create(paste0(\"tick-\", n)); if (n < 3) later::later(function() tick(n + 1), 0.01) }",
      "later::later(function() tick(1), 0.2)",
      "#* @get /later", "#* @serializer text",
      "function() { later::later(function() file.create(\"after\"), 0.05); \"answered\" }"
    ))
    for (n in 1:3) wait_for_file(app$dir, paste0("tick-", n))
    expect_identical(request(app$server, "/later")$text, "answered")
    wait_for_file(app$dir, "after")
  })

  test_that(paste("callbacks run between requests that leave the worker no pause:", kind), {
    app <- local_later(kind, c(
      "ran <- 0",
      "#* @get /next", "#* @serializer unboxedJSON",
      "function(i) { before <- ran; later::later(function() ran <<- ran + 1); list(before = before) }"
    ))
    clients <- crowd()
    for (i in 1:50) clients$add(app$server, paste0("/next?i=", i))
    before <- vapply(clients$wait(), function(answer) json(answer)$before, 1L)
    expect_gt(max(before), 0)
  })

  test_that(paste("promises are waited for, and those that fail are a 500:", kind), {
    app <- local_later(kind, c(
      "later <- function(value, seconds = 0.05) {",
      "  promises::promise(function(resolve, reject) later::later(function() resolve(value), seconds))",
      "}",
      "#* @get /kept", "#* @serializer text",
      "function() promises::then(later(\"kept\"), function(value) paste(value, \"in the end\"))",
      "#* @get /kept-before", "#* @serializer text", "function() promises::promise_resolve(\"at once\")",
      "#* @get /broken", "#* @serializer text",
      "function() promises::then(later(1), function(value) stop(\"failed later\"))",
      "#* @get /broken-before", "#* @serializer text", "function() promises::promise_reject(\"failed at once\")",
      "#* @get /pid", "#* @serializer unboxedJSON", "function() list(pid = Sys.getpid())"
    ))
    pid <- app$server$status()$pid
    expect_identical(request(app$server, "/kept")$text, "kept in the end")
    expect_identical(request(app$server, "/kept-before")$text, "at once")
    for (path in c("/broken", "/broken-before")) {
      expect_identical(request(app$server, path)$status, 500L)
    }
    expect_identical(json(request(app$server, "/pid"))$pid, pid)
  })

  test_that(paste("a Rook app may answer with a promise:", kind), {
    server <- local_server(local_app("eval"), workers = 1, worker_type = kind)
    expect_identical(rook(server, promises::promise(function(resolve, reject) {
      answer <- list(status = 202L, headers = list("X-A" = "b"), body = "in the end")
      later::later(function() resolve(answer), 0.05)
    }))[c("status", "text")], list(status = 202L, text = "in the end"))
    failed <- rook(server, promises::promise_reject(simpleError("failed at once")))
    expect_identical(failed$status, 500L)
    # What a promise gives may be no answer, too.
    expect_identical(rook(server, promises::promise_resolve("no response"))$status, 500L)
    expect_identical(rook(server, list(status = 200L, headers = list(), body = "next"))$text, "next")
  })
}

# Through httpuv it ends the worker.
test_that("an error in a callback is nobody's answer", {
  app <- local_later("native", c(
    "#* @get /break", "#* @serializer text",
    "function() {",
    "  later::later(function() stop(\"failed in a callback\"))",
    "  later::later(function() file.create(\"next\"), 0.01)",
    "  \"answered\"",
    "}"
  ))
  pid <- app$server$status()$pid
  expect_identical(request(app$server, "/break")$text, "answered")
  wait_for_file(app$dir, "next")
  expect_identical(request(app$server, "/break")$text, "answered")
  expect_identical(app$server$status()$pid, pid)
})
