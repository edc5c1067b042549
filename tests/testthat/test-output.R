test_that("what workers print is shown with their number", {
  server <- suppressMessages(local_server(local_app("basic"), workers = 2, quiet = FALSE))
  clients <- crowd()
  for (i in 1:2) clients$add(server, sprintf("/say?text=hello%d", i))
  clients$wait()
  lines <- messages_until(server, sum(grepl("from a child", seen)) == 2 && sum(grepl("to std", seen)) == 4)
  expect_true(all(grepl("^\\[worker [12]\\] ", grep("to std|from a child", lines, value = TRUE))))
  for (i in 1:2) {
    expect_true(any(grepl(sprintf("^\\[worker [12]\\] to stdout: hello%d ?$", i), lines)))
    expect_true(any(grepl(sprintf("^\\[worker [12]\\] to stderr: hello%d$", i), lines)))
    expect_true(any(grepl(sprintf("^\\[worker [12]\\] from a child: hello%d$", i), lines)))
  }
})

test_that("a worker that prints a lot is not held up, and the server stays", {
  dir <- local_code("plumber.R" = c(
    "#* @get /flood", "#* @serializer text",
    "function() { for (i in 1:20000) cat(strrep(\"x\", 100), \"\\n\"); \"flooded\" }"
  ))
  server <- local_server(dir, workers = 1)
  expect_identical(request(server, "/flood")$text, "flooded")
  expect_identical(request(server, "/flood")$text, "flooded")
  expect_identical(wait_for_workers(server, 1)$restarts, 0L)
})

test_that("the access log goes to standard output, one line a request", {
  server <- suppressMessages(local_server(local_app("basic"), workers = 1, quiet = FALSE, access_log = "text"))
  id <- request(server, "/hello", headers = list(`X-Request-Id` = "the-first"))$headers[["x-request-id"]]
  expect_identical(id, "the-first")
  output <- character()
  wait_until({
    output <<- c(output, capture.output(suppressMessages(server$is_running())))
    any(grepl("id=the-first", output))
  })
  expect_match(
    grep("id=the-first", output, value = TRUE),
    "^[0-9T:.-]+Z 200 GET /hello [0-9.]+ms client=127.0.0.1 .*worker=1.* bytes=[0-9]+ id=the-first"
  )
})

test_that("a quiet server says nothing", {
  server <- NULL
  dir <- local_app("basic")
  expect_silent({
    server <- local_server(dir, workers = 1, quiet = TRUE, access_log = "text")
    request(server, "/say?text=hello")
    request(server, "/hello")
    server$is_running()
    server$status()
    server$stop()
  })
})

test_that("a server that is not quiet tells of its start", {
  dir <- local_app("basic")
  said <- character()
  server <- withCallingHandlers(
    local_server(dir, workers = 1, quiet = FALSE),
    faucet_message = function(message) {
      said <<- c(said, conditionMessage(message))
      tryInvokeRestart("muffleMessage")
    },
    message = function(message) tryInvokeRestart("muffleMessage")
  )
  # Workers that faucet serves in tell of such a page.
  docs <- if (server$status()$worker_type == "native") paste0("Docs at ", server$url, "/__docs__/")
  expect_identical(said, c("Starting 1 worker", paste0("Ready on ", server$url, " with 1 worker"), docs))
})

test_that("lines are shown whenever R is idle", {
  server <- suppressMessages(local_server(local_app("basic"), workers = 1, quiet = FALSE))
  # No handler of ours is there while R is idle.
  file <- withr::local_tempfile()
  withr::local_message_sink(file)
  request(server, "/say?text=idle")
  wait_until({
    later::run_now(0.1)
    any(grepl("to stderr: idle", readLines(file, warn = FALSE)))
  })
  server$stop()
  # It ends by itself, once the server has stopped.
  wait_until({
    later::run_now(0.1)
    later::loop_empty()
  })
  expect_true(later::loop_empty())
})
