# Routes of which faucet compiles most: each is one way to be plain, or not to be.

#* A line of text, with an argument from the query string.
#* @get /fast
#* @serializer text
function(n = 1) {
  paste("fast", n)
}

#* A list of one string.
#* @get /small
function(n = 1) {
  list(msg = paste("fast", n))
}

#* A JSON document with lists in it, made and serialised anew each time.
#* @get /json
function(n = 1) {
  list(
    id = as.integer(n),
    name = "faucet",
    tags = list("r", "rust", "plumber"),
    values = seq_len(20) / 3
  )
}

rows <- data.frame(
  id = seq_len(100),
  name = paste("item", seq_len(100)),
  price = seq_len(100) / 7,
  sold = rep(c(TRUE, FALSE), 50)
)

#* A table of 100 rows.
#* @get /rows
function() {
  rows
}

#* What order.json holds, the fields of which are the handler's arguments.
#* @post /order
#* @serializer unboxedJSON
function(customer, items) {
  list(customer = customer, items = nrow(items), total = sum(items$price * items$count))
}

#* The same, with an answer that is a number.
#* @post /total
#* @serializer unboxedJSON
function(items) {
  sum(items$price * items$count)
}

#* A path with two arguments that have types.
#* @get /typed/<id:int>/<share:double>
#* @serializer unboxedJSON
function(id, share) {
  list(id = id, share = share)
}

#* A handler that reads the request and changes the response.
#* @get /req
#* @serializer text
function(req, res) {
  res$setHeader("X-Path", req$PATH_INFO)
  paste(req$REQUEST_METHOD, req$QUERY_STRING)
}

#* @get /error
function() {
  stop("as always")
}

# Holds the router.
api <- new.env()

endpoint_of <- function(route) {
  Find(function(endpoint) identical(endpoint$path, route), unlist(api$router$endpoints, use.names = FALSE))
}

#* Two routes that are not compiled: one is behind a user's filter, one has a hook. (A hook of a mounted router would not run.)
#* @plumber
function(pr) {
  api$router <- pr
  answer <- function(n = 1) paste("fast", n)
  filtered <- plumber::pr_filter(plumber::pr(), "user", function(req) {
    req$user <- "somebody"
    plumber::forward()
  })
  plumber::pr_get(filtered, "/fast", answer, serializer = plumber::serializer_text())
  plumber::pr_get(pr, "/hooked", answer, serializer = plumber::serializer_text())
  endpoint_of("/hooked")$registerHook("preexec", function(data, req) {
    req$begun <- Sys.time()
  })
  plumber::pr_mount(pr, "/filtered", filtered)
}

# What the handlers are called with when the suite asks for them.
arguments <- list(
  "/fast" = list(n = "3"),
  "/small" = list(n = "3"),
  "/json" = list(n = "3"),
  "/rows" = list(),
  "/order" = jsonlite::fromJSON("order.json"),
  "/total" = jsonlite::fromJSON("order.json")["items"],
  "/typed/<id:int>/<share:double>" = list(id = 7L, share = 0.5)
)

#* The CPU time, in microseconds, that a route's handler and serializer take by themselves: called again and again in here,
#* with nothing of plumber or faucet around them. `whole` is plumber's own serializer, which makes a response besides.
#* @get /alone
#* @serializer unboxedJSON
function(route, seconds) {
  endpoint <- endpoint_of(route)
  handler <- endpoint$getFunc()
  given <- arguments[[route]]
  whole <- endpoint$serializer
  if (is.null(whole)) whole <- plumber::serializer_json()
  serialize <- environment(whole)$serialize_fn
  value <- do.call(handler, given)
  response <- asNamespace("plumber")$PlumberResponse
  seconds <- as.numeric(seconds)
  list(
    handler = time_of(function() do.call(handler, given), seconds),
    serializer = time_of(function() serialize(value), seconds),
    whole = time_of(function() whole(value, NULL, response$new(), stop), seconds)
  )
}

# The CPU time of a call, in microseconds, over at least so many seconds. No request is handled meanwhile.
time_of <- function(call, seconds) {
  calls <- 0
  begun <- proc.time()
  repeat {
    for (i in seq_len(500)) call()
    calls <- calls + 500
    spent <- proc.time() - begun
    if (spent[["elapsed"]] >= seconds) {
      return(1e6 * (spent[["user.self"]] + spent[["sys.self"]]) / calls)
    }
  }
}
