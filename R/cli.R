# What the user sees while a server runs: log lines, what happened to it, and how its start goes.

# Log lines since the last poll. Access lines are the program's output and go to standard output; all else are messages,
# which go to standard error and which the caller can catch by class: `faucet_log` (workers' output), `faucet_event`.
# Returns the lines of workers that were printed: not those that somebody has caught.
show_log <- function(poll, quiet = FALSE) {
  printed <- character()
  unfailing({
    printed <- show_lines(poll, if (quiet) poll$kind == "event" & poll$level == "error" else rep(TRUE, length(poll$kind)))
    if (!quiet) {
      if (isTRUE(poll$dropped > 0)) {
        show_event(
          paste(poll$dropped, "log lines were dropped: they came faster than they could be shown."), "warn",
          stream = if (outlet_is_read(message_stream())) message_stream() else "stdout"
        )
      }
      report_trouble()
    }
    # Whatever R prints next comes after it.
    outlet_settle(FALSE)
  })
  invisible(printed)
}

show_lines <- function(poll, show) {
  kind <- poll$kind[show]
  level <- poll$level[show]
  text <- poll$text[show]

  if (length(text) > 0) hide_status_line()
  # Runs of one kind are written at once, and in the order in which they came.
  runs <- rle(kind)
  ends <- cumsum(runs$lengths)
  starts <- ends - runs$lengths + 1
  printed <- character()
  for (i in seq_along(ends)) {
    rows <- starts[[i]]:ends[[i]]
    switch(
      runs$values[[i]],
      access = put(paste0(text[rows], "\n", collapse = "")),
      worker = if (show_worker_lines(text[rows])) printed <- c(printed, text[rows]),
      event = for (row in rows) show_event(text[[row]], level[[row]])
    )
  }
  printed
}

# Whether they were printed.
show_worker_lines <- function(lines) {
  printed <- FALSE
  unfailing(printed <- send_message(paste0(lines, "\n", collapse = ""), "faucet_log", stream = "stderr"))
  printed
}

# A log line stays one line, whatever the width of the terminal: so this is rlang's bullet, not cli's, which wraps.
show_event <- function(text, level = "info", stream = message_stream()) {
  unfailing({
    bullet <- switch(level, error = "x", warn = "!", "i")
    line <- tryCatch(rlang::format_error_bullets(rlang::set_names(text, bullet)), error = function(condition) text)
    send_message(line, "faucet_event", level = level, stream = stream)
  })
}

# Messages of the R session itself, about what the user asked for.
say <- function(..., quiet = FALSE) {
  if (!quiet) unfailing(send_message(paste0(...), "faucet_message"))
}

# Shows how many workers are ready: one line that changes where the terminal can do that, or else a message at the
# start.
# Returns a function to call with each poll, and with NULL when the start is over.
start_progress <- function(link) {
  if (link$quiet) {
    return(function(poll) invisible())
  }
  what <- if (!is.null(link$replicas)) {
    paste("Looking for replicas of", link$replicas)
  } else if (isTRUE(link$pools > 1)) {
    paste("Starting", count_of(link$pools, "pool"))
  } else if (link$workers == 0) {
    "Starting"
  } else {
    paste("Starting", count_of(link$workers, "worker"))
  }
  if (!has_status_line()) {
    say(what)
    return(function(poll) invisible())
  }
  function(poll) {
    if (is.null(poll)) {
      hide_status_line()
    } else {
      found <- if (!is.null(link$replicas)) paste0(poll$total, " found, ")
      show_status_line(paste0(what, ": ", found, poll$ready, " ready"))
    }
    invisible()
  }
}

say_ready <- function(link, poll) {
  if (isTRUE(link$keeps_functions)) {
    return(say_functions_ready(link))
  }
  if (!is.null(link$worker_address)) {
    return(say_hub_ready(link))
  }
  where <- ready_where(link)
  offered <- if (!is.null(link$hubs)) paste(": slots are offered to", paste(link$hubs, collapse = ", "))
  if (identical(link$workers, 0) && poll$total == 0) {
    say("Ready", where, ": workers start when requests come", quiet = link$quiet)
    return(invisible())
  }
  total <- link$workers %||% poll$total
  some <- if (poll$ready < total) paste(poll$ready, "of ")
  whom <- count_workers(link, total)
  say("Ready", where, " with ", some, whom, up_to_most(link), offered, quiet = link$quiet)
  if (!link$quiet) unfailing(for (page in docs_pages(link)) say("Docs at ", page))
}

ready_where <- function(link) {
  if (!is.null(link$url)) paste0(" on ", link$url)
}

up_to_most <- function(link) {
  if (isTRUE(link$most_workers > link$workers)) paste0(", up to ", link$most_workers)
}

count_workers <- function(link, total) {
  if (!is.null(link$replicas)) {
    paste(count_of(total, "replica"), "of", link$replicas)
  } else if (isTRUE(link$pools > 1)) {
    paste(count_of(total, "worker"), "in", count_of(link$pools, "pool"))
  } else {
    count_of(total, "worker")
  }
}

# Agents and proxies have no workers until something is deployed, and those that functions say then.
say_functions_ready <- function(link) {
  at <- if (length(link$agents) > 0) paste(" at", count_of(length(link$agents), "agent"))
  to <- if (!is.null(link$url)) paste0(", to = \"", link$url, "\"")
  say("Ready", ready_where(link), " for functions", at, ": faucet::deploy(...", to, ")", quiet = link$quiet)
  if (!is.null(link$worker_address)) {
    say("Agents dial in at ", link$worker_address, ": ", link$worker_call, quiet = link$quiet)
  }
}

say_hub_ready <- function(link) {
  say("Ready on ", link$url, quiet = link$quiet)
  say("Workers dial in at ", link$worker_address, ": ", link$worker_call, quiet = link$quiet)
  if (!is.null(link$pothead_address)) say("Those of POTHEAD at ", link$pothead_address, quiet = link$quiet)
}

# Where the apps' pages of documentation are, as far as their workers tell. Replicas do not.
docs_pages <- function(link) {
  # A browser reaches no Unix socket by itself.
  if (is.null(link$url) || !startsWith(link$url, "http")) {
    return(character())
  }
  docs <- check_result(server_docs(link$handle))
  # A route is a path, or a host and a path.
  host <- sub("/.*$", "", docs$pool)
  path <- sub("/$", "", sub("^[^/]*", "", docs$pool))
  port <- regmatches(link$url, regexpr(":[0-9]+$", link$url))
  paste0(ifelse(nzchar(host), paste0(sub("//.*$", "//", link$url), host, port), link$url), path, docs$path, recycle0 = TRUE)
}

count_of <- function(n, noun) {
  paste0(n, " ", noun, if (n != 1) "s")
}

format_memory <- function(bytes) {
  ifelse(is.na(bytes), "-", paste(format(round(bytes / 1024^2), trim = TRUE), "MB"))
}
