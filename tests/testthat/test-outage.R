skip_on_cran()

# What every worker needs is away for a while.

# An API that does not start while the file `away` is in its directory, and that ends when the database does.
local_dependent <- function(env = parent.frame()) {
  local_code("plumber.R" = c(
    "if (file.exists(\"away\")) stop(\"could not connect to the database\")",
    "#* @get /pid", "#* @serializer unboxedJSON", "function() list(pid = Sys.getpid())"
  ), env = env)
}

take_away <- function(server, dir) {
  file.create(file.path(dir, "away"))
  tools::pskill(server$status()$pid, sig[["kill"]])
}

health <- function(server, path) {
  request(server, paste0("/__faucet__/", path))
}

for (preload in c(FALSE, TRUE)) {
  test_that(paste("the service comes back by itself when all workers could not start, preload =", preload), {
    dir <- local_dependent()
    server <- suppressMessages(
      local_server(dir, workers = 2, max_failures = 2, preload = preload, worker_type = "native", quiet = FALSE, admin_port = 0)
    )
    ready <- NULL
    wait_for_workers(server, 2)
    # Workers that are forked do not connect again: the template would.
    template <- first_pool(request(server$admin_url, "/status"))$template$pid
    take_away(server, dir)
    if (preload) tools::pskill(template, sig[["kill"]])
    # Between two tries.
    seen <- messages_until(server, all(server$status()$state == "failed"))
    expect_match(seen, "has failed to start 2 times in a row", all = FALSE)
    expect_match(seen, "could not connect to the database", all = FALSE)

    wait_until(grepl("2 workers (2 failed, next try at ", server$format()[[3]], fixed = TRUE))
    wait_until(json(ready <<- health(server, "readyz"))$failed == 2)
    expect_identical(ready$status, 503L)
    expect_match(json(ready)$next_try, "^[0-9-]+T[0-9:.]+Z$")
    expect_identical(health(server, "livez")$status, 200L)
    refused <- request(server, "/pid")
    expect_identical(refused$status, 503L)
    expect_identical(refused$headers[["faucet-error"]], "no_workers")

    file.remove(file.path(dir, "away"))
    suppressMessages(wait_for_workers(server, 2))
    expect_identical(request(server, "/pid")$status, 200L)
    expect_true(server$is_running())
  })
}

test_that("after give_up_after without a worker that serves, the server is not live", {
  dir <- local_dependent()
  server <- local_server(dir, workers = 1, max_failures = 1, give_up_after = 0.5)
  wait_for_workers(server, 1)
  expect_identical(health(server, "livez")$status, 200L)
  take_away(server, dir)
  wait_until(health(server, "livez")$status == 503)
  expect_identical(json(health(server, "livez"))$status, "given up")
  file.remove(file.path(dir, "away"))
  wait_until(health(server, "livez")$status == 200)
})

test_that("commands end while all workers fail, and say why", {
  dir <- local_dependent()
  server <- local_server(dir, workers = 1, max_failures = 1)
  wait_for_workers(server, 1)
  take_away(server, dir)
  wait_until("failed" %in% server$status()$state)
  error <- expect_error(server$reload(), class = "faucet_error_reload")
  expect_match(error$lines, "could not connect to the database", all = FALSE)
  error <- expect_error(server$scale(2), class = "faucet_error_boot")
  expect_match(error$lines, "could not connect to the database", all = FALSE)
  server$scale(1)
  server$stop()
  expect_false(server$is_running())
})
