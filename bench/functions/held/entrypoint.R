# An API that takes its time but leaves R free meanwhile. It takes WebSockets, too: so httpuv serves it, and R takes every request
# that reaches this process.

# How many requests R has here at this moment, and the most that it ever had.
now <- 0
most <- 0

answer <- function(text) {
  list(status = 200L, headers = list("Content-Type" = "text/plain"), body = text)
}

hold <- function() {
  now <<- now + 1
  most <<- max(most, now)
  promises::promise(function(resolve, reject) {
    later::later(delay = 0.05, function() {
      now <<- now - 1
      resolve(answer("held"))
    })
  })
}

httpuv::runServer("127.0.0.1", as.integer(Sys.getenv("FAUCET_PORT")), list(
  call = function(req) if (req$PATH_INFO == "/most") answer(as.character(most)) else hold(),
  onWSOpen = function(socket) socket$close()
))
