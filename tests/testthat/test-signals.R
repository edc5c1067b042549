skip_on_os("windows")
skip_on_cran()

test_that("TERM lets a request of 3 seconds finish, and then the process exits with 0", {
  dir <- local_app("hooks")
  front <- local_front(dir, workers = 2L)
  pids <- worker_pids(front$url, 2)
  clients <- crowd()
  clients$add(front$url, "/work?id=1&ms=3000", key = "work")
  wait_until(clients$step() && length(list.files(dir, "^begun-1-")) == 1)

  front$process$signal(sig[["term"]])
  expect_identical(clients$wait()$work$text, "worked")
  expect_identical(wait_for_exit(front), 0L)
  expect_true(any(grepl("Draining", front$stderr())))
  wait_until_gone(pids)
  expect_setequal(list.files(dir, "^exit-ended-"), paste0("exit-ended-", pids))
  expect_setequal(list.files(dir, "^last-"), paste0("last-", pids))
})

test_that("while it drains, nothing new is taken", {
  dir <- local_app("basic")
  front <- local_front(dir, workers = 2L)
  clients <- crowd()
  hold(clients, front$url, dir, "work")
  front$process$signal(sig[["term"]])
  wait_until(any(grepl("Draining", front$stderr())))
  after <- tryCatch(request(front$url, "/work?id=2")$status, error = function(e) NULL)
  expect_true(is.null(after) || after == 503L)
  release(dir, "work")
  expect_identical(clients$wait()$work$status, 200L)
  wait_for_exit(front)
  expect_false(file.exists(file.path(dir, "begun-2")))
})

test_that("Ctrl-C drains, run() returns and the script goes on", {
  dir <- local_app("hooks")
  code <- sprintf(
    "s <- faucet::run(\"%s\", workers = 1, port = 0, access_log = \"none\"); cat(\"after:\", s$is_running(), \"\\n\")",
    dir
  )
  front <- local_rscript(code)
  url <- wait_until({
    line <- grep("Ready on", front$stderr(), value = TRUE)
    if (length(line) > 0) sub("^.*Ready on (http://[^ ]*) .*$", "\\1", line[[1]])
  })
  clients <- crowd()
  clients$add(url, "/work?id=1&ms=2000", key = "work")
  wait_until(clients$step() && length(list.files(dir, "^begun-1-")) == 1)
  front$process$interrupt()
  expect_identical(clients$wait()$work$text, "worked")
  expect_identical(wait_for_exit(front), 0L)
  expect_identical(front$stdout(), "after: FALSE ")
  expect_length(list.files(dir, "^exit-ended-"), 1)
})

test_that("a second Ctrl-C ends requests in flight at once", {
  dir <- local_app("basic")
  front <- local_front(dir, workers = 1L, shutdown_timeout = 600)
  pids <- worker_pids(front$url, 1)
  clients <- crowd()
  hold(clients, front$url, dir, "work")
  front$process$interrupt()
  wait_until(clients$step() && any(grepl("Draining", front$stderr())))
  expect_true(front$process$is_alive())
  front$process$interrupt()
  wait_for_exit(front)
  wait_until_gone(pids)
  expect_false(file.exists(file.path(dir, "ended-work")))
})

test_that("a second TERM does so too", {
  dir <- local_app("basic")
  front <- local_front(dir, workers = 1L, shutdown_timeout = 600)
  pids <- worker_pids(front$url, 1)
  clients <- crowd()
  clients$add(front$url, "/loop?id=1", key = "work")
  wait_until(clients$step() && file.exists(file.path(dir, "begun-1")))
  front$process$signal(sig[["term"]])
  wait_until(clients$step() && any(grepl("Draining", front$stderr())))
  front$process$signal(sig[["term"]])
  wait_for_exit(front)
  wait_until_gone(pids)
})

test_that("shutdown_timeout ends what takes too long", {
  dir <- local_app("basic")
  front <- local_front(dir, workers = 1L, shutdown_timeout = 0.5)
  pids <- worker_pids(front$url, 1)
  clients <- crowd()
  clients$add(front$url, "/loop?id=1", key = "work")
  wait_until(clients$step() && file.exists(file.path(dir, "begun-1")))
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
  wait_until_gone(pids)
})

test_that("HUP reloads, and a reload that fails ends nothing", {
  version <- function(n) c("#* @get /version", "#* @serializer text", sprintf("function() \"version %d\"", n))
  dir <- local_code("plumber.R" = version(1))
  front <- local_front(dir, workers = 1L)
  expect_identical(request(front$url, "/version")$text, "version 1")

  write_code(dir, "plumber.R", "function( {")
  front$process$signal(sig[["hup"]])
  wait_until(any(grepl("Reload failed", front$stderr())))
  expect_identical(request(front$url, "/version")$text, "version 1")

  write_code(dir, "plumber.R", version(2))
  front$process$signal(sig[["hup"]])
  wait_until(request(front$url, "/version")$text == "version 2")
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
})

test_that("a script that ends without stopping its server leaves no process behind", {
  dir <- local_app("basic")
  front <- local_rscript(sprintf(
    "server <- faucet::run(\"%s\", workers = 2, port = 0, block = FALSE, quiet = TRUE); cat(server$status()$pid)",
    dir
  ))
  wait_for_exit(front)
  pids <- as.integer(strsplit(front$stdout(), " ")[[1]])
  wait_until_gone(pids[!is.na(pids)])
})

test_that("Ctrl-C while workers start leaves no process behind", {
  for (block in c(TRUE, FALSE)) {
    dir <- local_code("plumber.R" = c("file.create(paste0(\"pid-\", Sys.getpid()))", "Sys.sleep(600)"))
    front <- local_rscript(sprintf("faucet::run(\"%s\", workers = 2, port = 0, block = %s)", dir, block))
    wait_until(length(list.files(dir, "^pid-")) == 2)
    pids <- as.integer(sub("^pid-", "", list.files(dir, "^pid-")))
    front$process$interrupt()
    wait_for_exit(front)
    wait_until_gone(pids)
  }
})
