# A front of replicas beside the test's session, which ends with the test.
local_k8s <- function(url, dns = NULL, ..., refresh = 0.2, quiet = TRUE, access_log = "none", env = parent.frame()) {
  server <- faucet::run_k8s(
    url,
    host = "127.0.0.1", port = 0, block = FALSE, refresh = refresh, dns = if (is.environment(dns)) dns$address else dns,
    quiet = quiet, access_log = access_log, ...
  )
  withr::defer(suppressMessages(try(server$stop(timeout = 1), silent = TRUE)), envir = env)
  server
}

# The same for these pods under the name api.test; waits until all of them serve.
local_api <- function(dns, pods, ..., env = parent.frame()) {
  dns$set("api.test", addresses_of(pods))
  server <- local_k8s(paste0("http://api.test:", pods[[1]]$port), dns, ..., env = env)
  wait_for_pods(server, pods)
  server
}

# Several of them.
local_fronts <- function(dns, pods, ..., n = 2, env = parent.frame()) {
  lapply(seq_len(n), function(i) local_api(dns, pods, ..., env = env))
}

# `run_k8s()` in the foreground of a process of its own.
local_k8s_front <- function(url, dns, ..., env = parent.frame()) {
  settings <- utils::modifyList(
    list(host = "127.0.0.1", port = 0L, refresh = 0.2, dns = dns$address, access_log = "none"), list(...)
  )
  code <- paste(deparse(rlang::expr(faucet::run_k8s(!!url, !!!settings))), collapse = "\n")
  front <- local_rscript(code, env = env)
  wait_until_ready(front)
}

# Until the front's workers are these pods, and each of them has nothing to do.
wait_for_pods <- function(server, pods, state = "ready") {
  expected <- sort(addresses_of(pods))
  wait_until(
    {
      status <- server$status()
      identical(sort(host_of(status$address)), expected) && all(status$state == state)
    },
    what = paste("pods to be", state)
  )
  invisible(server$status())
}

# Until the front's workers are these pods, under load: ready or busy.
wait_for_pods_in_use <- function(server, pods) {
  expected <- sort(addresses_of(pods))
  wait_until(
    {
      status <- server$status()
      identical(sort(host_of(status$address)), expected) && all(status$state %in% c("ready", "busy"))
    },
    what = "pods to be in use"
  )
}

host_of <- function(address) {
  gsub("\\[|\\]", "", sub(":[0-9]+$", "", address))
}

state_of <- function(server, pod) {
  status <- server$status()
  status$state[host_of(status$address) == pod$address]
}
