skip_on_os("windows")

# `watch = TRUE`: what a user sees of it. Which files count, and how they may change, `src/rust/core/src/watch` tests.

says <- function(text) {
  c("#* @get /says", "#* @serializer text", paste0("function() \"", text, "\""))
}

# Runs `change()`, again if the watch had not begun, until the app at `path` says `text`.
change_until <- function(server, change, text, path = "/says") {
  changed <- Sys.time()
  change()
  wait_until({
    server$is_running()
    if (Sys.time() > changed + 5) {
      change()
      changed <<- Sys.time()
    }
    identical(request(server, path)$text, text)
  }, what = paste0("the app to say \"", text, "\""))
}

for (preload in c(FALSE, TRUE)) {
  test_that(paste("new code is served, and bad code is not, preload:", preload), {
    if (preload) skip_on_os("mac")
    dir <- local_code("plumber.R" = says("old"))
    server <- local_server(dir, workers = 2, watch = TRUE, preload = preload, quiet = FALSE)
    expect_identical(request(server, "/says")$text, "old")
    seen <- messages_of(change_until(server, function() write_code(dir, "plumber.R", says("new")), "new"))
    expect_match(seen, "plumber.R has changed", fixed = TRUE, all = FALSE)
    messages_until(server, all(server$status()$state == "ready") && nrow(server$status()) == 2)

    write_code(dir, "plumber.R", "stop(\"typo\")")
    seen <- messages_until(server, any(grepl("reload failed: ", seen, fixed = TRUE)))
    expect_identical(sum(grepl("Error.*typo", seen)), 1L)
    expect_identical(request(server, "/says")$text, "new")
    messages_of(change_until(server, function() write_code(dir, "plumber.R", says("mended")), "mended"))
  })
}

test_that("without it nothing is reloaded, and it is a setting of each pool", {
  dir <- local_code("plumber.R" = says("old"))
  watched <- local_code("plumber.R" = says("old"))
  server <- local_server(list("/a" = dir, "/b" = faucet::pool(watched, watch = TRUE)), workers = 1)
  write_code(dir, "plumber.R", says("new"))
  change_until(server, function() write_code(watched, "plumber.R", says("new")), "new", "/b/says")
  expect_identical(request(server, "/a/says")$text, "old")
})

test_that("a configuration file is read again when it changes", {
  root <- withr::local_tempdir()
  dir.create(file.path(root, "api"))
  write_code(file.path(root, "api"), "plumber.R", says("api"))
  config <- file.path(root, "faucet.yml")
  writeLines(c("watch: true", "workers: 1", "pools:", "  /a: api"), config)
  # In the background it is read whenever R is idle.
  idle <- function(lines) {
    writeLines(lines, config)
    for (i in 1:20) later::run_now(0.1)
  }
  server <- faucet::run(config, port = 0, block = FALSE, access_log = "none", quiet = TRUE)
  withr::defer(server$stop(timeout = 1))
  more <- c("watch: true", "workers: 1", "pools:", "  /a: api", "  /b: api")
  change_until(server, function() idle(more), "api", "/b/says")
  expect_setequal(server$status()$pool, c("/a", "/b"))

  idle("pools: [")
  expect_identical(request(server, "/b/says")$text, "api")
  change_until(server, function() idle(c(more, "  /c: api")), "api", "/c/says")
})

test_that("a change in the foreground leads to what SIGHUP does", {
  root <- withr::local_tempdir()
  for (name in c("a", "b")) {
    dir.create(file.path(root, name))
    write_code(file.path(root, name), "plumber.R", says(name))
  }
  config <- file.path(root, "faucet.yml")
  writeLines(c("pools:", "  /a: a"), config)
  front <- local_front(config, workers = 1L, watch = TRUE)
  writeLines(c("pools:", "  /b: b"), config)
  wait_until(
    {
      if (!any(grepl("faucet.yml has changed", front$stderr()))) writeLines(c("pools:", "  /b: b", ""), config)
      identical(request(front$url, "/b/says")$text, "b")
    },
    what = "the new pool"
  )
  wait_until(request(front$url, "/a/says")$status == 404L)
  front$process$interrupt()
  expect_identical(wait_for_exit(front), 0L)
})

test_that("run_k8s() and R objects have no code to watch", {
  app <- function(req) list(status = 200L, headers = list(), body = "")
  expect_error(
    faucet::run(app = app, watch = TRUE, port = 0, block = FALSE), "an R object has none", class = "faucet_error_option"
  )
  expect_error(
    faucet::run_k8s("http://127.0.0.1:1", watch = TRUE, port = 0, block = FALSE), "runs no code itself",
    class = "faucet_error_option"
  )
})
