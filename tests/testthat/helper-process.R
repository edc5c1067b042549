# Other R processes: a front of its own, for tests that send it signals, and plumber without faucet.

# `Rscript -e <code>`; what it prints goes to files, as nobody reads a pipe meanwhile. `prefix` is a command that runs
# it, such as `prlimit`.
local_rscript <- function(code, wd = ".", env_vars = character(), prefix = character(), env = parent.frame()) {
  files <- withr::local_tempfile(.local_envir = env)
  dir.create(files)
  command <- c(prefix, file.path(R.home("bin"), "Rscript"), "-e", code)
  process <- processx::process$new(
    command[[1]], command[-1],
    wd = wd, stdout = file.path(files, "stdout"), stderr = file.path(files, "stderr"),
    env = c("current", R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep), R_TESTS = "", env_vars)
  )
  withr::defer(
    {
      if (process$is_alive()) process$kill()
      unlink(files, recursive = TRUE)
    },
    envir = env
  )
  list(
    process = process,
    pid = process$get_pid(),
    stdout = function() readLines(file.path(files, "stdout"), warn = FALSE),
    stderr = function() readLines(file.path(files, "stderr"), warn = FALSE)
  )
}

# `faucet::run()` in the foreground of a process of its own, once it is ready.
local_front <- function(dir, ..., env_vars = character(), prefix = character(), env = parent.frame()) {
  settings <- utils::modifyList(list(workers = 2L, port = 0L, access_log = "none"), list(...))
  arguments <- paste(names(settings), vapply(settings, deparse, ""), sep = " = ", collapse = ", ")
  code <- sprintf("faucet::run(\"%s\", %s)", dir, arguments)
  front <- local_rscript(code, env_vars = env_vars, prefix = prefix, env = env)
  wait_until_ready(front)
}

wait_until_ready <- function(front) {
  ready <- wait_until(
    {
      if (!front$process$is_alive()) {
        stop(paste(c("The front has ended:", front$stderr()), collapse = "\n"))
      }
      line <- grep("Ready on https?://", front$stderr(), value = TRUE)
      if (length(line) > 0) line[[1]]
    },
    what = "the front to be ready"
  )
  front$url <- sub("^.*Ready on (https?://[^ ]*) .*$", "\\1", ready)
  front
}

wait_for_exit <- function(front, timeout = 60) {
  wait_until(!front$process$is_alive(), timeout = timeout, what = "the process to end")
  front$process$get_exit_status()
}

# The processes of all workers: each of as many requests at once is answered by another one. For apps with `/pid`.
worker_pids <- function(server, workers = 2) {
  wait_until(
    {
      clients <- crowd()
      for (i in seq_len(workers)) clients$add(server, paste0("/pid?ms=300&", i))
      pids <- unique(vapply(clients$wait(), function(response) json(response)$pid, 1L))
      if (length(pids) == workers) pids
    },
    what = "every worker to answer"
  )
}

# A process that has ended, but that nobody has waited for yet, counts as gone.
is_alive <- function(pid) {
  vapply(pid, function(pid) {
    stat <- file.path("/proc", pid, "stat")
    if (dir.exists("/proc/self")) {
      line <- tryCatch(suppressWarnings(readLines(stat)), error = function(e) character())
      length(line) > 0 && !grepl("^[0-9]+ \\(.*\\) [ZX]", line[[1]])
    } else {
      state <- suppressWarnings(system2("ps", c("-o", "stat=", "-p", pid), stdout = TRUE, stderr = FALSE))
      length(state) > 0 && !startsWith(state[[1]], "Z")
    }
  }, logical(1))
}

wait_until_gone <- function(pids, timeout = 30) {
  wait_until(!any(is_alive(pids)), timeout = timeout, what = "processes to be gone")
  expect_false(any(is_alive(pids)))
}

# plumber alone, on the same directory.
local_plumber <- function(dir, env = parent.frame()) {
  code <- paste0(
    "library(plumber); port <- httpuv::randomPort(); cat(port, '\\n');",
    "plumb(dir = \"", dir, "\")$run(port = port, quiet = TRUE)"
  )
  direct <- local_rscript(code, wd = dir, env = env)
  url <- wait_until(
    {
      if (!direct$process$is_alive()) {
        stop(paste(c("plumber has ended:", direct$stderr()), collapse = "\n"))
      }
      port <- grep("^[0-9]+ *$", direct$stdout(), value = TRUE)
      url <- paste0("http://127.0.0.1:", trimws(port))
      if (length(port) > 0 && answers(url)) url
    },
    what = "plumber to answer"
  )
  url
}

answers <- function(url) {
  tryCatch(request(url, "/openapi.json")$status > 0, error = function(e) FALSE)
}

accepts_connections <- function(url) {
  tryCatch(
    {
      close(suppressWarnings(socketConnection("127.0.0.1", as.integer(sub("^.*:", "", url)), timeout = 5)))
      TRUE
    },
    error = function(e) FALSE
  )
}

# Whether this machine has such an address.
has_address <- function(host) {
  !inherits(try(httpuv::randomPort(host = host, n = 5), silent = TRUE), "try-error")
}

# The number of a signal, where tools does not name it.
sig <- c(hup = 1L, int = 2L, kill = 9L, pipe = 13L, term = 15L, cont = 18L, stop = 19L)

# A client that asks again and again from a process of its own. `stop()` returns the status of each answer.
local_client <- function(server, path, env = parent.frame()) {
  stop_file <- withr::local_tempfile(.local_envir = env)
  begun_file <- withr::local_tempfile(.local_envir = env)
  process <- callr::r_bg(
    function(url, stop_file, begun_file) {
      answers <- integer()
      while (!file.exists(stop_file)) {
        answers <- c(answers, tryCatch(curl::curl_fetch_memory(url)$status_code, error = function(e) 0L))
        file.create(begun_file)
      }
      answers
    },
    list(paste0(address(server), path), stop_file, begun_file)
  )
  withr::defer(process$kill(), envir = env)
  wait_until(file.exists(begun_file), what = "the client to have its first answer")
  list(stop = function() {
    file.create(stop_file)
    process$wait()
    process$get_result()
  })
}
