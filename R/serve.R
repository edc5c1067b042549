# What every verb does once its settings are complete.

# Starts the server. In the foreground it is served until it has stopped, else until it is ready. Returns its handle.
serve <- function(settings, block, call = NULL) {
  if (block) {
    # From before there is something that a signal would leave behind.
    signals_hold()
    on.exit(signals_release(), add = TRUE)
  }
  started <- server_start(settings)
  if (!isTRUE(started$ok)) raise_start_failure(started, settings, call = call)
  link <- new_link(started, settings)
  remember_server(link)
  if (block) {
    # However this ends: what runs in the foreground does not outlive it.
    on.exit(kill_server(link), add = TRUE, after = FALSE)
    block_on(link, starting = TRUE, call = call)
    invisible(faucet_server$new(link))
  } else {
    await_ready(link, call = call)
    show_log_when_idle(link)
    faucet_server$new(link)
  }
}

check_block <- function(block, call = NULL) {
  if (!rlang::is_bool(block)) {
    got <- describe_value(block)
    abort("option", "{.arg block} must be TRUE or FALSE, not {got}.", option = "block", call = call)
  }
}
