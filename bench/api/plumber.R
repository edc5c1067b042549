# The API every server under comparison serves.

#* The cheapest answer R can give.
#* @get /fast
#* @serializer text
function() {
  "fast"
}

#* A small JSON document, made and serialised anew each time.
#* @get /json
function() {
  list(
    id = 42L,
    name = "faucet",
    tags = list("r", "rust", "plumber"),
    values = seq_len(20) / 3
  )
}

#* A handler that keeps its R process for a while.
#* @get /sleep
#* @serializer text
function(s = 0.05) {
  Sys.sleep(as.numeric(s))
  "slept"
}

#* Gives the body back, byte for byte.
#* @post /echo
#* @parser octet
#* @serializer octet
function(req) {
  req$bodyRaw
}
