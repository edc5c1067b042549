# Streams that tell by files how far they got, and go on when the test says so.
mark <- function(what, id) {
  file.create(paste0(what, "-", id))
}

wait_for <- function(what, id) {
  while (!file.exists(paste0(what, "-", id))) Sys.sleep(0.01)
}

#* @get /pid
#* @serializer unboxedJSON
function() {
  list(pid = Sys.getpid())
}

#* The second event is sent when somebody has seen the first
#* @get /events
function(req, res, id) {
  res$status <- 201L
  res$setHeader("X-Own", "kept")
  faucet::stream(req, res, function(out) {
    out$event("first", event = "greeting", id = 1)
    wait_for("seen", id)
    out$event(c("second", "of two lines"))
    mark("open", paste0(id, "-", out$is_open()))
  })
}

#* @get /everything
function(req, res) {
  faucet::stream(req, res, type = "text/plain; charset=utf-8", function(out) {
    out$write("text \u00e9, ")
    out$write(c("several", " strings, "))
    out$write(charToRaw("raw, "))
    out$write("")
    out$write(raw())
    out$event("an event")
  })
}

#* More than a client takes that does not read
#* @get /much
function(req, res, id, chunks) {
  chunk <- as.raw(rep(0:255, 1024))
  faucet::stream(req, res, type = "application/octet-stream", function(out) {
    for (i in seq_len(as.integer(chunks))) {
      out$write(chunk)
      writeLines(format(i * length(chunk), scientific = FALSE), paste0("written-", id, ".new"))
      file.rename(paste0("written-", id, ".new"), paste0("written-", id))
    }
  })
}

#* Until its client has left
#* @get /endless
function(req, res, id) {
  on.exit(mark("ended", id))
  faucet::stream(req, res, function(out) {
    repeat {
      out$event("tick")
      mark("begun", id)
      Sys.sleep(0.01)
    }
  })
}

#* Does the same, but by asking
#* @get /polite
function(req, res, id) {
  on.exit(mark("ended", id))
  faucet::stream(req, res, function(out) {
    out$event("tick")
    mark("begun", id)
    while (out$is_open()) Sys.sleep(0.01)
    mark("left", id)
    class <- tryCatch(repeat out$write("x"), error = function(error) class(error))
    writeLines(class, paste0("class-", id))
  })
}

#* @get /fail
function(req, res) {
  faucet::stream(req, res, function(out) {
    out$event("before")
    stop("failed on purpose")
  })
}

#* @get /wrong
function(req, res) {
  faucet::stream(req, res, function(out) out$write(1))
}

#* Every part in time, but not the whole
#* @get /slow
function(req, res, parts, seconds) {
  faucet::stream(req, res, type = "text/plain", function(out) {
    for (i in seq_len(as.integer(parts))) {
      out$write(paste0(i, ";"))
      Sys.sleep(as.numeric(seconds))
    }
  })
}
