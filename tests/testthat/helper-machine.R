# Hubs, and machines that dial them, in R processes of their own.

# `run_worker()` with these settings, in the foreground.
local_machine <- function(hubs, dir, ..., prefix = character(), env = parent.frame()) {
  addresses <- if (is.character(hubs)) hubs else vapply(hubs, function(hub) hub$worker_address, "")
  code <- paste(deparse(rlang::call2("run_worker", addresses, dir, ..., .ns = "faucet")), collapse = " ")
  local_rscript(code, prefix = prefix, env = env)
}

# `run_hub()` in the foreground, once it is ready.
local_hub_process <- function(..., env = parent.frame()) {
  settings <- utils::modifyList(list(port = 0, worker_port = 0, access_log = "none"), list(...))
  code <- paste(deparse(rlang::call2("run_hub", !!!settings, .ns = "faucet")), collapse = " ")
  hub <- local_rscript(code, env = env)
  pattern <- "^.*Workers dial in at ([^ ]+): .*$"
  line <- wait_until(
    {
      if (!hub$process$is_alive()) stop(paste(c("The hub has ended:", hub$stderr()), collapse = "\n"))
      line <- grep(pattern, hub$stderr(), value = TRUE)
      if (length(line) > 0) line[[1]]
    },
    what = "the hub to be ready"
  )
  hub$worker_address <- sub(pattern, "\\1", line)
  ready <- grep("Ready on http", hub$stderr(), value = TRUE)[[1]]
  hub$url <- sub("^.*Ready on (http://[^ ]*).*$", "\\1", ready)
  hub
}

# Until requests at this address are served, by so many R processes.
wait_for_processes <- function(url, n, path = "/seen?ms=300") {
  wait_until(
    {
      clients <- crowd()
      for (i in seq_len(n)) clients$add(url, path, key = paste(i))
      answers <- clients$wait()
      all(vapply(answers, function(answer) is.list(answer) && answer$status == 200L, TRUE)) &&
        length(unique(vapply(answers, function(answer) json(answer)$pid, 1L))) == n
    },
    what = paste(n, "R processes to serve")
  )
}

# The most requests that any of these many R processes has had at once (see apps/overlap).
most_that_met <- function(url, n) {
  clients <- crowd()
  for (i in seq_len(n)) clients$add(url, "/seen?ms=500", key = paste(i))
  seen <- lapply(clients$wait(), json)
  testthat::expect_length(unique(vapply(seen, `[[`, 1L, "pid")), n)
  max(vapply(seen, `[[`, 1L, "most"))
}
