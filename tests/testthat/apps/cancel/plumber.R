# Handlers to be interrupted. Each tells by files how far it got.
mark <- function(what, id) {
  file.create(paste0(what, "-", id))
}

released <- function(id) {
  file.exists(paste0("released-", id))
}

#* @get /pid
#* @serializer unboxedJSON
function() {
  list(pid = Sys.getpid())
}

#* Works in one of several ways for some time, and leaves a file at its end, however it ends
#* @get /work
#* @serializer text
function(req, id, kind, ms) {
  whole <- FALSE
  # Twice: an interrupt can hit what on.exit() runs, too, and R then goes on with the next of it. There is only one.
  on.exit(suspendInterrupts(mark(if (whole) "whole" else "broken", id)))
  on.exit(suspendInterrupts(mark(if (whole) "whole" else "broken", id)), add = TRUE)
  mark("begun", id)
  seconds <- as.numeric(ms) / 1000
  until <- Sys.time() + seconds
  switch(
    kind,
    sleep = Sys.sleep(seconds),
    loop = while (Sys.time() < until) NULL,
    allocate = while (Sys.time() < until) lapply(1:100, function(i) runif(1000)),
    write = {
      file <- tempfile()
      on.exit(unlink(file), add = TRUE)
      while (Sys.time() < until) writeLines(format(runif(1000)), file)
    },
    promise = {
      answer <- promises::promise(function(resolve, reject) later::later(function() resolve(id), seconds))
      whole <- TRUE
      return(answer)
    }
  )
  whole <- TRUE
  id
}

#* Waits until it is interrupted
#* @get /wait
function(id) {
  on.exit(mark("ended", id))
  mark("begun", id)
  while (TRUE) Sys.sleep(0.01)
}

#* Waits until it is released, and tells what it is told
#* @get /ask
#* @serializer text
function(id) {
  on.exit(mark("ended", id))
  mark("begun", id)
  while (!faucet::is_cancelled()) Sys.sleep(0.01)
  mark("told", id)
  while (!released(id)) Sys.sleep(0.01)
  mark("whole", id)
  "answered"
}

#* The same in a shield, then waits until it is interrupted
#* @get /shield
function(id) {
  on.exit(mark("ended", id))
  faucet::shield({
    # One shield in another is one.
    faucet::shield(mark("begun", id))
    while (!faucet::is_cancelled()) Sys.sleep(0.01)
    mark("told", id)
    while (!released(id)) Sys.sleep(0.01)
    mark("whole", id)
  })
  while (TRUE) Sys.sleep(0.01)
}

#* Does not take an interrupt for an answer
#* @get /swallow
function(id) {
  mark("begun", id)
  tryCatch(while (TRUE) Sys.sleep(0.01), interrupt = function(condition) mark("swallowed", id))
  while (TRUE) Sys.sleep(0.01)
}

#* Takes an interrupt for the end of its work, and answers
#* @get /catch
#* @serializer text
function(id) {
  mark("begun", id)
  tryCatch(while (TRUE) Sys.sleep(0.01), interrupt = function(condition) "caught")
}

#* Waits for another program, which R does not give up when it is interrupted
#* @get /system
function(id) {
  mark("begun", id)
  system(sprintf("while ! test -e released-%s; do sleep 0.1; done", id))
}

#* A promise that nobody keeps
#* @get /promise
function(id) {
  mark("begun", id)
  promises::promise(function(resolve, reject) NULL)
}

#* @get /ignore
function(id) {
  mark("begun", id)
  .C("spin")
}

if (file.exists("spin.so")) dyn.load("spin.so")
