count <- function(server, cookie = NULL, path = "/count") {
  headers <- if (!is.null(cookie)) list(Cookie = cookie) else list()
  response <- request(server, path, headers = headers)
  c(json(response), list(new = session_cookie(response$headers)))
}

test_that("a client stays with one worker, which has its state", {
  server <- local_server(local_app("state"), workers = 2, sticky = TRUE, slots = 2)
  # It is there with the first of them, and would have two sessions for it.
  wait_for_workers(server, 2)
  first <- count(server)
  expect_match(first$new, "^faucet_session_[0-9]+=[0-9a-f]+[.][0-9a-f]+[.][0-9a-f]{64}$")
  expect_identical(first$cookie, "")
  for (i in 2:5) {
    again <- count(server, paste0("a=b; ", first$new))
    expect_identical(again[c("count", "pid", "cookie")], list(count = i, pid = first$pid, cookie = "a=b"))
    expect_length(again$new, 0)
  }
  other <- count(server)
  expect_false(other$pid == first$pid)
  status <- wait_for_workers(server, 2)
  expect_identical(status$sessions, c(1L, 1L))
  expect_identical(status$slots, c(2L, 2L))
  expect_identical(status$worker_type, c("native", "native"))
  expect_match(server$format(), "sessions", all = FALSE)
})

test_that("a session that is over leaves its slot to the next, which waits for it", {
  server <- local_server(
    local_app("state"), workers = 1, sticky = TRUE, slots = 1, session_timeout = 1, queue_timeout = 60
  )
  first <- count(server)
  # It waits until the first one is over.
  second <- count(server)
  expect_identical(second$pid, first$pid)
  expect_identical(server$status()$sessions, 1L)
  # The first one comes back to a worker that is full, and begins anew when that is not.
  third <- count(server, first$new)
  expect_length(third$new, 1)
})

test_that("a full pool answers 503 to those who would begin a session, and serves those who have one", {
  server <- local_server(
    local_app("state"), workers = 1, sticky = TRUE, slots = 1, session_timeout = 60, queue_timeout = 0.2
  )
  mine <- count(server)$new
  response <- request(server, "/count")
  expect_identical(response$status, 503L)
  expect_identical(response$headers[["faucet-error"]], "queue_timeout")
  expect_identical(count(server, mine)$count, 2L)
})

test_that("a reload lets sessions end, and drain_timeout ends them", {
  dir <- local_app("state")
  server <- local_server(dir, workers = 1, sticky = TRUE, drain_timeout = 2, quiet = FALSE)
  first <- count(server)
  seen <- messages_of(server$reload())
  expect_identical(count(server, first$new)$pid, first$pid)
  expect_false(count(server)$pid == first$pid)
  seen <- c(seen, messages_until(server, any(grepl("drain_timeout", seen))))
  expect_match(seen, "worker 1 ends 1 session: `drain_timeout` is over", all = FALSE)
  later <- count(server, first$new)
  expect_length(later$new, 1)
  expect_false(later$pid == first$pid)
})

test_that("sessions are counted", {
  server <- local_server(
    c("/a" = local_app("state"), "/b" = local_app("basic")), workers = 1, admin_port = 0, sticky = TRUE
  )
  count(server, path = "/a/count")
  metrics <- request(server$admin_url, "/metrics")$text
  expect_match(metrics, "faucet_sessions{pool=\"/a\"} 1\n", fixed = TRUE)
  expect_match(metrics, "faucet_sessions{pool=\"/b\"} 0\n", fixed = TRUE)
  workers <- jsonlite::fromJSON(request(server$admin_url, "/status")$text)$workers
  expect_identical(workers$sessions, c(1L, 0L))
})

test_that("what goes with sessions goes with them only", {
  dir <- local_app("state")
  expect_error(run(dir, slots = 2, port = 0, block = FALSE), "for pools with sessions", class = "faucet_error_option")
  expect_error(
    resolve_pools(list("/" = pool(dir, slots = 2))), "for pools with sessions", class = "faucet_error_option"
  )
  pools <- resolve_pools(list("/" = dir, "/s" = pool(dir, sticky = TRUE)), list(slots = 3))
  expect_identical(lapply(pools, `[[`, "sticky"), list(FALSE, TRUE))
  expect_identical(pools[[2]]$slots, 3L)
  expect_error(run_k8s("http://api", sticky = TRUE), "sessionAffinity", class = "faucet_error_option")
  expect_error(pool(url = "http://api", sticky = TRUE), "sessionAffinity", class = "faucet_error_option")
})

test_that("an app that is replaced keeps its sessions until they end, as its configuration says", {
  dir <- withr::local_tempdir()
  app <- local_app("state")
  write_config <- function(slots) {
    lines <- c("pools:", "  /s:", paste("    dir:", app), "    sticky: true", paste("    slots:", slots))
    writeLines(lines, file.path(dir, "faucet.yml"))
  }
  write_config(2)
  server <- local_server(file.path(dir, "faucet.yml"), workers = 1, session_timeout = 2)
  first <- count(server, path = "/s/count")
  write_config(3)
  server$reload()
  expect_setequal(server$status()$slots, 2:3)
  expect_identical(count(server, first$new, path = "/s/count")$pid, first$pid)
  expect_false(count(server, path = "/s/count")$pid == first$pid)
  wait_until(nrow(server$status()) == 1, what = "the old pool to have no sessions any more")
  expect_false(count(server, first$new, path = "/s/count")$pid == first$pid)
})
