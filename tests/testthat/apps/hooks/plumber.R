mark <- function(what) {
  file.create(paste0(what, "-", Sys.getpid()))
}

# Slow on purpose: the front must not cut it short.
assign(".Last", function() mark("last"), globalenv())

#* @plumber
function(pr) {
  plumber::pr_hook(pr, "exit", function() {
    mark("exit-begun")
    Sys.sleep(1)
    mark("exit-ended")
  })
}

#* @get /pid
#* @serializer unboxedJSON
function(ms = "0") {
  Sys.sleep(as.numeric(ms) / 1000)
  list(pid = Sys.getpid(), worker = Sys.getenv("FAUCET_WORKER_ID"))
}

#* @get /work
#* @serializer text
function(id, ms = "0") {
  mark(paste0("begun-", id))
  Sys.sleep(as.numeric(ms) / 1000)
  "worked"
}
