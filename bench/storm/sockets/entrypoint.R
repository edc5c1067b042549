# The API above, as a server of httpuv's that takes WebSockets too: workers of type `http`.
api <- plumber::plumb("../plumber.R")
app <- list(
  call = api$call,
  onWSOpen = function(ws) ws$onMessage(function(binary, message) ws$send(message))
)
httpuv::runServer(Sys.getenv("FAUCET_HOST", "127.0.0.1"), as.integer(Sys.getenv("FAUCET_PORT")), app)
