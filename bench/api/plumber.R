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

# How many requests R has here at this moment, and the most that it ever had.
held <- new.env()
held$now <- 0
held$most <- 0

#* A handler that takes its time but leaves R free meanwhile, so that R takes every request that reaches it.
#* @get /held
#* @serializer text
function(s = 0.05) {
  held$now <- held$now + 1
  held$most <- max(held$most, held$now)
  promises::promise(function(resolve, reject) {
    later::later(delay = as.numeric(s), function() {
      held$now <- held$now - 1
      resolve("held")
    })
  })
}

#* The most requests that R held at once.
#* @get /held/most
#* @serializer text
function() {
  as.character(held$most)
}

#* A handler that says in a file that it has begun, and then keeps its R process for long.
#* @get /linger
#* @serializer text
function(mark, s = 30) {
  file.create(mark)
  Sys.sleep(as.numeric(s))
  "lingered"
}

#* Events, the first of which says when it was written, in milliseconds.
#* @get /events
function(req, res) {
  faucet::stream(req, res, function(out) {
    out$event(format(as.numeric(Sys.time()) * 1000, digits = 17))
    Sys.sleep(0.05)
    out$event("last")
  })
}

#* Gives the body back, byte for byte.
#* @post /echo
#* @parser octet
#* @serializer octet
function(req) {
  req$bodyRaw
}

#* Gives back what the body holds, as `function(x) x` does that is deployed.
#* @post /identity
#* @serializer unboxedJSON
function(req) {
  req$body
}
