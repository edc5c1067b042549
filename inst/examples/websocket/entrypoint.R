# websocket: a server that is not plumber, with a WebSocket and a page that talks to it.
#
#   faucet::run(system.file("examples/websocket", package = "faucet"), workers = 2)
#
# Then open http://127.0.0.1:8080 in two or more browser tabs: each tab's WebSocket stays with one worker.
#
# This is the other form of `entrypoint.R`: it starts its server itself, on FAUCET_PORT, and does not return. Any
# framework that can listen on a port works that way. Without faucet:
#
#   FAUCET_PORT=8080 Rscript entrypoint.R
#
# A WebSocket holds its worker's lease only until the upgrade is answered. After that, messages of an open WebSocket and
# ordinary requests share the worker: keep the work for one message short.

worker <- Sys.getenv("FAUCET_WORKER_ID", "none")
page <- readChar("page.html", file.size("page.html"), useBytes = TRUE)

app <- list(
  call = function(req) {
    if (req$PATH_INFO != "/") {
      return(list(status = 404L, headers = list("Content-Type" = "text/plain"), body = "Not Found"))
    }
    list(status = 200L, headers = list("Content-Type" = "text/html; charset=utf-8"), body = page)
  },
  onWSOpen = function(ws) {
    ws$send(paste("connected to worker", worker))
    ws$onMessage(function(binary, message) {
      if (!binary) ws$send(paste0("worker ", worker, ": ", toupper(message)))
    })
  }
)

httpuv::runServer(Sys.getenv("FAUCET_HOST", "127.0.0.1"), as.integer(Sys.getenv("FAUCET_PORT")), app)
