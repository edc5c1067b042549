# What the user sees while a server runs: log lines, what happened to it, and how its start goes.

# Log lines since the last poll. Access lines are the program's output and go to standard output; all else are messages,
# which go to standard error and which the caller can catch by class: `faucet_log` (workers' output), `faucet_event`.
show_log <- function(poll, quiet = FALSE) {
  show <- if (quiet) poll$kind == "event" & poll$level == "error" else rep(TRUE, length(poll$kind))
  kind <- poll$kind[show]
  level <- poll$level[show]
  text <- poll$text[show]

  if (length(text) > 0) hide_status_line()
  # Runs of one kind are written at once, and in the order in which they came.
  runs <- rle(kind)
  ends <- cumsum(runs$lengths)
  starts <- ends - runs$lengths + 1
  for (i in seq_along(ends)) {
    rows <- starts[[i]]:ends[[i]]
    switch(
      runs$values[[i]],
      access = writeLines(text[rows]),
      worker = show_worker_lines(text[rows]),
      event = for (row in rows) show_event(text[[row]], level[[row]])
    )
  }
  if (!quiet && isTRUE(poll$dropped > 0)) {
    show_event(paste(poll$dropped, "log lines were dropped: they came faster than they could be shown."), "warn")
  }
  invisible()
}

# Without blank lines: R prints one whenever it is interrupted.
show_worker_lines <- function(lines) {
  lines <- lines[!grepl("^\\[(worker [0-9]+|template)\\] *$", lines)]
  if (length(lines) == 0) {
    return(invisible())
  }
  condition <- structure(
    class = c("faucet_log", "message", "condition"),
    list(message = paste0(lines, "\n", collapse = ""), call = NULL)
  )
  message(condition)
}

# A log line stays one line, whatever the width of the terminal: so this is rlang's inform(), not cli's, which wraps.
show_event <- function(text, level = "info") {
  bullet <- switch(level, error = "x", warn = "!", "i")
  rlang::inform(rlang::set_names(text, bullet), class = "faucet_event", level = level)
}

# Messages of the R session itself, about what the user asked for.
say <- function(message, quiet = FALSE, .envir = parent.frame()) {
  if (!quiet) {
    text <- cli::format_inline(message, .envir = .envir)
    rlang::inform(text, class = "faucet_message")
  }
}

# Shows how many workers are ready: one line that changes where the terminal can do that, or else a message at the
# start.
# Returns a function to call with each poll, and with NULL when the start is over.
start_progress <- function(link) {
  if (link$quiet) {
    return(function(poll) invisible())
  }
  what <- if (is.null(link$replicas)) "Starting {link$workers} worker{?s}" else "Looking for replicas of {link$replicas}"
  if (!cli::is_dynamic_tty()) {
    say(what)
    return(function(poll) invisible())
  }
  so_far <- if (is.null(link$replicas)) "{poll$ready} ready" else "{poll$total} found, {poll$ready} ready"
  function(poll) {
    if (is.null(poll)) {
      hide_status_line()
    } else {
      show_status_line(paste0(what, ": ", so_far))
    }
    invisible()
  }
}

say_ready <- function(link, poll) {
  total <- link$workers %||% poll$total
  some <- if (poll$ready < total) paste(poll$ready, "of ") else ""
  if (is.null(link$replicas)) {
    say("Ready on {link$url} with {some}{total} worker{?s}", link$quiet)
  } else {
    say("Ready on {link$url} with {some}{total} replica{?s} of {link$replicas}", link$quiet)
  }
}

# The line at the bottom of the terminal, if there is one now. What is printed would be appended to it, so it is hidden
# first, and comes again with the next poll.
status_line <- new.env(parent = emptyenv())

show_status_line <- function(message, .envir = parent.frame()) {
  if (is.null(status_line$id)) {
    status_line$id <- cli::cli_status(message, .auto_close = FALSE, .envir = .envir)
  } else {
    cli::cli_status_update(status_line$id, message, .envir = .envir)
  }
}

hide_status_line <- function() {
  if (!is.null(status_line$id)) {
    cli::cli_status_clear(status_line$id)
    status_line$id <- NULL
  }
}

format_memory <- function(bytes) {
  ifelse(is.na(bytes), "-", paste(format(round(bytes / 1024^2), trim = TRUE), "MB"))
}
