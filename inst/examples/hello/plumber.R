# hello: the smallest useful API, and one slow route to watch the workers share the work.
#
#   faucet::run(system.file("examples/hello", package = "faucet"), workers = 4)
#
#   curl -i http://127.0.0.1:8080/hello
#   curl 'http://127.0.0.1:8080/hello?name=Ada'
#
# Four slow requests on four workers take as long as one, and /hello is answered meanwhile:
#
#   for i in 1 2 3 4; do curl -s 'http://127.0.0.1:8080/slow?s=3' & done; wait

#* @apiTitle Hello
#* @apiDescription The example that faucet's README starts with.

# faucet numbers its workers from 1. Served by plumber alone, the variable is not set.
worker <- Sys.getenv("FAUCET_WORKER_ID", "none")

#* Say in a header which worker answered
#* @filter worker
function(req, res) {
  res$setHeader("X-Worker", worker)
  plumber::forward()
}

#* Greet
#* @param name Whom to greet
#* @get /hello
#* @serializer unboxedJSON
function(name = "world") {
  list(message = paste0("Hello, ", name, "!"), worker = worker)
}

#* Hold one worker for a while
#* @param s:dbl Seconds, at most 60
#* @get /slow
#* @serializer unboxedJSON
function(res, s = 1) {
  s <- suppressWarnings(as.numeric(s))
  if (length(s) != 1 || is.na(s) || s < 0 || s > 60) {
    res$status <- 400
    return(list(error = "400 - Bad Request: s is a number of seconds, 0 to 60"))
  }
  Sys.sleep(s)
  list(slept = s, worker = worker)
}
