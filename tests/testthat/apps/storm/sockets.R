# The same for workers of type `http`, which take WebSockets too: copied to `entrypoint.R`.
api <- plumber::plumb("plumber.R")
app <- list(
  call = api$call,
  onWSOpen = function(ws) ws$onMessage(function(binary, message) ws$send(message))
)
httpuv::runServer("127.0.0.1", as.integer(Sys.getenv("FAUCET_PORT")), app)
