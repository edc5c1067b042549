# Standard output and error that nobody reads, or that cannot be written: printing ends nothing and delays nothing.

skip_on_os("windows")
skip_on_cran()

# A front in the foreground whose `stream` goes to a FIFO, which this session reads until the front is ready, and the
# other one to a file. `close()` leaves the front without a reader; without it the FIFO fills up.
local_piped_front <- function(dir, stream, before = "NULL", ..., env = parent.frame()) {
  files <- withr::local_tempdir(.local_envir = env)
  path <- function(name) file.path(files, name)
  system2("mkfifo", path("fifo"))
  fifo <- fifo(path("fifo"), "r", blocking = FALSE)
  closed <- FALSE
  close_fifo <- function() {
    if (!closed) close(fifo)
    closed <<- TRUE
  }
  withr::defer(close_fifo(), envir = env)
  to <- list(stdout = path("stdout"), stderr = path("stderr"))
  file.create(unlist(to))
  to[[stream]] <- path("fifo")
  front <- local_redirected_front(dir, to$stdout, to$stderr, before, ..., env = env)
  seen <- character()
  front$said <- function(name) {
    if (name == stream) seen else readLines(path(name), warn = FALSE)
  }
  front$close <- close_fifo
  line <- wait_until(
    {
      if (!front$process$is_alive()) stop("The front has ended.")
      seen <<- c(seen, readLines(fifo))
      line <- grep("Ready on http://", front$said("stderr"), value = TRUE)
      if (length(line) > 0) line[[1]]
    },
    what = "the front to be ready"
  )
  front$url <- sub("^.*Ready on (http://[^ ]*) .*$", "\\1", line)
  front
}

local_redirected_front <- function(dir, stdout, stderr, before = "NULL", ...,
                                     redirect = "> \"$2\" 2> \"$3\"", env = parent.frame()) {
  settings <- utils::modifyList(list(workers = 1L, port = 0L, access_log = "text"), list(...))
  arguments <- paste(names(settings), vapply(settings, deparse, ""), sep = " = ", collapse = ", ")
  process <- processx::process$new(
    "/bin/sh", c(
      "-c", paste("exec \"$0\" -e \"$1\"", redirect),
      file.path(R.home("bin"), "Rscript"),
      sprintf("%s; faucet::run(\"%s\", %s)", before, dir, arguments), stdout, stderr
    ),
    env = c("current", R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep), R_TESTS = "")
  )
  withr::defer(if (process$is_alive()) process$kill(), envir = env)
  list(process = process, pid = process$get_pid())
}

# More than a pipe holds, on standard output (access log) and on standard error (the worker's output).
flood <- function(front) {
  for (i in 1:20) {
    answer <- request(front$url, paste0("/say?text=", strrep("x", 7000)))
    expect_identical(answer$status, 200L)
  }
}

say_app <- function(env = parent.frame()) {
  local_code("plumber.R" = c(
    "#* @get /say", "#* @serializer text",
    "function(text) { message(text); \"said\" }"
  ), env = env)
}

reload <- function(front, stream) {
  before <- sum(grepl("is ready$", front$said(stream)))
  front$process$signal(sig[["hup"]])
  wait_until(sum(grepl("is ready$", front$said(stream))) > before, what = "the reload to be told")
}

test_that("a standard output whose reader has left ends nothing, and is told once", {
  front <- local_piped_front(say_app(), "stdout")
  front$close()
  flood(front)
  reload(front, "stderr")
  flood(front)
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
  said <- front$said("stderr")
  expect_identical(sum(grepl("standard output", said)), 1L)
  expect_true(any(grepl("^Stopped", said)))
})

test_that("a standard error whose reader has left ends nothing, and is told once", {
  front <- local_piped_front(say_app(), "stderr")
  front$close()
  flood(front)
  flood(front)
  wait_until(sum(grepl(" 200 GET /say", front$said("stdout"))) == 40)
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
  expect_identical(sum(grepl("standard error", front$said("stdout"))), 1L)
})

test_that("a full standard output delays neither a reload nor TERM", {
  front <- local_piped_front(say_app(), "stdout")
  flood(front)
  reload(front, "stderr")
  flood(front)
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
  expect_true(any(grepl("^Stopped", front$said("stderr"))))
})

test_that("a full standard error does not hold up standard output, nor Ctrl-C", {
  front <- local_piped_front(say_app(), "stderr")
  flood(front)
  flood(front)
  wait_until(sum(grepl(" 200 GET /say", front$said("stdout"))) == 40)
  front$process$interrupt()
  expect_identical(wait_for_exit(front), 0L)
})

test_that("standard streams that are closed are no client's", {
  port <- httpuv::randomPort()
  front <- local_redirected_front(say_app(), "/dev/null", "/dev/null", redirect = ">&- 2>&-", port = port)
  url <- paste0("http://127.0.0.1:", port)
  wait_until({
    if (!front$process$is_alive()) stop("The front has ended.")
    accepts_connections(url)
  })
  clients <- crowd()
  for (i in 1:20) clients$add(url, paste0("/say?text=", i))
  for (answer in clients$wait()) expect_identical(answer$text, "said")
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
})

test_that("full disks, warnings as errors, a broken cli and a session without its folder end nothing", {
  skip_if_not(file.exists("/dev/full"))
  dir <- local_code("plumber.R" = c(
    "#* @get /pid", "#* @serializer text", "function() { message(\"here\"); Sys.getpid() }", "file.create(\"loaded\")"
  ))
  port <- httpuv::randomPort()
  front <- local_redirected_front(dir, "/dev/full", "/dev/full", before = paste(
    "options(warn = 2); unlink(tempdir(), recursive = TRUE);",
    "for (name in c(\"format_inline\", \"is_dynamic_tty\", \"num_ansi_colors\", \"console_width\"))",
    "assignInNamespace(name, function(...) stop(\"cli is broken\"), \"cli\")"
  ), port = port)
  url <- paste0("http://127.0.0.1:", port)
  pid <- wait_until({
    if (!front$process$is_alive()) stop("The front has ended.")
    if (file.exists(file.path(dir, "loaded")) && accepts_connections(url)) request(url, "/pid")$text
  })
  front$process$signal(sig[["hup"]])
  wait_until(request(url, "/pid")$text != pid)
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
})
