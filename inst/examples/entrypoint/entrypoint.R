# entrypoint: the API as code, put together from parts, with something to set up and something to put away.
#
#   faucet::run(system.file("examples/entrypoint", package = "faucet"), workers = 2)
#
#   curl http://127.0.0.1:8080/
#   curl http://127.0.0.1:8080/cars/fastest
#   curl -H "X-Request-Id: abc" http://127.0.0.1:8080/cars/broken
#
# `entrypoint.R` goes before `plumber.R` in the same directory. Its last value is a plumber router, as
# `plumber::plumb(dir = )` also expects. The other form of `entrypoint.R`, one that starts a server itself,
# is in the example `websocket`.

library(plumber)

worker <- Sys.getenv("FAUCET_WORKER_ID", "none")

# Something that has to be closed: one connection for each worker.
journal <- file(tempfile("entrypoint-", fileext = ".log"), open = "a")

# Errors in the shape of plumber's own, with the request's id for whoever reads the access log.
on_error <- function(req, res, err) {
  res$status <- 500
  message("request ", req$HTTP_X_REQUEST_ID, ": ", conditionMessage(err))
  list(error = "500 - Internal server error", id = req$HTTP_X_REQUEST_ID)
}

# A mounted router keeps its own error handler.
cars <- pr_set_error(plumb("cars.R"), on_error)

root <- pr()
root <- pr_set_serializer(root, serializer_unboxed_json())
root <- pr_set_error(root, on_error)
root <- pr_filter(root, "journal", function(req) {
  writeLines(paste(format(Sys.time()), req$REQUEST_METHOD, req$PATH_INFO, req$HTTP_X_REQUEST_ID), journal)
  forward()
})
root <- pr_get(root, "/", function() list(routes = c("/", "/cars/fastest", "/cars/broken"), worker = worker))
root <- pr_mount(root, "/cars", cars)

# Runs when the worker is told to stop: on `$stop()`, `$reload()`, a recycle, Ctrl-C and SIGTERM.
root <- pr_hook(root, "exit", function() {
  close(journal)
  message("worker ", worker, " closed its journal")
})

root
