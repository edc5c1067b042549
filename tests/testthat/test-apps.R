test_that("plumber.R is served, in its directory and in environments that are its own", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1)
  expect_identical(request(server, "/hello")$text, "hello")
  around <- json(request(server, "/surroundings"))
  expect_identical(normalizePath(around$dir), dir)
  expect_length(around$global, 0)
  expect_length(around$app, 0)
  expect_identical(around$stdin, 0L)
  expect_false(around$interactive)
})

test_that("each worker knows its number, and finds it in the status", {
  server <- local_server(local_app("basic"), workers = 2)
  status <- wait_for_workers(server, 2)
  clients <- crowd()
  for (i in 1:2) clients$add(server, paste0("/pid?ms=500&", i))
  for (answer in lapply(clients$wait(), json)) {
    expect_identical(status$pid[status$worker == as.integer(answer$worker)], answer$pid)
  }
})

test_that("entrypoint.R may return a router", {
  server <- local_server(local_app("router"), workers = 1)
  expect_identical(request(server, "/greeting")$text, "from a router")
  expect_identical(json(request(server, "/pid"))$pid, server$status()$pid)
})

test_that("entrypoint.R may start a server itself", {
  server <- local_server(local_app("self-started"), workers = 1)
  expect_identical(request(server, "/any/path")$text, "self-started worker 1 got /any/path")
})

test_that("entrypoint.R goes before plumber.R, and both names count in any case", {
  dir <- local_code(
    "Plumber.r" = c("#* @get /", "#* @serializer text", "function() \"plumber.R\""),
    "ENTRYPOINT.R" = "pr() %>% pr_get(\"/\", function() \"entrypoint.R\", serializer = serializer_text())"
  )
  server <- local_server(dir, workers = 1)
  expect_identical(request(server, "/")$text, "entrypoint.R")
  server$stop()

  unlink(file.path(dir, "ENTRYPOINT.R"))
  server <- local_server(dir, workers = 1)
  expect_identical(request(server, "/")$text, "plumber.R")
})

# A package in a library of its own, whose launch_server() is what the standard asks for.
local_engine <- function(namespace = character(), env = parent.frame()) {
  source <- withr::local_tempdir()
  package <- file.path(source, "taptest")
  dir.create(file.path(package, "R"), recursive = TRUE)
  writeLines(
    c(
      "Package: taptest", "Version: 1.0", "Title: Engine", "Description: Engine.", "License: MIT",
      "Author: N", "Maintainer: N <n@example.org>"
    ),
    file.path(package, "DESCRIPTION")
  )
  writeLines(namespace, file.path(package, "NAMESPACE"))
  writeLines(c(
    "launch_server <- function(settings, host = NULL, port = NULL, ...) {",
    "  body <- paste0(basename(settings), \": \", readLines(settings)[[2]])",
    "  httpuv::runServer(host, port, list(call = function(req) {",
    "    list(status = 200L, headers = list(\"Content-Type\" = \"text/plain\"), body = body)",
    "  }))",
    "}"
  ), file.path(package, "R", "engine.R"))
  library <- withr::local_tempdir(.local_envir = env)
  out <- processx::run(
    file.path(R.home("bin"), "R"), c("CMD", "INSTALL", "--no-docs", paste0("--library=", library), package),
    error_on_status = FALSE, stderr_to_stdout = TRUE, env = c("current", R_TESTS = "")
  )
  if (out$status != 0) stop(out$stdout)
  withr::local_libpaths(library, action = "prefix", .local_envir = env)
}

test_that("_server.yml is handed to the engine that it names, before all else", {
  local_engine()
  dir <- local_code(
    "_server.yml" = c("engine: taptest", "greeting: from the engine"),
    "plumber.R" = c("#* @get /", "function() \"plumber.R\"")
  )
  server <- local_server(dir, workers = 1)
  expect_identical(request(server, "/")$text, "_server.yml: greeting: from the engine")
})

test_that("an engine may export its function, and be named in quotes", {
  local_engine("export(launch_server)")
  dir <- local_code("_server.yml" = c("engine: 'taptest'   # a comment", "x: y"))
  server <- local_server(dir, workers = 1)
  expect_identical(request(server, "/")$text, "_server.yml: x: y")
})

test_that("a _server.yml without an engine, or with one that is not installed, says so", {
  dir <- local_code("_server.yml" = "routes: api.R")
  error <- expect_error(local_server(dir), class = "faucet_error_boot")
  expect_match(conditionMessage(error), "names no engine")

  dir <- local_code("_server.yml" = "engine: nosuchpackage")
  error <- expect_error(local_server(dir), class = "faucet_error_boot")
  expect_match(conditionMessage(error), "not installed: package 'nosuchpackage'")
})

test_that("a worker's R sees the library paths of the session", {
  library <- withr::local_tempdir()
  withr::local_libpaths(library, action = "prefix")
  dir <- local_code("plumber.R" = c("#* @get /paths", "function() .libPaths()"))
  server <- local_server(dir, workers = 1)
  expect_identical(json(request(server, "/paths")), .libPaths())
})

test_that("the app's own .Rprofile is read, as Rscript would", {
  # R CMD check turns profiles off for all that it starts.
  withr::local_envvar(R_PROFILE_USER = NA)
  dir <- local_code(
    ".Rprofile" = "options(my.option = \"from the profile\")",
    "plumber.R" = c("#* @get /option", "#* @serializer text", "function() getOption(\"my.option\")")
  )
  server <- local_server(dir, workers = 1)
  expect_identical(request(server, "/option")$text, "from the profile")
})

test_that("an app may load faucet itself, and still ends with its front", {
  skip_on_os("windows")
  dir <- local_code("plumber.R" = c(
    "library(faucet)",
    "#* @get /pid", "#* @serializer unboxedJSON",
    "function(ms = 0) { Sys.sleep(as.numeric(ms) / 1000); list(pid = Sys.getpid(), cores = faucet:::usable_cores()) }"
  ))
  front <- local_front(dir, workers = 1L)
  expect_identical(json(request(front$url, "/pid"))$cores, usable_cores())
  pids <- worker_pids(front$url, 1)
  front$process$signal(sig[["kill"]])
  wait_until_gone(pids)
})

test_that("an app that reads standard input, or has a child do so, finds it empty", {
  dir <- local_code("plumber.R" = c(
    "#* @get /read", "#* @serializer unboxedJSON",
    "function() list(own = length(readLines(file(\"stdin\"))), child = length(system(\"cat\", intern = TRUE)))"
  ))
  server <- local_server(dir, workers = 1)
  expect_identical(json(request(server, "/read")), list(own = 0L, child = 0L))
  expect_identical(json(request(server, "/read")), list(own = 0L, child = 0L))
})
