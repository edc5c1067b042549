# The R session's end of a running server: what it polls, asks and commands the server through.

# An environment, so that what refers to it weakly (see show_log_when_idle()) does not keep the server alive.
new_link <- function(started, settings) {
  link <- new.env(parent = emptyenv())
  link$handle <- started$handle
  link$url <- started$url
  link$admin_url <- started$admin_url
  # Where workers dial in, if they do, and hubs that slots are offered to.
  link$worker_address <- started$worker_address
  link$pothead_address <- started$pothead_address
  link$worker_call <- if (!is.null(started$worker_address)) worker_call(started$worker_address, settings)
  link$hubs <- settings[["hub"]]
  # Of agents and proxies, whose pools are functions that are deployed later; and the agents that a proxy is told of.
  link$keeps_functions <- !is.null(settings$state_dir)
  link$agents <- settings$agents
  # Of what is served: the directory or file that its own workers run, or the URL of its replicas; of several pools, neither.
  pools <- settings$pools
  link$dir <- if (length(pools) == 1) pools[[1]]$file %||% pools[[1]]$dir
  link$replicas <- if (length(pools) == 1) pools[[1]]$url
  # At the start; the handle may change both. Nobody knows how many replicas there will be.
  link$pools <- length(pools)
  workers <- lapply(pools, `[[`, "workers")
  known <- !any(vapply(workers, is.null, NA))
  # Those that there are at least; and at most, if that is another number.
  link$workers <- if (known) sum(vapply(workers, min, 1))
  link$most_workers <- if (known) sum(vapply(workers, max, 1))
  # What `$add_pool()` goes by: settings that were given for all pools.
  link$given <- settings$given
  # Reads the pools of a configuration file as they are now.
  link$config <- settings$config
  link$shutdown_timeout <- settings$shutdown_timeout
  link$quiet <- settings$quiet
  # Reads the file again when a signal, or a change of it, asks for that.
  link$config_changed <- FALSE
  link$reload <- reload_on_request(link)
  # Asks the conditions in R on which slots are offered.
  link$ask_gates <- gatekeeper(link, settings[["gate"]])
  # The last lines of workers, and those that were printed.
  link$lines <- character()
  link$shown <- character()
  # As of the last poll.
  link$state <- "starting"
  # When the garbage of the polls was last collected.
  link$collected <- seconds_now()
  link
}

# What happened since the last poll, or within `timeout` seconds. Its log lines are shown on the way.
poll_server <- function(link, timeout = 0, call = NULL) {
  poll <- tryCatch(
    server_poll(link$handle, milliseconds(timeout)),
    error = function(condition) poll_failed(link, condition)
  )
  poll <- check_result(poll, call = call)
  link$state <- poll$state
  # Until someone has the file read again.
  if (isTRUE(poll$config_changed)) link$config_changed <- TRUE
  link$lines <- utils::tail(c(link$lines, poll$text[poll$kind == "worker"]), most_lines)
  link$shown <- utils::tail(c(link$shown, show_log(poll, link$quiet)), most_shown)
  poll
}

# The last lines of workers that are remembered, whether they were printed or not.
most_lines <- 20

# Lines of workers that are remembered, to know which an error need not show again.
most_shown <- 200

# Raises what the native side says has failed. Lines of R's that were printed just before are not printed again.
raise_shown_failure <- function(link, failure, call = NULL) {
  lines <- Filter(function(line) nzchar(trimws(line)), as.character(failure$lines))
  is_shown <- vapply(lines, function(line) any(endsWith(link$shown, paste0("] ", line))), NA)
  raise_failure(failure, are_shown = length(lines) > 0 && all(is_shown), call = call)
}

# The native side raises nothing, but R may have no memory for what it says. Then its lines are lost, and all else is as
# it was.
poll_failed <- function(link, condition) {
  report_failure(condition)
  Sys.sleep(step)
  list(
    ok = TRUE, state = link$state, ready = 0L, total = 0L, signal = signals_taken(),
    kind = character(), level = character(), text = character(), dropped = 0
  )
}

server_state <- function(link, call = NULL) {
  state <- check_result(server_status(link$handle), call = call)
  poll_server(link, call = call)
  state
}

# NULL for workers that nobody has to look up. Of several pools, a list by their names. Of what dials hubs, these.
lookup_state <- function(link, call = NULL) {
  if (!is.null(link$hubs)) {
    return(hubs_state(link, call))
  }
  lookups <- check_result(server_lookup(link$handle), call = call)
  states <- lapply(seq_along(lookups$pool), function(i) {
    list(
      url = lookups$url[[i]],
      state = lookups$state[[i]],
      message = lookups$message[[i]],
      since = .POSIXct(lookups$since[[i]]),
      addresses = lookups$addresses[[i]]
    )
  })
  if (length(states) == 0) {
    NULL
  } else if (length(states) == 1) {
    states[[1]]
  } else {
    rlang::set_names(states, lookups$pool)
  }
}

# The hubs that slots are offered to, with a row for each of their addresses.
hubs_state <- function(link, call = NULL) {
  hubs <- check_result(server_hubs(link$handle), call = call)
  data.frame(hubs[c("hub", "address", "offers", "connections", "trouble")])
}

is_running <- function(link, call = NULL) {
  running <- server_is_running(link$handle)
  if (is.list(running)) {
    running <- check_result(running, call = call)$running
  }
  poll_server(link, call = call)
  isTRUE(running)
}

# Starts a command and returns its number, for command_result().
start_command <- function(link, command, call = NULL) {
  check_result(server_command(link$handle, command), call = call)$id
}

# What a reload is: of all pools, those of a configuration file as it is now.
reload_command <- function(link, pool = NULL) {
  if (is.null(link$config) || !is.null(pool)) {
    return(list(name = "reload", pool = pool))
  }
  list(name = "configure", pools = link$config(), timeout = link$shutdown_timeout)
}

# NULL while the command runs, then its result, good or bad.
command_result <- function(link, id, timeout = 0) {
  result <- server_result(link$handle, id, milliseconds(timeout))
  if (!isTRUE(result$ok) || isTRUE(result$done)) result
}

# Waits for a command in steps, between which log lines are shown and interrupts are seen.
run_command <- function(link, command, call = NULL) {
  id <- start_command(link, command, call = call)
  link$shown <- character()
  repeat {
    result <- command_result(link, id, timeout = 0.1)
    poll_server(link, call = call)
    if (!is.null(result)) {
      if (!isTRUE(result$ok)) raise_shown_failure(link, result, call = call)
      return(result)
    }
    allow_interrupt()
  }
}

# Ends the server at once. It may have ended already: this never fails.
kill_server <- function(link) {
  tryCatch(
    run_command(link, list(name = "kill")),
    error = function(condition) NULL
  )
  invisible()
}

# Shows log lines whenever R is idle, until the server has stopped or its handle is gone.
show_log_when_idle <- function(link) {
  show_log_later(rlang::new_weakref(link))
}

# A function of its own, whose environment holds no more than the weak reference: forced, as a promise holds on to where it
# came from.
show_log_later <- function(reference) {
  force(reference)
  later::later(function() {
    link <- rlang::wref_key(reference)
    if (is.null(link)) {
      return()
    }
    # Nobody is there to take an error: the next use of the handle meets it again.
    running <- tryCatch(is_running(link), error = function(condition) FALSE)
    if (running) unfailing(link$reload(requested = FALSE))
    # Nobody's Ctrl-C at the prompt is meant for this loop.
    if (running) tryCatch(unfailing(link$ask_gates()), interrupt = function(condition) NULL)
    if (running) show_log_later(reference)
  }, delay = 0.25)
}

milliseconds <- function(seconds) {
  as.integer(ceiling(seconds * 1000))
}

# R looks for a pending interrupt now and then while it evaluates, not around each native call; this makes it look.
allow_interrupt <- function() {
  Sys.sleep(0)
}
