# Replicas, as Kubernetes would run them: R processes with the same port on addresses of their own.

# `n` of them that run the app in `dir`, ready. `kind` is "plumber", which knows nothing of faucet, or "faucet", which serves
# by `faucet::run(dir, ...)`.
local_pods <- function(n, dir, kind = "plumber", ..., start = TRUE, addresses = pod_addresses(n), env = parent.frame()) {
  skip_on_os(c("windows", "mac", "solaris"))
  pods <- lapply(addresses, function(address) pod(address, dir, kind, ...))
  port <- free_port()
  withr::defer(for (pod in pods) pod$kill(), envir = env)
  for (pod in pods) pod$port <- port
  if (start) start_pods(pods)
  pods
}

local_pod <- function(dir, kind = "plumber", ..., env = parent.frame()) {
  local_pods(1, dir, kind, ..., env = env)[[1]]
}

# All at once.
start_pods <- function(pods) {
  for (pod in pods) pod$launch()
  for (pod in pods) pod$wait()
  invisible(pods)
}

# Each loopback address has its own ports.
pod_addresses <- function(n) {
  net <- sample(1:254, 2)
  paste0("127.", net[[1]], ".", net[[2]], ".", seq_len(n))
}

addresses_of <- function(pods) {
  vapply(pods, function(pod) pod$address, "")
}

pod <- function(address, dir, kind, ...) {
  pod <- new.env()
  pod$address <- address
  pod$port <- NULL
  pod$process <- NULL

  pod$url <- function() {
    host <- if (grepl(":", address, fixed = TRUE)) paste0("[", address, "]") else address
    paste0("http://", host, ":", pod$port)
  }

  pod$launch <- function() {
    where <- list(host = address, port = pod$port)
    code <- if (kind == "plumber") {
      rlang::expr(plumber::pr_run(plumber::plumb(dir = !!dir), !!!where, docs = FALSE, quiet = TRUE))
    } else {
      fronts <- c("127.0.0.0/8", "::1")
      settings <- utils::modifyList(list(workers = 1, access_log = "none", fronts = fronts), list(...))
      rlang::expr(faucet::run(!!dir, !!!where, !!!settings))
    }
    pod$process <- processx::process$new(
      file.path(R.home("bin"), "Rscript"), c("-e", paste(deparse(code), collapse = "\n")),
      wd = dir, stdout = NULL, stderr = file.path(dir, paste0("stderr-", address)),
      env = c("current", R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep), R_TESTS = "", POD = address)
    )
    invisible(pod)
  }

  pod$wait <- function() {
    wait_until(
      {
        if (!pod$process$is_alive()) stop(paste(c("A pod has ended:", pod$stderr()), collapse = "\n"))
        tryCatch(request(pod$url(), "/pid")$status == 200, error = function(e) FALSE)
      },
      what = "the pod to answer"
    )
    invisible(pod)
  }

  pod$start <- function() {
    pod$launch()$wait()
  }

  pod$pid <- function() {
    pod$process$get_pid()
  }

  # What Kubernetes does first; plumber alone ends by it at once, faucet drains.
  pod$term <- function() {
    pod$process$signal(sig[["term"]])
    invisible(pod)
  }

  pod$kill <- function() {
    if (!is.null(pod$process)) {
      pod$process$kill()
      pod$process$wait()
    }
    invisible(pod)
  }

  # Takes connections and never answers.
  pod$pause <- function() {
    tools::pskill(pod$pid(), sig[["stop"]])
    invisible(pod)
  }

  pod$resume <- function() {
    tools::pskill(pod$pid(), sig[["cont"]])
    invisible(pod)
  }

  pod$stderr <- function() {
    readLines(file.path(dir, paste0("stderr-", address)), warn = FALSE)
  }

  pod
}

# What the R processes of apps/pod have done, in the order of time: what (begun, ended), id, pod, pid, now (how many requests
# that process had then).
pod_log <- function(dir) {
  files <- list.files(dir, "^log-", full.names = TRUE)
  lines <- strsplit(as.character(unlist(lapply(files, readLines, warn = FALSE))), " ", fixed = TRUE)
  column <- function(i) vapply(lines, `[[`, "", i)
  log <- data.frame(
    time = as.numeric(column(1)), what = column(2), id = column(3), pod = column(4), pid = as.integer(column(5)),
    now = as.integer(column(6))
  )
  log[order(log$time), ]
}

# The most requests that any R process had at the same time.
most_at_once <- function(dir) {
  max(pod_log(dir)$now)
}

begun <- function(dir) {
  log <- pod_log(dir)
  log[log$what == "begun", ]
}
