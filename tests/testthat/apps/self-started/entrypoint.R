# No plumber at all: any server that listens on the port will do.
httpuv::runServer("127.0.0.1", as.integer(Sys.getenv("FAUCET_PORT")), list(
  call = function(req) {
    list(
      status = 200L,
      headers = list("Content-Type" = "text/plain"),
      body = paste("self-started worker", Sys.getenv("FAUCET_WORKER_ID"), "got", req$PATH_INFO)
    )
  }
))
