test_that("the handle tells how the server is doing", {
  server <- local_server(local_app("basic"), workers = 2)
  expect_s3_class(server, "faucet_server")
  expect_match(server$url, "^http://127.0.0.1:[0-9]+$")
  expect_null(server$admin_url)
  expect_true(server$is_running())

  status <- wait_for_workers(server, 2)
  expect_identical(class(status), "data.frame")
  columns <- c(
    "pool", "worker", "pid", "name", "address", "state", "worker_type", "compiled", "slots", "in_flight", "sessions", "requests",
    "restarts", "memory", "started", "boot", "next_try"
  )
  expect_named(status, columns)
  expect_identical(status$worker, 1:2)
  expect_type(status$pid, "integer")
  expect_true(all(is_alive(status$pid)))
  expect_type(status$address, "character")
  expect_false(anyNA(status$address))
  expect_identical(status$slots, c(1L, 1L))
  expect_identical(status$in_flight, c(0L, 0L))
  expect_identical(status$restarts, c(0L, 0L))
  expect_true(all(status$memory > 1e7))
  expect_s3_class(status$started, "POSIXct")
  expect_true(all(abs(as.numeric(Sys.time()) - as.numeric(status$started)) < 600))
  expect_true(all(status$boot > 0 & status$boot < 600))
  expect_s3_class(status$next_try, "POSIXct")
  expect_true(all(is.na(status$next_try)))
  expect_true(all(status$worker_type %in% c("native", "http")))
  expect_error(server$url <- "x", class = "faucet_error")
  # Nobody looks its workers up.
  expect_null(server$lookup())
})

test_that("the handle prints itself as a short table", {
  server <- local_server(local_app("basic"), workers = 2, worker_type = "native")
  wait_for_workers(server, 2)
  withr::local_options(cli.num_colors = 1L)
  steady <- function(lines) {
    lines <- gsub("http://127.0.0.1:[0-9]+", "<url>", lines)
    lines <- sub("^(\\S*/)?\\S*basic-\\S+$", "<dir>", lines)
    lines <- gsub(" +[0-9]+ MB", " <memory>", lines)
    lines <- gsub("[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:]{8}", "<started>", lines)
    lines <- sub(" [0-9.]+ s$", " <boot>", lines)
    lines <- gsub("^( +[12] +)[0-9]+", "\\1<pid>", lines)
    gsub(" +", " ", lines)
  }
  expect_snapshot(print(server), transform = steady)
  server$stop()
  expect_snapshot(print(server), transform = steady)
})

test_that("str() shows the address, the state and the number of workers, also inside a list", {
  server <- local_server(local_app("basic"), workers = 2)
  wait_for_workers(server, 2)
  withr::local_options(cli.num_colors = 1L)
  title <- paste("<faucet_server>", server$url)
  expect_identical(capture.output(str(server)), c(title, " running: 2 workers"))
  expect_identical(capture.output(str(list(a = server)))[-1], c(paste0(" $ a:", title), "  ..running: 2 workers"))
  server$stop()
  expect_identical(capture.output(str(server)), c(title, " stopped"))
})

test_that("stop() ends the workers and the port, and may be called again", {
  server <- local_server(local_app("basic"), workers = 2)
  pids <- wait_for_workers(server, 2)$pid
  expect_identical(withVisible(server$stop()), list(value = server, visible = FALSE))
  wait_until_gone(pids)
  expect_false(server$is_running())
  expect_false(accepts_connections(server$url))
  expect_no_error(server$stop())
  expect_true(server$wait())
})

test_that("stop() lets a request in flight finish, and exit hooks run to their end", {
  skip_on_os("windows")
  dir <- local_app("hooks")
  server <- local_server(dir, workers = 1)
  pid <- wait_for_workers(server, 1)$pid
  clients <- crowd()
  clients$add(server, "/work?id=1&ms=1500", key = "work")
  wait_until(clients$step() && file.exists(file.path(dir, paste0("begun-1-", pid))))
  server$stop(timeout = 30)
  expect_identical(clients$wait()$work$text, "worked")
  expect_true(all(file.exists(file.path(dir, paste0(c("exit-begun-", "exit-ended-", "last-"), pid)))))
})

test_that("stop() ends a request that takes too long, and exit hooks still run", {
  skip_on_os("windows")
  dir <- local_app("hooks")
  server <- local_server(dir, workers = 1)
  pid <- wait_for_workers(server, 1)$pid
  clients <- crowd()
  clients$add(server, "/work?id=1&ms=60000", key = "work")
  wait_until(clients$step() && file.exists(file.path(dir, paste0("begun-1-", pid))))
  server$stop(timeout = 0.5)
  clients$wait()
  wait_until_gone(pid)
  expect_true(all(file.exists(file.path(dir, paste0(c("exit-begun-", "exit-ended-", "last-"), pid)))))
})

test_that("drain() takes nothing new, and finishes what it has", {
  dir <- local_app("basic")
  server <- local_server(dir, workers = 1)
  clients <- crowd()
  clients$add(server, "/work?id=1&ms=1500", key = "work")
  wait_until(clients$step() && file.exists(file.path(dir, "begun-1")))
  expect_identical(withVisible(server$drain()), list(value = server, visible = FALSE))
  expect_true(file.exists(file.path(dir, "ended-1")))
  expect_identical(clients$wait()$work$status, 200L)
  # Either refused or told so, but never served.
  after <- tryCatch(request(server, "/work?id=2")$status, error = function(e) NULL)
  expect_true(is.null(after) || after == 503L)
  expect_false(file.exists(file.path(dir, "begun-2")))
})

test_that("methods check their arguments", {
  server <- local_server(local_app("basic"), workers = 1)
  expect_error(server$stop(timeout = -1), class = "faucet_error_option")
  expect_error(server$drain(timeout = "soon"), class = "faucet_error_option")
  expect_error(server$wait(timeout = NA), class = "faucet_error_option")
  expect_true(server$is_running())
})

test_that("wait() gives up when its time is over, and the server goes on", {
  server <- local_server(local_app("basic"), workers = 1)
  expect_identical(withVisible(server$wait(timeout = 0.3)), list(value = FALSE, visible = FALSE))
  expect_identical(request(server, "/hello")$text, "hello")
})

test_that("several servers run in one session", {
  one <- local_server(local_app("basic"), workers = 1)
  two <- local_server(local_app("router"), workers = 1)
  expect_false(one$url == two$url)
  expect_identical(request(one, "/hello")$text, "hello")
  expect_identical(request(two, "/greeting")$text, "from a router")
  one$stop()
  expect_false(one$is_running())
  expect_true(two$is_running())
  expect_identical(request(two, "/greeting")$text, "from a router")
})

test_that("a handle that was saved and read again says what it is", {
  server <- local_server(local_app("basic"), workers = 1)
  file <- withr::local_tempfile(fileext = ".rds")
  saveRDS(server, file)
  restored <- readRDS(file)
  expect_error(restored$status(), class = "faucet_error_handle")
  expect_error(restored$is_running(), class = "faucet_error_handle")
  expect_error(restored$stop(), class = "faucet_error_handle")
  expect_error(restored$scale(2), class = "faucet_error_handle")
  expect_error(restored$lookup(), class = "faucet_error_handle")
  expect_output(print(restored), "belongs to another R process")
  rm(restored)
  gc()
  expect_identical(request(server, "/hello")$text, "hello")
})

test_that("a forked process cannot use the handle, and does not end the server", {
  skip_on_os("windows")
  server <- local_server(local_app("basic"), workers = 1)
  child <- parallel::mcparallel({
    class <- tryCatch(server$status(), error = function(error) class(error))
    try(server$stop(), silent = TRUE)
    rm(server, envir = environment())
    gc()
    class
  })
  class <- parallel::mccollect(child)[[1]]
  expect_true("faucet_error_handle" %in% class)
  expect_true(server$is_running())
  expect_identical(request(server, "/hello")$text, "hello")
})

test_that("a server whose handle is gone ends", {
  dir <- local_app("basic")
  server <- faucet::run(dir, workers = 1, port = 0, block = FALSE, quiet = TRUE, access_log = "none")
  pid <- wait_for_workers(server, 1)$pid
  rm(server)
  wait_until({
    gc()
    !is_alive(pid)
  })
  expect_false(is_alive(pid))
})

test_that("options and the environment reach the server", {
  withr::local_envvar(FAUCET_WORKERS = "3")
  dir <- local_app("basic")
  server <- faucet::run(dir, port = 0, block = FALSE, quiet = TRUE, access_log = "none")
  withr::defer(server$stop(timeout = 1))
  expect_identical(nrow(server$status()), 3L)
})
