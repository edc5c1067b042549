skip_on_os("windows")
skip_on_cran()

# R stops when the client has left, or when time is over. Only for native workers.

local_cancel <- function(dir, ..., env = parent.frame()) {
  server <- local_server(dir, ..., worker_type = "native", env = env)
  wait_for_workers(server)
  server
}

# A request that is in its handler, and whose client then leaves.
leave <- function(clients, server, dir, path, id) {
  clients$add(server, paste0(path, "?id=", id), key = id)
  wait_for_file(dir, paste0("begun-", id), clients)
  clients$leave(id)
}

test_that("of many requests, half cancelled at random, none is answered wrongly, and no on.exit() is left out", {
  dir <- local_app("cancel")
  # On a busy machine an interrupt takes longer to be obeyed: that is not what is tested.
  server <- local_cancel(dir, workers = 2, interrupt_timeout = 60)
  before <- server$status()

  withr::local_seed(1)
  n <- 2000
  leaves <- seq_len(n) %in% sample(n, n / 2)
  patience <- sample(1:60, n, replace = TRUE)
  kind <- sample(c("sleep", "loop", "allocate", "write", "promise"), n, replace = TRUE)
  clients <- crowd()
  for (i in seq_len(n)) {
    path <- sprintf("/work?id=%d&kind=%s&ms=%d", i, kind[[i]], sample(1:40, 1))
    if (leaves[[i]]) {
      clients$add(server, path, key = paste(i), timeout_ms = patience[[i]])
    } else {
      clients$add(server, path, key = paste(i))
    }
    # Few at a time, or most would leave while they wait for a worker.
    wait_until(clients$step() && clients$count - length(clients$done) < 5, what = "room for another client")
  }
  done <- clients$wait()
  wait_for_workers(server)

  answered <- Filter(is.list, done)
  expect_true(all(paste(which(!leaves)) %in% names(answered)))
  expect_true(all(vapply(answered, `[[`, 1L, "status") == 200L))
  expect_identical(vapply(answered, `[[`, "", "text"), rlang::set_names(names(answered)))

  ids <- function(what) sub("^[a-z]+-", "", list.files(dir, paste0("^", what, "-")))
  expect_setequal(setdiff(ids("begun"), c(ids("whole"), ids("broken"))), character())
  # An interrupt may come before a handler has said that it begins, but not before its on.exit().
  expect_setequal(setdiff(ids("whole"), ids("begun")), character())
  expect_length(intersect(ids("whole"), ids("broken")), 0)
  expect_true(all(names(answered) %in% ids("whole")))
  # Otherwise this test has tested nothing.
  expect_gt(length(ids("broken")), 0)

  after <- server$status()
  expect_identical(after$pid, before$pid)
  expect_identical(after$restarts, c(0L, 0L))
})

for (path in c("/wait", "/promise", "/catch")) {
  test_that(paste("a client that leaves frees its worker:", path), {
    dir <- local_app("cancel")
    server <- local_cancel(dir, workers = 1, interrupt_timeout = 60)
    pid <- server$status()$pid
    clients <- crowd()
    leave(clients, server, dir, path, "left")
    expect_identical(json(request(server, "/pid"))$pid, pid)
    if (path == "/wait") expect_true(file.exists(file.path(dir, "ended-left")))
    expect_identical(server$status()$restarts, 0L)
    expect_identical(server$status()$in_flight, 0L)
  })
}

test_that("those who were cancelled are counted", {
  dir <- local_app("cancel")
  server <- local_cancel(dir, workers = 1, interrupt_timeout = 60, timeout = 1, admin_port = 0)
  clients <- crowd()
  leave(clients, server, dir, "/wait", "left")
  expect_identical(request(server, "/pid")$status, 200L)
  expect_identical(request(server, "/wait?id=late")$status, 504L)
  expect_identical(request(server, "/pid")$status, 200L)
  metrics <- request(server$admin_url, "/metrics")$text
  expect_match(metrics, "faucet_cancelled_total{pool=\"/\",reason=\"client_left\"} 1", fixed = TRUE)
  expect_match(metrics, "faucet_cancelled_total{pool=\"/\",reason=\"deadline\"} 1", fixed = TRUE)
})

# Compiled code that never looks for interrupts.
local_spin <- function(dir) {
  file <- file.path(dir, "spin.c")
  writeLines("void spin(void) { volatile unsigned long turns = 0; for (;;) turns++; }", file)
  out <- processx::run(
    file.path(R.home("bin"), "R"), c("CMD", "SHLIB", "-o", "spin.so", "spin.c"),
    wd = dir, error_on_status = FALSE, stderr_to_stdout = TRUE, env = c("current", R_TESTS = "")
  )
  if (out$status != 0) skip(paste("No C compiler:", out$stdout))
}

test_that("a worker that ignores its interrupt is replaced", {
  dir <- local_app("cancel")
  local_spin(dir)
  server <- local_cancel(dir, workers = 1, interrupt_timeout = 0.5)
  pid <- server$status()$pid
  clients <- crowd()
  leave(clients, server, dir, "/ignore", "left")
  expect_false(json(request(server, "/pid"))$pid == pid)
  wait_until_gone(pid)
  # For a moment there is a row for the process that goes, too.
  expect_identical(wait_for_workers(server, 1)$restarts, 1L)
})

test_that("a client that has left is logged as that, whatever becomes of its request", {
  dir <- local_app("cancel")
  log <- withr::local_tempfile()
  # Longer than the deadline: it passes while the interrupt waits for the end of system().
  server <- local_cancel(
    dir,
    workers = 1, timeout = 1, interrupt_timeout = 0.5, access_log = "json", log_file = log, admin_port = 0
  )
  clients <- crowd()
  leave(clients, server, dir, "/system", "left")
  entry <- wait_until(if (file.exists(log) && file.size(log) > 0) jsonlite::fromJSON(readLines(log)))
  expect_identical(entry$status, 499L)
  expect_null(entry$cause)
  metrics <- read_metrics(server$admin_url)
  expect_identical(metric(metrics, "faucet_requests_total", "status=\"499\",cause=\"\""), 1)
  expect_identical(metric(metrics, "faucet_requests_total", "cause=\"timeout\""), 0)
  writeLines("", file.path(dir, "released-left"))
})

test_that("a worker that swallows its interrupt and goes on is replaced", {
  dir <- local_app("cancel")
  server <- local_cancel(dir, workers = 1, interrupt_timeout = 0.5)
  pid <- server$status()$pid
  clients <- crowd()
  leave(clients, server, dir, "/swallow", "left")
  expect_false(json(request(server, "/pid"))$pid == pid)
  expect_true(file.exists(file.path(dir, "swallowed-left")))
  wait_until_gone(pid)
})

test_that("a worker that is stopped as a whole is replaced once its client has left", {
  dir <- local_app("cancel")
  # No deadline: nothing else would end it.
  server <- local_cancel(dir, workers = 1, interrupt_timeout = 0.5)
  pid <- server$status()$pid
  clients <- crowd()
  clients$add(server, "/wait?id=left", key = "left")
  wait_for_file(dir, "begun-left", clients)
  tools::pskill(pid, tools::SIGSTOP)
  clients$leave("left")
  expect_false(json(request(server, "/pid"))$pid == pid)
  wait_until_gone(pid)
})

test_that("with cancel = FALSE work goes on to its end, and can ask whether its client is there", {
  dir <- local_app("cancel")
  # An interrupt would have to be obeyed at once.
  server <- local_cancel(dir, workers = 1, cancel = FALSE, interrupt_timeout = 0.1)
  pid <- server$status()$pid
  clients <- crowd()
  leave(clients, server, dir, "/ask", "left")
  wait_for_file(dir, "told-left")
  clients$add(server, "/pid", key = "next")
  expect_identical(server$status()$state, "busy")
  expect_false(file.exists(file.path(dir, "ended-left")))
  release(dir, "left")
  expect_identical(json(clients$wait("next")[["next"]])$pid, pid)
  expect_true(file.exists(file.path(dir, "whole-left")))
})

test_that("what is shielded is finished, and then the handler is interrupted", {
  dir <- local_app("cancel")
  server <- local_cancel(dir, workers = 1, interrupt_timeout = 60)
  pid <- server$status()$pid
  clients <- crowd()
  leave(clients, server, dir, "/shield", "left")
  wait_for_file(dir, "told-left")
  clients$add(server, "/pid", key = "next")
  expect_identical(server$status()$state, "busy")
  expect_false(file.exists(file.path(dir, "whole-left")))
  release(dir, "left")
  expect_identical(json(clients$wait("next")[["next"]])$pid, pid)
  expect_true(all(file.exists(file.path(dir, c("whole-left", "ended-left")))))
})

test_that("a shield lasts as long as it takes, whatever interrupt_timeout is", {
  dir <- local_app("cancel")
  server <- local_cancel(dir, workers = 1, interrupt_timeout = 0.2)
  pid <- server$status()$pid
  clients <- crowd()
  leave(clients, server, dir, "/shield", "left")
  wait_for_file(dir, "told-left")
  # Five times as long as it may take to obey.
  callr::r(function() Sys.sleep(1))
  expect_true(is_alive(pid))
  release(dir, "left")
  wait_for_file(dir, "whole-left")
  expect_identical(request(server, "/pid")$status, 200L)
})

test_that("shield() gives the value of its code, also where nothing is served", {
  expect_identical(shield(1 + 1), 2)
  expect_identical(withVisible(shield(invisible("x")))$value, "x")
  expect_error(shield(stop("failed")), "failed")
})

test_that("a handler whose time is over is interrupted, and its worker stays", {
  dir <- local_app("cancel")
  server <- local_cancel(dir, workers = 1, timeout = 1, interrupt_timeout = 60)
  pid <- server$status()$pid
  for (path in c("/wait", "/promise", "/catch")) {
    late <- request(server, paste0(path, "?id=", basename(path)))
    expect_identical(late$status, 504L)
    expect_identical(late$headers[["faucet-error"]], "timeout")
    expect_identical(json(request(server, "/pid"))$pid, pid)
  }
  expect_true(file.exists(file.path(dir, "ended-wait")))
  expect_identical(server$status()$restarts, 0L)
})

test_that("a deadline interrupts what is shielded, too", {
  dir <- local_app("cancel")
  server <- local_cancel(dir, workers = 1, timeout = 1, interrupt_timeout = 60)
  pid <- server$status()$pid
  expect_identical(request(server, "/shield?id=1")$status, 504L)
  expect_identical(json(request(server, "/pid"))$pid, pid)
  expect_false(file.exists(file.path(dir, "whole-1")))
  expect_true(file.exists(file.path(dir, "ended-1")))
})

test_that("a deadline that is ignored costs the worker", {
  dir <- local_app("cancel")
  local_spin(dir)
  server <- local_cancel(dir, workers = 1, timeout = 1, interrupt_timeout = 0.5)
  pid <- server$status()$pid
  expect_identical(request(server, "/ignore?id=1")$status, 504L)
  expect_false(json(request(server, "/pid"))$pid == pid)
  wait_until_gone(pid)
})
