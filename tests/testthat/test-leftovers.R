skip_on_cran()
skip_on_os("windows")

# What workers get of the session that starts them, and what they leave in the file system.

local_place <- function(env = parent.frame()) {
  dir <- local_code("plumber.R" = c(
    "#* @get /tempdir", "#* @serializer unboxedJSON",
    "function() {",
    "  writeLines(\"x\", tempfile())",
    "  list(tempdir = tempdir(), tmpdir = Sys.getenv(\"TMPDIR\"), pid = Sys.getpid())",
    "}",
    # An R process that is killed with its parent cannot tidy up.
    "#* @get /child", "#* @serializer unboxedJSON",
    paste(
      "function() {",
      "system2(file.path(R.home(\"bin\"), \"Rscript\"), c(\"-e\", shQuote(\"writeLines(tempdir(), 'child'); Sys.sleep(60)\")),",
      "wait = FALSE); list() }"
    ),
    "#* @get /loop", "function() { file.create(\"looping\"); repeat tryCatch(Sys.sleep(60), interrupt = function(e) NULL) }"
  ), env = env)
  dir
}

place <- function(server) {
  json(request(server, "/tempdir"))
}

open_files <- function(pid) {
  files <- list.files(file.path("/proc", pid, "fd"), full.names = TRUE)
  stats::na.omit(Sys.readlink(files))
}

test_that("neither workers nor their template get what this session has open", {
  skip_if_not(dir.exists("/proc/self/fd"))
  path <- withr::local_tempfile()
  open <- file(path, "w")
  withr::defer(close(open))
  # Ends when it is closed.
  pipe <- pipe("cat >/dev/null", "w")
  withr::defer(close(pipe))
  # What has no name of its own (`anon_inode:[eventpoll]`) tells nothing.
  own <- grep("^anon_inode:", open_files(Sys.getpid()), invert = TRUE, value = TRUE)
  expect_true(normalizePath(path) %in% own)
  for (preload in c(FALSE, TRUE)) {
    server <- local_server(local_place(), workers = 2, preload = preload, worker_type = "native", admin_port = 0)
    pids <- wait_for_workers(server, 2)$pid
    template <- first_pool(request(server$admin_url, "/status"))$template$pid
    files <- lapply(c(pids, template), open_files)
    for (theirs in files) {
      expect_gt(length(theirs), 2)
      expect_identical(setdiff(intersect(theirs, own), "/dev/null"), character())
    }
    # Nor do they get one another's.
    streams <- unlist(lapply(files, function(files) unique(grep("^(pipe|socket):", files, value = TRUE))))
    expect_identical(anyDuplicated(streams), 0L)
    server$stop()
  }
})

for (kind in c("native", "http")) {
  test_that(paste("a", kind, "worker that is killed leaves no temporary files, nor do its children"), {
    dir <- local_place()
    server <- local_server(dir, workers = 1, worker_type = kind)
    before <- place(server)
    expect_identical(normalizePath(dirname(before$tempdir)), normalizePath(before$tmpdir))
    expect_identical(format(file.mode(before$tmpdir)), "700")
    request(server, "/child")
    wait_for_file(dir, "child")
    child <- wait_until({
      lines <- readLines(file.path(dir, "child"))
      if (length(lines) == 1) lines
    })
    expect_identical(dirname(child), before$tmpdir)
    tools::pskill(before$pid, sig[["kill"]])
    wait_until(!dir.exists(before$tmpdir))
    wait_for_workers(server, 1)
    after <- place(server)
    expect_false(identical(after$tmpdir, before$tmpdir))
    server$stop()
    expect_false(dir.exists(dirname(after$tmpdir)))
  })
}

test_that("forked workers share the template's tempdir() until all of them have ended", {
  server <- local_server(local_place(), workers = 1, worker_type = "native", preload = TRUE, admin_port = 0)
  before <- place(server)
  template <- first_pool(request(server$admin_url, "/status"))$template$pid
  tools::pskill(before$pid, sig[["kill"]])
  wait_until(!dir.exists(before$tmpdir))
  wait_for_workers(server, 1)
  expect_identical(place(server)$tempdir, before$tempdir)
  # The template's end is nothing to them.
  pid <- place(server)$pid
  tools::pskill(template, sig[["kill"]])
  wait_until(!identical(first_pool(request(server$admin_url, "/status"))$template$pid, template))
  expect_identical(place(server)$tempdir, before$tempdir)
  tools::pskill(pid, sig[["kill"]])
  wait_until(!dir.exists(before$tempdir))
  server$stop()
})

for (preload in c(FALSE, TRUE)) {
  test_that(paste("kill -9 of the front leaves nothing among the temporary files, preload =", preload), {
    dir <- local_place()
    temporary <- withr::local_tempdir()
    front <- local_front(
      dir,
      workers = 2L, preload = preload, worker_type = "native", env_vars = c(TMPDIR = temporary)
    )
    wait_until(json(request(front$url, "/__faucet__/readyz"))$serving == 2)
    pid <- place(front$url)$pid
    expect_length(list.files(temporary, "^faucet[.]"), 2)
    # One worker is idle, the other one deaf to all but the hardest signal.
    clients <- crowd()
    clients$add(front$url, "/loop")
    wait_for_file(dir, "looping", clients)
    front$process$signal(sig[["kill"]])
    wait_until_gone(c(front$pid, pid))
    wait_until(length(list.files(temporary, "^faucet[.]")) == 0)
  })
}

test_that("what a server left whose workers were killed, too, is removed by the next one", {
  temporary <- withr::local_tempdir()
  left <- file.path(temporary, "faucet.Ab12Cd")
  dir.create(file.path(left, "1", "RtmpAbCdEf"), recursive = TRUE)
  writeLines("4711", file.path(left, "server"))
  other <- file.path(temporary, "faucet.config")
  dir.create(other)
  front <- local_front(local_place(), workers = 1L, env_vars = c(TMPDIR = temporary))
  wait_until(!dir.exists(left))
  expect_true(dir.exists(other))
})

test_that("what the app says of its place in the environment removes nothing when the front is killed", {
  dir <- local_code("plumber.R" = c(
    "Sys.setenv(TMPDIR = file.path(getwd(), \"mine\"))",
    "#* @get /pid", "#* @serializer unboxedJSON",
    "function() { Sys.setenv(FAUCET_SOCKET = file.path(getwd(), \"mine\", \"file\")); list(pid = Sys.getpid()) }"
  ))
  dir.create(file.path(dir, "mine"))
  file.create(file.path(dir, "mine", "file"))
  front <- local_front(dir, workers = 1L, worker_type = "native")
  pid <- json(request(front$url, "/pid"))$pid
  front$process$signal(sig[["kill"]])
  wait_until_gone(c(front$pid, pid))
  expect_true(file.exists(file.path(dir, "mine", "file")))
})
