# A server beside the test's session, which ends with the test.
local_server <- function(dir, workers = 2, ..., quiet = TRUE, access_log = "none", env = parent.frame()) {
  server <- faucet::run(
    dir,
    workers = workers, port = 0, block = FALSE, quiet = quiet, access_log = access_log, ...
  )
  withr::defer(suppressMessages(try(server$stop(timeout = 1), silent = TRUE)), envir = env)
  server
}

# Until each worker is ready and has nothing to do.
wait_for_workers <- function(server, n = NULL) {
  wait_until(
    {
      status <- server$status()
      all(status$state == "ready") && (is.null(n) || nrow(status) == n)
    },
    what = "all workers ready"
  )
  invisible(server$status())
}

# Everything that the server's handle signals as a message until `condition` holds, as text.
messages_until <- function(server, condition) {
  condition <- rlang::enquo(condition)
  seen <- character()
  messages_of(wait_until({
    server$is_running()
    isTRUE(rlang::eval_tidy(condition, list(seen = seen)))
  }, what = rlang::as_label(condition)), function(lines) seen <<- c(seen, lines))
  seen
}

# The server that `start` returns, and all that it says until one of the lines is like `pattern`.
from_start_until <- function(start, pattern) {
  seen <- character()
  messages_of(
    {
      server <- start
      wait_until(
        {
          server$is_running()
          any(grepl(pattern, seen))
        },
        what = pattern
      )
    },
    function(lines) seen <<- c(seen, lines)
  )
  list(server = server, lines = seen)
}

# What `code` signals as messages, as lines of text, each of which `heard()` is told at once.
messages_of <- function(code, heard = NULL) {
  seen <- character()
  withCallingHandlers(
    code,
    message = function(message) {
      lines <- strsplit(conditionMessage(message), "\n")[[1]]
      seen <<- c(seen, lines)
      if (!is.null(heard)) heard(lines)
      tryInvokeRestart("muffleMessage")
    }
  )
  seen
}

# Requests in the queue.
waiting <- function(server) {
  as.integer(sub("^.* ([0-9]+) waiting$", "\\1", grep(" waiting$", server$format(), value = TRUE)))
}
