skip_on_os(c("windows", "mac"))
skip_on_cran()

# R's handlers of signals run on whichever thread takes the signal, and jump from there to R's own stack.

# A data frame of a process's threads but the first, which is R's: names, and the signals that each blocks.
threads_of <- function(pid) {
  folders <- setdiff(list.files(file.path("/proc", pid, "task"), full.names = TRUE), file.path("/proc", pid, "task", pid))
  read <- function(folder, file) {
    # It may just have ended.
    tryCatch(suppressWarnings(readLines(file.path(folder, file))), error = function(e) NA_character_)
  }
  mask <- function(folder) {
    line <- grep("^SigBlk:", read(folder, "status"), value = TRUE)
    if (length(line) == 1) trimws(sub("^SigBlk:", "", line)) else NA_character_
  }
  threads <- data.frame(
    name = vapply(folders, read, "", "comm", USE.NAMES = FALSE),
    mask = vapply(folders, mask, "", USE.NAMES = FALSE)
  )
  threads[!is.na(threads$name) & !is.na(threads$mask), ]
}

# HUP, INT, QUIT, ILL, ABRT, BUS, FPE, USR1, SEGV, USR2, PIPE, ALRM, TERM, CHLD.
handled <- c(1, 2, 3, 4, 6, 7, 8, 10, 11, 12, 13, 14, 15, 17)

blocks_all <- function(mask) {
  low <- strtoi(substring(mask, nchar(mask) - 6), 16)
  all(vapply(handled, function(signal) bitwAnd(low, bitwShiftL(1L, signal - 1L)) != 0, NA))
}

# R itself and what it loads may have threads, which have its name.
expect_blocked <- function(pid, names) {
  own <- readLines(file.path("/proc", pid, "comm"))
  threads <- threads_of(pid)
  threads <- threads[threads$name != own, ]
  expect_true(all(names %in% threads$name), info = toString(threads$name))
  for (i in seq_len(nrow(threads))) {
    expect_true(blocks_all(threads$mask[[i]]), info = paste(threads$name[[i]], threads$mask[[i]]))
  }
}

test_that("no thread of a front or of a native worker takes a signal", {
  dir <- local_app("echo")
  log <- withr::local_tempfile()
  for (preload in c(FALSE, TRUE)) {
    front <- local_front(
      dir,
      workers = 1L, worker_type = "native", preload = preload, log_file = log, access_log = "text", admin_port = 0L
    )
    # Large enough for a file in both.
    body <- as.raw(rep(1:100, 30000))
    response <- request(front$url, "/body", "POST", body, type = "application/octet-stream")
    expect_identical(response$body, body)
    expect_blocked(front$pid, c("faucet", "faucet-log", "faucet-spawn", "faucet-wait", "faucet-files"))
    parents <- vapply(list.files("/proc", "^[0-9]+$"), function(pid) {
      stat <- tryCatch(suppressWarnings(readLines(file.path("/proc", pid, "stat"))), error = function(e) "")
      as.integer(strsplit(sub("^.*\\) ", "", stat[[1]]), " ")[[1]][2])
    }, 1L)
    children <- function(pid) names(parents)[!is.na(parents) & parents == pid]
    worker <- children(front$pid)
    if (preload) worker <- children(worker[[1]])
    expect_blocked(worker[[1]], c("faucet-watch", "faucet-stdin", "faucet-serve"))
    front$process$signal(sig[["term"]])
    expect_identical(wait_for_exit(front), 0L)
  }
})
