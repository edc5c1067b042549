# Signals that would end R, or raise an error in it, while it serves in the foreground.

skip_on_os("windows")
skip_on_cran()

harmless <- c(tools::SIGUSR1, tools::SIGUSR2, sig[["pipe"]])

test_that("USR1, USR2 and PIPE end nothing, neither while workers start nor later, and save no workspace", {
  dir <- local_code("entrypoint.R" = c(
    "file.create(\"begun\")",
    "while (!file.exists(\"go\")) Sys.sleep(0.01)",
    "plumber::pr_get(plumber::pr(), \"/hello\", function() \"hello\")"
  ))
  wd <- withr::local_tempdir()
  front <- local_rscript(sprintf("faucet::run(\"%s\", workers = 1, port = 0, access_log = \"none\")", dir), wd = wd)
  wait_until(file.exists(file.path(dir, "begun")))
  for (signal in harmless) front$process$signal(signal)
  file.create(file.path(dir, "go"))
  front <- wait_until_ready(front)
  for (signal in harmless) {
    front$process$signal(signal)
    expect_identical(json(request(front$url, "/hello")), "hello")
  }
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
  expect_true(any(grepl("^Stopped", front$stderr())))
  expect_identical(list.files(wd, all.files = TRUE, no.. = TRUE), character())
})

test_that("TERM while workers start stops in order", {
  dir <- local_code("plumber.R" = c("file.create(paste0(\"pid-\", Sys.getpid()))", "Sys.sleep(600)"))
  front <- local_rscript(sprintf("faucet::run(\"%s\", workers = 2, port = 0, shutdown_timeout = 1)", dir))
  wait_until(length(list.files(dir, "^pid-")) == 2)
  pids <- as.integer(sub("^pid-", "", list.files(dir, "^pid-")))
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
  wait_until_gone(pids)
  expect_true(any(grepl("^Draining", front$stderr())))
})

test_that("afterwards these signals mean again what they meant before", {
  dir <- local_app("basic")
  front <- local_rscript(sprintf(
    "server <- faucet::run(\"%s\", workers = 1, port = 0); cat(\"after\\n\"); Sys.sleep(600)", dir
  ))
  front <- wait_until_ready(front)
  front$process$interrupt()
  wait_until("after" %in% front$stdout())
  front$process$signal(tools::SIGUSR2)
  wait_for_exit(front)
  expect_false(front$process$is_alive())
})

test_that("workers hear what the front ignores", {
  dir <- local_code("plumber.R" = c(
    "#* @get /ignored", "#* @serializer text",
    "function() sub(\"^SigIgn:\\t\", \"\", grep(\"^SigIgn\", readLines(\"/proc/self/status\"), value = TRUE))"
  ))
  skip_if_not(file.exists("/proc/self/status"))
  front <- local_front(dir, workers = 1L)
  bits <- function(hex) as.integer(rev(intToBits(strtoi(substr(hex, 9, 16), 16L))))[33L - c(10L, 12L, 13L)]
  expect_identical(bits(request(front$url, "/ignored")$text), c(0L, 0L, 0L))
  front$process$signal(sig[["term"]])
  wait_for_exit(front)
})

test_that("USR1 and HUP open the log again", {
  dir <- local_app("basic")
  log <- withr::local_tempfile()
  front <- local_front(dir, workers = 1L, access_log = "text", log_file = log)
  logs <- function(path, text) any(grepl(text, readLines(path), fixed = TRUE))
  for (signal in c(tools::SIGUSR1, sig[["hup"]])) {
    moved <- paste0(log, ".", signal)
    request(front$url, paste0("/pid?before=", signal, "&"))
    wait_until(file.exists(log) && logs(log, paste0("/pid?before=", signal, "&")))
    file.rename(log, moved)
    front$process$signal(signal)
    wait_until(file.exists(log), what = "a new file")
    request(front$url, paste0("/pid?after=", signal, "&"))
    wait_until(logs(log, paste0("/pid?after=", signal, "&")))
    expect_false(logs(moved, paste0("/pid?after=", signal, "&")))
  }
})
