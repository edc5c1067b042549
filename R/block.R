# Waiting for a server in the foreground: until it is ready, or until it has stopped, be it by Ctrl-C or a signal.

# The longest time in native code, after which R can see an interrupt.
step <- 0.1

# Between two collections of what showing the log leaves, in seconds.
pause_between_collections <- 10

# Until the first worker is ready. Whoever is interrupted or fails here leaves no server behind.
await_ready <- function(link, call = NULL) {
  ready <- FALSE
  on.exit(if (!ready) kill_server(link), add = TRUE)
  announce <- announcer(link)
  on.exit(announce(NULL), add = TRUE)
  repeat {
    poll <- poll_server(link, step, call = call)
    announce(poll)
    check_started(link, poll, call = call)
    if (poll$state != "starting") break
    allow_interrupt()
  }
  ready <- TRUE
}

# Until the server has stopped, or time is up. Returns whether it has stopped.
block_on <- function(link, timeout = Inf, starting = FALSE, call = NULL) {
  signals_hold()
  on.exit(signals_release(), add = TRUE)
  on.exit(unfailing(outlet_settle(TRUE)), add = TRUE, after = FALSE)
  announce <- if (starting) announcer(link) else function(poll) invisible()
  on.exit(announce(NULL), add = TRUE, after = FALSE)

  end <- tryCatch(
    serve_until(link, seconds_now() + timeout, announce, call),
    interrupt = function(condition) "asked"
  )
  if (end == "asked") {
    announce(NULL)
    drain_and_stop(link, call)
  }
  end != "timeout"
}

# Returns why it ended: "stopped", "asked" (to stop) or "timeout".
serve_until <- function(link, deadline, announce, call) {
  repeat {
    poll <- poll_server(link, max(0, min(step, deadline - seconds_now())), call = call)
    announce(poll)
    check_started(link, poll, call = call)
    if (poll$state == "stopped") {
      return("stopped")
    }
    if (poll$signal == "term") {
      return("asked")
    }
    unfailing(link$reload(requested = poll$signal == "hup"))
    unfailing(link$ask_gates())
    collect_garbage(link)
    if (seconds_now() >= deadline) {
      return("timeout")
    }
    allow_interrupt()
  }
}

# R lets polls and log lines pile up for minutes, to tens of MB, before it collects them, and its memory stays as large as
# that. In a session that does nothing but serve, a collection of what is young takes about a millisecond.
collect_garbage <- function(link, now = seconds_now()) {
  if (now - link$collected >= pause_between_collections) {
    gc(full = FALSE)
    link$collected <- now
  }
  invisible()
}

# One reload at a time; a request that comes meanwhile leads to one more, as the code may have changed since. A reload
# that fails is an event in the log: the old workers go on. Of replicas, it is a lookup of their name. A change of a
# configuration file that is watched is a request, too.
reload_on_request <- function(link) {
  force(link)
  id <- NULL
  wanted <- FALSE
  report <- function(failure) {
    what <- if (is.null(link$replicas)) "Reload" else "Lookup"
    show_event(paste0(what, " failed: ", failure$message), "error")
    # Otherwise they were in the log.
    if (link$quiet && length(failure$lines) > 0) show_worker_lines(failure$lines)
  }
  function(requested) {
    wanted <<- wanted || requested || link$config_changed
    link$config_changed <- FALSE
    if (!is.null(id)) {
      result <- command_result(link, id)
      if (is.null(result)) {
        return(invisible())
      }
      id <<- NULL
      if (!isTRUE(result$ok)) report(result)
    }
    if (wanted) {
      wanted <<- FALSE
      started <- tryCatch(
        server_command(link$handle, reload_command(link)),
        # The file cannot be used: all stays as it was.
        faucet_error = function(error) list(ok = FALSE, message = conditionMessage(error))
      )
      if (isTRUE(started$ok)) {
        id <<- started$id
      } else {
        report(started)
        # systemd may wait for the end of what it has asked for.
        server_command(link$handle, list(name = "refuse_reload"))
      }
    }
    invisible()
  }
}

# Until requests in flight are answered and the workers are gone. Who asks a second time wants it now.
drain_and_stop <- function(link, call) {
  id <- start_command(link, list(name = "stop", timeout = link$shutdown_timeout), call = call)
  say(
    "Draining: requests have ", link$shutdown_timeout, " s to finish. Ctrl-C again stops at once.",
    quiet = link$quiet
  )
  result <- tryCatch(await_stop(link, id, call), interrupt = function(condition) NULL)
  if (is.null(result)) {
    say("Stopping at once", quiet = link$quiet)
    kill_server(link)
  } else {
    poll_server(link, call = call)
    check_result(result, call = call)
    say("Stopped", quiet = link$quiet)
  }
}

# The result of the stop, or NULL if a signal asked again.
await_stop <- function(link, id, call) {
  repeat {
    poll <- poll_server(link, step, call = call)
    result <- command_result(link, id)
    if (!is.null(result) || poll$signal == "term") {
      return(result)
    }
    allow_interrupt()
  }
}

check_started <- function(link, poll, call) {
  if (poll$state == "failed") {
    raise_shown_failure(link, poll, call = call)
  }
}

# Says that the server is starting, before its log says more, and once, when it is ready. To be called with each poll, and
# with NULL at the end.
announcer <- function(link) {
  progress <- start_progress(link)
  done <- FALSE
  function(poll) {
    if (done) {
      return(invisible())
    }
    if (!is.null(poll) && poll$state == "starting") {
      progress(poll)
      return(invisible())
    }
    done <<- TRUE
    progress(NULL)
    if (!is.null(poll) && poll$state == "ready") {
      say_ready(link, poll)
    }
    invisible()
  }
}

seconds_now <- function() {
  proc.time()[["elapsed"]]
}
