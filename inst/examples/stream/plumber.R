# stream: a response that is sent bit by bit, and a page that shows it as it comes.
#
#   faucet::run(system.file("examples/stream", package = "faucet"), workers = 4)
#
# Open http://127.0.0.1:8080 in a browser, or watch the events in a terminal; Ctrl-C in curl stops the loop in R:
#
#   curl -N http://127.0.0.1:8080/clock
#   curl -N 'http://127.0.0.1:8080/clock?n=3'
#
# An open stream holds its worker, as any request does: with 4 workers the fifth clock waits in the queue. So there must be
# more workers than streams, and each stream here has an end. A browser asks again by itself when a stream has ended, and
# says which event it got last.

# One whole number in a range, or NULL.
whole <- function(text, from, to) {
  number <- suppressWarnings(as.integer(text))
  if (length(number) == 1 && number %in% from:to) number
}

#* A tick a second
#* @param n:int How many, at most 60
#* @get /clock
#* @serializer unboxedJSON
function(req, res, n = 20) {
  n <- whole(n, 1, 60)
  if (is.null(n)) {
    res$status <- 400
    return(list(error = "400 - Bad Request: n is a number of ticks, 1 to 60"))
  }
  # What EventSource sends when it asks again.
  last <- max(0L, whole(req$HTTP_LAST_EVENT_ID, 1, 1e6))
  # Runs in any case: at the end, and when the client leaves before.
  on.exit(message("the clock has stopped"))

  faucet::stream(req, res, function(out) {
    for (i in seq_len(n)) {
      if (i > 1) Sys.sleep(1)
      out$event(paste(format(Sys.time(), "%H:%M:%S"), "from worker", faucet::worker_id()), event = "tick", id = last + i)
    }
  })
}

#* The page, read from the disk by faucet and not by R
#* @get /
function(res) {
  res$setHeader("Content-Type", "text/html; charset=utf-8")
  res$body <- c(file = "index.html")
  res
}
