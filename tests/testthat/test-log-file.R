skip_on_os("windows")
skip_on_cran()

local_fifo <- function(env = parent.frame()) {
  path <- withr::local_tempfile(.local_envir = env)
  if (system2("mkfifo", shQuote(path)) != 0) skip("no mkfifo")
  path
}

test_that("a pipe whose reader leaves ends nothing", {
  log <- local_fifo()
  reader <- processx::process$new("cat", log, stdout = "|")
  withr::defer(reader$kill())
  front <- local_front(local_app("basic"), workers = 1L, access_log = "text", log_file = log)
  expect_identical(request(front$url, "/hello?1")$status, 200L)
  line <- ""
  wait_until({
    line <<- paste0(line, reader$read_output())
    grepl("/hello?1 ", line, fixed = TRUE)
  }, what = "the first line")
  reader$kill()
  for (i in 1:20) expect_identical(request(front$url, "/hello?2")$status, 200L)
  wait_until(any(grepl("nobody reads", front$stderr())))
  reader <- processx::process$new("cat", log, stdout = "|")
  line <- ""
  wait_until({
    line <<- paste0(line, reader$read_output())
    grepl("/hello?2 ", line, fixed = TRUE)
  }, what = "the lines that were kept")
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
})

test_that("a server with a pipe that nobody reads starts, reloads and stops", {
  front <- local_front(local_app("basic"), workers = 1L, access_log = "text", log_file = local_fifo())
  pid <- json(request(front$url, "/pid"))$pid
  front$process$signal(sig[["hup"]])
  wait_until(json(request(front$url, "/pid"))$pid != pid)
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
})

test_that("a full disk is said once", {
  skip_on_os("mac")
  front <- local_front(local_app("basic"), workers = 1L, access_log = "text", log_file = "/dev/full")
  for (i in 1:20) expect_identical(request(front$url, "/hello")$status, 200L)
  wait_until(any(grepl("cannot be written", front$stderr())))
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
  expect_length(grep("cannot be written", front$stderr()), 1)
})

test_that("what clients write is escaped, as text and as JSON, and the file is its owner's", {
  hostile <- as.raw(c(0xe2, 0x80, 0xae, 0xc2, 0x85, 0xe2, 0x80, 0xa8, 0xc3, 0xa9))
  for (format in c("text", "json")) {
    log <- withr::local_tempfile()
    server <- local_server(local_app("basic"), workers = 1, access_log = format, log_file = log)
    connection <- socketConnection("127.0.0.1", as.integer(sub("^.*:", "", server$url)), open = "r+b", blocking = TRUE)
    writeBin(c(charToRaw("GET /nosuch/"), hostile, charToRaw(" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")), connection)
    readBin(connection, "raw", 100)
    close(connection)
    line <- wait_until(if (file.exists(log) && file.size(log) > 0) readBin(log, "raw", 10000))
    # Nothing but printable ASCII, or a letter that needs none.
    text <- gsub("\u00e9", "", rawToChar(line[line != 0x0a]), fixed = TRUE, useBytes = TRUE)
    expect_true(all(charToRaw(text) >= 0x20 & charToRaw(text) < 0x7f), info = text)
    expect_identical(file.info(log)$mode, as.octmode("600"))
    server$stop()
  }
})

test_that("a file is rotated, and the last lines before the end are in it", {
  folder <- withr::local_tempdir()
  log <- file.path(folder, "access.log")
  front <- local_front(
    local_app("basic"),
    workers = 1L, access_log = "text", log_file = log, log_max_size = 1000, log_keep = 2L
  )
  for (i in 1:30) expect_identical(request(front$url, paste0("/hello?", i))$status, 200L)
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
  expect_setequal(list.files(folder), c("access.log", "access.log.1", "access.log.2"))
  files <- paste0(log, c(".2", ".1", ""))
  expect_true(all(file.size(files) <= 1000))
  lines <- unlist(lapply(files, readLines))
  number <- as.integer(sub("^.* /hello[?]([0-9]+) .*$", "\\1", lines))
  expect_identical(number, seq(30L - length(lines) + 1L, 30L))
})

test_that("health checks are not in the log, unless asked for", {
  for (health in c(FALSE, TRUE)) {
    log <- withr::local_tempfile()
    given <- if (health) list(log_health = TRUE) else list()
    server <- do.call(
      local_server,
      c(list(local_app("basic"), workers = 1, access_log = "text", log_file = log, admin_port = 0, env = environment()), given)
    )
    paths <- c("/__faucet__/livez", "/__faucet__/readyz", "/__faucet__/nosuch", "/hello")
    for (path in paths) request(server, path)
    lines <- wait_until({
      lines <- if (file.exists(log)) readLines(log, warn = FALSE)
      if (any(grepl("/hello", lines))) lines
    })
    expect_identical(sub("^[^ ]+ [0-9]+ GET ([^ ]+) .*$", "\\1", lines), if (health) paths else paths[3:4])
    metrics <- read_metrics(server$admin_url)
    expect_identical(metric(metrics, "faucet_requests_total"), 4)
    server$stop()
  }
})
