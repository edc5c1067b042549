# counter: what workers share, and what they do not.
#
#   faucet::run(system.file("examples/counter", package = "faucet"), workers = 4)
#
#   for i in 1 2 3 4 5 6 7 8; do curl -s -X POST http://127.0.0.1:8080/own; echo; done
#   for i in 1 2 3 4 5 6 7 8; do curl -s -X POST http://127.0.0.1:8080/shared; echo; done
#
# Each worker is an R process of its own. A variable lives in one of them: it starts again when that worker is
# recycled or restarted, and the next request may go to another worker. What must outlive a request belongs outside
# R: a database, a cache server, or, as here, a file.

worker <- Sys.getenv("FAUCET_WORKER_ID", "none")

# One variable a process: four workers, four counts.
own <- 0

#* Count in this worker's memory
#* @post /own
#* @serializer unboxedJSON
function() {
  own <<- own + 1
  list(own = own, worker = worker)
}

# The file's size is the count. Several processes may append one byte each at the same time and none gets lost,
# while "read a number, add one, write it back" would lose some.
folder <- Sys.getenv("COUNTER_DIR", tools::R_user_dir("faucet", "cache"))
dir.create(folder, showWarnings = FALSE, recursive = TRUE)
tally <- file.path(folder, "counter-example")

#* Count in a file that all workers append to
#* @post /shared
#* @serializer unboxedJSON
function() {
  cat("x", file = tally, append = TRUE)
  list(shared = file.size(tally), worker = worker)
}

#* Start the shared count again
#* @delete /shared
#* @serializer unboxedJSON
function() {
  unlink(tally)
  list(shared = 0, worker = worker)
}
