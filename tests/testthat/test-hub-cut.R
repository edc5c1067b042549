# A machine whose network is cut without a word: a network namespace, joined to this machine by a pair of interfaces.

skip_on_cran()

ip <- function(...) {
  processx::run("ip", as.character(c(...)), error_on_status = FALSE)
}

# What is run with `prefix` is on another machine, which reaches this one at `address`; `$cut()` and `$mend()` its link.
local_namespace <- function(env = parent.frame()) {
  skip_if_not(nzchar(Sys.which("ip")), "iproute2 is not installed")
  id <- Sys.getpid()
  name <- paste0("faucet-", id)
  here <- paste0("fch", id %% 1e6)
  there <- paste0("fct", id %% 1e6)
  made <- ip("netns", "add", name)
  skip_if_not(made$status == 0, paste("a network namespace cannot be made:", trimws(made$stderr)))
  # One of the networks for benchmarks (RFC 2544).
  net <- paste0("198.18.", id %% 256, ".")
  withr::defer(
    {
      ip("link", "del", here)
      ip("netns", "del", name)
    },
    envir = env
  )
  steps <- list(
    c("link", "add", here, "type", "veth", "peer", "name", there, "netns", name),
    c("addr", "add", paste0(net, "1/24"), "dev", here),
    c("link", "set", here, "up"),
    c("-n", name, "addr", "add", paste0(net, "2/24"), "dev", there),
    c("-n", name, "link", "set", there, "up"),
    c("-n", name, "link", "set", "lo", "up")
  )
  for (step in steps) {
    done <- ip(step)
    skip_if_not(done$status == 0, paste("interfaces cannot be made:", trimws(done$stderr)))
  }
  list(
    address = paste0(net, "1"),
    prefix = c("ip", "netns", "exec", name),
    cut = function() ip("-n", name, "link", "set", there, "down"),
    mend = function() ip("-n", name, "link", "set", there, "up")
  )
}

test_that("a machine that loses its network is a 502 and its slots are gone, and it finds its hub again", {
  elsewhere <- local_namespace()
  hub <- local_hub(worker_host = elsewhere$address, insecure = TRUE)
  dir <- local_app("basic")
  machine <- local_machine(list(hub), dir, workers = 2, name = "far", prefix = elsewhere$prefix)
  wait_for_slots(hub, 2)
  expect_identical(request(hub, "/hello")$text, "hello")
  clients <- crowd()
  hold(clients, hub, dir, "a")
  elsewhere$cut()
  # One is offered, and answers no more; the other is at work. Both are found out.
  expect_identical(clients$wait()$a$status, 502L)
  wait_for_slots(hub, 0)
  local_worker(list(hub), local_app("basic"))
  wait_for_slots(hub, 1)
  expect_identical(request(hub, "/hello")$text, "hello")

  elsewhere$mend()
  release(dir, "a")
  wait_for_slots(hub, 3)
  expect_identical(sum(hub$status()$name == "far"), 2L)
  expect_true(machine$process$is_alive())
})
