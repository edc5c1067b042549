text_app <- function(text) {
  force(text)
  function(req) {
    list(
      status = 200L, headers = list("Content-Type" = "text/plain"),
      body = paste(text, req$PATH_INFO, req$SCRIPT_NAME, req$HTTP_X_FORWARDED_PREFIX)
    )
  }
}

local_pools <- function(pools, ..., quiet = TRUE, env = parent.frame()) {
  server <- faucet::run(pools, port = 0, block = FALSE, quiet = quiet, access_log = "none", ...)
  withr::defer(suppressMessages(try(server$stop(timeout = 1), silent = TRUE)), envir = env)
  server
}

body_of <- function(server, path, ...) {
  trimws(request(server, path, ...)$text)
}

test_that("each route has an app of its own, which sees what comes after the route", {
  server <- local_pools(
    list("/" = faucet::pool(app = text_app("root")), "/sales/" = faucet::pool(app = text_app("sales"), workers = 2)),
    workers = 1, admin_port = 0
  )
  expect_identical(body_of(server, "/x"), "root /x")
  expect_identical(body_of(server, "/sales/x"), "sales /x /sales /sales")
  expect_identical(body_of(server, "/sales"), "sales / /sales /sales")
  expect_identical(body_of(server, "/salesman"), "root /salesman")

  status <- server$status()
  expect_identical(status$pool, c("/", "/sales", "/sales"))
  expect_identical(status$worker, c(1L, 1L, 2L))
  expect_match(server$format(), "pools /, /sales", all = FALSE)
  metrics <- read_metrics(server$admin_url)
  expect_identical(metric(metrics, "faucet_requests_total", "pool=\"/sales\""), 2)
  expect_identical(request(server, "/__faucet__/readyz/sales")$status, 200L)
  expect_identical(request(server, "/__faucet__/readyz/other")$status, 404L)
})

test_that("pools come and go", {
  server <- local_pools(list("/a" = faucet::pool(app = text_app("a"), workers = 1)))
  missing <- request(server, "/b/x")
  expect_identical(missing$status, 404L)
  expect_match(missing$text, "no app is served")

  server$add_pool("/b", faucet::pool(app = text_app("b"), workers = 1))
  expect_identical(body_of(server, "/b/x"), "b /x /b /b")
  expect_error(
    server$add_pool("/b", faucet::pool(app = text_app("b"), workers = 1)), "already",
    class = "faucet_error_option"
  )
  server$scale(2, pool = "/b")
  expect_identical(sum(server$status()$pool == "/b"), 2L)
  expect_error(server$scale(2), "must say which one", class = "faucet_error_option")
  expect_error(server$scale(2, pool = "/c"), "There is no pool", class = "faucet_error_option")
  server$reload(pool = "/b")
  server$remove_pool("/b")
  expect_identical(request(server, "/b/x")$status, 404L)
  expect_identical(unique(server$status()$pool), "/a")
})

test_that("a pool that does not start leaves the others alone, and comes when it can", {
  dir <- withr::local_tempdir()
  writeLines("stop('no database')", file.path(dir, "plumber.R"))
  server <- local_pools(
    list("/good" = faucet::pool(app = text_app("good"), workers = 1), "/bad" = faucet::pool(dir, workers = 1))
  )
  expect_identical(body_of(server, "/good/x"), "good /x /good /good")
  expect_true(request(server, "/bad/x", timeout_ms = 20000)$status %in% 503L)
  expect_identical(request(server, "/__faucet__/readyz")$status, 200L)
  expect_identical(request(server, "/__faucet__/readyz/bad")$status, 503L)

  expect_error(server$add_pool("/worse", faucet::pool(dir, workers = 1)), "worse", class = "faucet_error_boot")
  expect_setequal(server$status()$pool, c("/good", "/bad"))

  writeLines(c("#* @get /x", "#* @serializer text", "function() 'now'"), file.path(dir, "plumber.R"))
  wait_until(identical(request(server, "/__faucet__/readyz/bad")$status, 200L))
  expect_identical(body_of(server, "/bad/x"), "now")
})

test_that("without any pool that starts, run() fails and says which", {
  dir <- withr::local_tempdir()
  writeLines("stop('no database')", file.path(dir, "plumber.R"))
  expect_error(local_pools(list("/a" = dir, "/b" = dir), workers = 1), "Pool \"/[ab]\"", class = "faucet_error_boot")
})

test_that("what is wrong with routes and pools is said before anything starts", {
  app <- faucet::pool(app = text_app("a"))
  expect_error(faucet::run(list(app)), class = "faucet_error_option")
  expect_error(faucet::run(list("sales" = app)), "not a route", class = "faucet_error_option")
  expect_error(faucet::run(list("/a" = app, "/a/" = app)), "two apps", class = "faucet_error_option")
  expect_error(faucet::run(list("/a" = 3)), "Pool \"/a\"", class = "faucet_error_option")
  expect_error(faucet::run(c("/a" = "/no/such/dir")), "Pool \"/a\"", class = "faucet_error_dir")
  expect_error(faucet::pool(), "one of", class = "faucet_error_option")
  expect_error(faucet::pool(".", port = 80), "whole server", class = "faucet_error_option")
  expect_error(faucet::pool(".", wrokers = 80), "workers", class = "faucet_error_option")
})

write_api <- function(dir, text) {
  dir.create(dir, showWarnings = FALSE, recursive = TRUE)
  writeLines(c("#* @get /x", "#* @serializer text", sprintf("function() '%s'", text)), file.path(dir, "plumber.R"))
}

test_that("a file says what is served, and a reload follows it", {
  root <- withr::local_tempdir()
  write_api(file.path(root, "apis", "a"), "a")
  write_api(file.path(root, "apis", "b"), "b")
  write_api(file.path(root, "apis", "c"), "c")
  config <- file.path(root, "faucet.yml")
  writeLines(c("workers: 1", "pools:", "  /a: apis/a", "  /b:", "    dir: apis/b", "    timeout: 60"), config)
  server <- local_pools(config)
  expect_identical(body_of(server, "/a/x"), "a")
  expect_identical(body_of(server, "/b/x"), "b")

  write_api(file.path(root, "apis", "a"), "new a")
  writeLines(c("workers: 1", "pools:", "  /a: apis/a", "  /b:", "    dir: apis/c", "  /c: apis/c"), config)
  server$reload()
  expect_identical(body_of(server, "/a/x"), "new a")
  expect_identical(body_of(server, "/b/x"), "c")
  expect_identical(body_of(server, "/c/x"), "c")

  writeLines(c("workers: 1", "pools:", "  /c: apis/c"), config)
  server$reload()
  expect_identical(request(server, "/a/x")$status, 404L)
  expect_identical(unique(server$status()$pool), "/c")

  writeLines(c("workers: 1", "pools:", "  /c: apis/none"), config)
  expect_error(server$reload(), "faucet.yml:3", class = "faucet_error_config")
  expect_identical(body_of(server, "/c/x"), "c")
})

test_that("an error in a file says where it is", {
  root <- withr::local_tempdir()
  write_api(file.path(root, "a"), "a")
  config <- file.path(root, "faucet.yml")
  error <- function(...) {
    writeLines(c(...), config)
    expect_error(faucet::run(config, port = 0, block = FALSE, quiet = TRUE), class = "faucet_error_config")
  }
  where <- function(error) list(error$line, paste(error$keys, collapse = " "))

  typo <- error("workers: 1", "wrokers: 2", "pools:", "  /a: a")
  expect_identical(where(typo), list(2L, "wrokers"))
  expect_match(conditionMessage(typo), "faucet.yml:2 (wrokers)", fixed = TRUE)
  expect_match(conditionMessage(typo), "workers")
  typo <- error("pools:", "  \"/a\":", "    # The API", "    dir: a", "    wrokers: 2")
  expect_identical(where(typo), list(5L, "pools /a wrokers"))
  bad <- error("pools:", "  /a:", "    dir: a", "    workers: many")
  expect_identical(where(bad), list(4L, "pools /a workers"))
  missing <- error("pools:", "  /a: a", "  /b: none")
  expect_identical(where(missing), list(3L, "pools /b"))
  expect_match(conditionMessage(missing), "none")
  twice <- error("pools:", "  /a: a", "  /a/: a")
  expect_identical(where(twice), list(3L, "pools /a/"))
  route <- error("pools:", "  sales: a")
  expect_identical(where(route), list(2L, "pools sales"))
  expect_match(conditionMessage(error("pools: [")), "faucet.yml")
  expect_match(conditionMessage(error("workers: 2")), "pools")
  expect_match(conditionMessage(error("pools:", "  /a: a", "  /a: a")), "faucet.yml")
  expect_error(faucet::run(file.path(root, "none.yml")), class = "faucet_error_dir")
})

test_that("a pool that is removed finishes its streams first", {
  dir <- withr::local_tempdir()
  writeLines(c(
    "#* @get /stream",
    "function(req, res) faucet::stream(req, res, function(out) {",
    "  out$write('begun\\n')",
    "  file.create('begun')",
    "  while (!file.exists('go')) Sys.sleep(0.01)",
    "  out$write('ended\\n')",
    "})"
  ), file.path(dir, "plumber.R"))
  server <- local_pools(list("/a" = faucet::pool(dir, workers = 1), "/b" = faucet::pool(app = text_app("b"), workers = 1)))
  clients <- crowd()
  clients$add(server, "/a/stream")
  wait_until({
    clients$step()
    file.exists(file.path(dir, "begun"))
  })
  link <- server$.__enclos_env__$private$link
  id <- start_command(link, list(name = "remove_pool", pool = "/a", timeout = 60))
  wait_until(request(server, "/a/stream")$status == 404L)
  # What would be told to stop is told so within milliseconds.
  for (i in 1:20) {
    status <- server$status()
    expect_identical(status$state[status$pool == "/a"], "busy")
    expect_identical(body_of(server, "/b/x"), "b /x /b /b")
  }
  file.create(file.path(dir, "go"))
  expect_identical(clients$wait()[["/a/stream"]]$text, "begun\nended\n")
  wait_until(isTRUE(command_result(link, id)$ok))
  expect_identical(unique(server$status()$pool), "/b")
})

test_that("the start says where the pages of documentation are, of apps that have one", {
  skip_on_os("windows")
  api <- local_code("plumber.R" = c("#* @get /hello", "#* @serializer text", "function() \"hello\""))
  none <- local_code("entrypoint.R" = "pr_set_docs(pr(), FALSE)")
  native <- function(...) faucet::pool(..., workers = 1, worker_type = "native")
  start <- function(what) {
    started <- from_start_until(local_server(what, workers = 1, quiet = FALSE, env = env), "^Ready")
    list(url = started$server$url, docs = grep("^Docs at", started$lines, value = TRUE))
  }
  env <- environment()
  several <- start(list(
    "/api" = native(api), "/none" = native(none), "api.example.com/" = native(api), "/fun" = native(app = function(req) NULL)
  ))
  host <- sub("127.0.0.1", "api.example.com", several$url, fixed = TRUE)
  expect_setequal(several$docs, paste("Docs at", paste0(c(paste0(several$url, "/api"), host), "/__docs__/")))
  expect_match(readLines(sub("^Docs at ", "", grep("127.0.0.1", several$docs, value = TRUE)), warn = FALSE), "html", all = FALSE)

  expect_identical(start(c("/" = none))$docs, character())
  withr::local_options(faucet.worker_type = "native")
  one <- start(api)
  expect_identical(one$docs, paste0("Docs at ", one$url, "/__docs__/"))
})
