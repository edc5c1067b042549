# Answers asynchronously: while a request waits, this R process takes whatever else comes in. So it sees for itself
# whether it is ever handed a second request before it has answered the first.
now <- 0
most <- 0
begun <- 0
ended <- 0

#* @get /work
#* @post /work
#* @serializer unboxedJSON
function(ms = "20") {
  now <<- now + 1
  begun <<- begun + 1
  most <<- max(most, now)
  promises::promise(function(resolve, reject) {
    later::later(
      function() {
        now <<- now - 1
        ended <<- ended + 1
        resolve(list(worker = Sys.getenv("FAUCET_WORKER_ID"), pid = Sys.getpid()))
      },
      as.numeric(ms) / 1000
    )
  })
}

#* @get /seen
#* @serializer unboxedJSON
function(ms = "0") {
  Sys.sleep(as.numeric(ms) / 1000)
  list(worker = Sys.getenv("FAUCET_WORKER_ID"), pid = Sys.getpid(), most = most, begun = begun, ended = ended)
}
