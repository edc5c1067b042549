# A Rook app without plumber, which answers what the code in the request's header X-Code says (see rook() in
# helper-kind.R). The code has the request as `req`, and a home for what is to last, `state`.
library(faucet)

state <- new.env()

httpuv::runServer("127.0.0.1", as.integer(Sys.getenv("FAUCET_PORT")), list(call = function(req) {
  eval(unserialize(jsonlite::base64_dec(req$HTTP_X_CODE)), list2env(list(req = req, state = state), parent = globalenv()))
}))
