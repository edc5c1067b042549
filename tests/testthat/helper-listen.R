# A client that sees a response while it comes: `text()` is what has arrived, `end` is NULL until it is over, then "complete" or
# what went wrong.
listen <- function(server, path, ...) {
  listener <- new.env()
  listener$bytes <- list()
  pool <- curl::new_pool()
  handle <- request_handle(...)
  curl::multi_add(
    curl::handle_setopt(handle, url = paste0(address(server), path)),
    data = function(bytes, final) listener$bytes[[length(listener$bytes) + 1]] <- bytes,
    done = function(fetched) {
      listener$response <- response(utils::modifyList(fetched, list(content = raw())))
      listener$end <- "complete"
    },
    fail = function(message) listener$end <- message,
    pool = pool
  )
  listener$step <- function() {
    curl::multi_run(timeout = 0, pool = pool)
    invisible(TRUE)
  }
  listener$text <- function() {
    rawToChar(as.raw(unlist(listener$bytes)))
  }
  listener$leave <- function() {
    curl::multi_cancel(handle)
  }
  listener$wait_for <- function(text) {
    wait_until(listener$step() && grepl(text, listener$text(), fixed = TRUE), what = paste("to hear:", text))
  }
  listener$wait <- function() {
    wait_until(listener$step() && !is.null(listener$end), what = "the response's end")
    listener$end
  }
  listener
}
