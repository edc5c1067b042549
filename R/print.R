# How text gets out of the R session. Whatever becomes of standard output and error, printing ends nothing and delays
# nothing.

# Prints text. Where R's console is nothing but standard output and error, threads of faucet's write there: they wait for
# a reader, and R does not. Elsewhere (a sink, knitr, RStudio) R knows where text goes.
put <- function(text, stream = "stdout") {
  if (is_descriptor(stream) && outlet_put(stream, charToRaw(enc2native(text)))) {
    return(invisible())
  }
  cat(text, file = if (stream == "stderr") stderr() else stdout())
}

is_descriptor <- function(stream) {
  diverted <- if (stream == "stderr") sink.number("message") != 2 else sink.number() > 0
  !diverted && is_plain_console()
}

# Whether R runs as itself: programs that embed it have consoles of their own.
is_plain_console <- function() {
  identical(basename(commandArgs()[[1]]), "R") && !.Platform$GUI %in% c("RStudio", "AQUA")
}

# Where messages go, as rlang has it: in an interactive session they are no errors.
message_stream <- function() {
  interactive <- rlang::is_interactive() && sink.number() == 0 && sink.number("message") == 2
  if (interactive) "stdout" else "stderr"
}

# What `message()` does, but for the last step. As rlang's messages, it may be one without a line end. Whether it was
# printed: somebody may have caught it.
send_message <- function(text, class, ..., stream = message_stream()) {
  condition <- structure(
    class = c(class, "message", "condition"),
    list(message = text, call = NULL, ...)
  )
  withRestarts(
    {
      signalCondition(condition)
      put(if (endsWith(text, "\n")) text else paste0(text, "\n"), stream)
      invisible(TRUE)
    },
    muffleMessage = function() invisible(FALSE)
  )
}

# Between two reports of a failure, in seconds.
pause_between_reports <- 60

reports <- new.env(parent = emptyenv())

# Shows something, or fails to: that is told now and then, and never an error. (What a user's own handlers for messages
# raise is theirs: R has set ours aside while they run.)
unfailing <- function(code) {
  tryCatch(code, error = report_failure)
  invisible()
}

report_failure <- function(condition) {
  now <- seconds_now()
  if (is.null(reports$last) || now - reports$last >= pause_between_reports) {
    reports$last <- now
    text <- paste0("Could not show what happened: ", conditionMessage(condition), "\n")
    try(put(text, "stderr"), silent = TRUE)
  }
  invisible()
}

# Says on the other stream that one cannot be written.
report_trouble <- function() {
  for (stream in c("stdout", "stderr")) {
    why <- outlet_trouble(stream)
    if (!is.null(why)) {
      name <- if (stream == "stdout") "standard output" else "standard error"
      text <- paste0("Cannot write to ", name, ", and what is printed there is lost: ", why)
      show_event(text, "warn", stream = setdiff(c("stdout", "stderr"), stream))
    }
  }
}

# The line at the bottom of the terminal, if there is one now. What is printed would be appended to it, so it is hidden
# first, and comes again with the next poll.
status_line <- new.env(parent = emptyenv())

show_status_line <- function(text) {
  unfailing({
    text <- strtrim(text, getOption("width") - 1L)
    if (!identical(text, status_line$text)) {
      put(paste0("\r", format(text, width = nchar(status_line$text %||% ""))), message_stream())
      status_line$text <- text
    }
  })
}

hide_status_line <- function() {
  unfailing(if (!is.null(status_line$text)) {
    put(paste0("\r", strrep(" ", nchar(status_line$text)), "\r"), message_stream())
    status_line$text <- NULL
  })
}

# Whether a line can be written over.
has_status_line <- function() {
  tryCatch(
    cli::is_dynamic_tty(if (message_stream() == "stderr") stderr() else stdout()),
    error = function(condition) FALSE
  )
}
