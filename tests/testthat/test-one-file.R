# One file in place of a directory: run("api.R").

annotated <- c("said <- \"annotated\"", "#* @get /", "#* @serializer text", "function() paste(said, basename(getwd()))")
script <- "pr_get(pr(), \"/\", function() paste(\"script\", basename(getwd())), serializer = serializer_text())"
starts <- c(
  "router <- pr_get(pr(), \"/\", function() paste(\"starts\", basename(getwd())), serializer = serializer_text())",
  "pr_run(router, port = 8000)"
)

test_that("what a file holds says how it is run, and its directory is the worker's", {
  dir <- local_code("api.R" = annotated, "script.r" = script, "legacy.R" = starts, "plumber.R" = "stop(\"not this one\")")
  said <- function(what) paste(what, basename(dir))
  for (file in c("api.R", "script.r", "legacy.R")) {
    server <- local_server(file.path(dir, file), workers = 1, worker_type = "native")
    expect_identical(request(server, "/")$text, said(c(api.R = "annotated", script.r = "script", legacy.R = "starts")[[file]]))
    expect_match(server$format()[[2]], file, fixed = TRUE)
    server$stop()
  }
  withr::local_dir(dir)
  server <- local_server("api.R", workers = 1, preload = TRUE)
  expect_identical(request(server, "/")$text, said("annotated"))
})

test_that("a reload reads the file anew, whatever it holds then", {
  dir <- local_code("api.R" = annotated)
  server <- local_server(file.path(dir, "api.R"), workers = 1)
  writeLines(script, file.path(dir, "api.R"))
  server$reload()
  expect_match(request(server, "/")$text, "^script ")
})

test_that("files may be pools, and stand in a configuration file", {
  dir <- local_code("api.R" = annotated, "script.R" = script, "faucet.yml" = c(
    "workers: 1", "pools:", "  /api: api.R", "  /script:", "    dir: script.R"
  ))
  both <- function(what) {
    server <- local_server(what, workers = 1, env = env)
    wait_for_workers(server, 2)
    expect_match(request(server, "/api/")$text, "^annotated ")
    expect_match(request(server, "/script/")$text, "^script ")
    server$stop()
  }
  env <- environment()
  both(file.path(dir, "faucet.yml"))
  withr::local_dir(dir)
  both(list("/api" = "api.R", "/script" = faucet::pool("script.R")))
})

test_that("a file that serves nothing does not start", {
  file <- file.path(local_code("api.R" = "x <- 1"), "api.R")
  error <- expect_error(local_server(file, workers = 1), class = "faucet_error_boot")
  expect_match(conditionMessage(error), "api.R has ended", fixed = TRUE)
})
