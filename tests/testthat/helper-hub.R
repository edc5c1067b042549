# Hubs, and machines that dial them.

local_hub <- function(..., port = 0, worker_port = 0, quiet = TRUE, access_log = "none", env = parent.frame()) {
  hub <- faucet::run_hub(
    port = port, worker_port = worker_port, block = FALSE, quiet = quiet, access_log = access_log, ...
  )
  withr::defer(suppressMessages(try(hub$stop(timeout = 1), silent = TRUE)), envir = env)
  hub
}

local_worker <- function(hubs, dir, ..., quiet = TRUE, access_log = "none", env = parent.frame()) {
  addresses <- if (is.character(hubs)) hubs else vapply(hubs, function(hub) hub$worker_address, "")
  worker <- faucet::run_worker(addresses, dir, block = FALSE, quiet = quiet, access_log = access_log, ...)
  withr::defer(suppressMessages(try(worker$stop(timeout = 1), silent = TRUE)), envir = env)
  worker
}

slots <- function(hub) {
  sum(hub$status()$state %in% c("ready", "busy"))
}

# As R is asked about its gates whenever it is idle, so it is here.
wait_for_slots <- function(hub, n) {
  wait_until(
    {
      later::run_now()
      slots(hub) == n
    },
    what = paste("the hub has", n, "slots")
  )
}
