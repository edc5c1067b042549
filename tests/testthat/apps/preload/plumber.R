# What the template loads, and what each worker makes anew.
mark <- function(what) {
  file.create(paste0(what, "-", Sys.getpid()))
}

mark("loaded")
loaded <- Sys.getpid()
shared <- runif(3)
connection <- NULL
order <- character()

faucet::after_fork(function() {
  order <<- c(order, "first")
  connection <<- file(paste0("handle-", Sys.getpid()), "w+")
  writeLines(paste("made by", Sys.getpid()), connection)
})
faucet::after_fork(function() order <<- c(order, "second"))

# Whoever serves runs this.
later::later(function() mark("tick"), 0.05)

assign(".Last", function() mark("last"), globalenv())

#* @plumber
function(pr) {
  plumber::pr_hook(pr, "exit", function() mark("exit"))
}

#* @get /facts
#* @serializer unboxedJSON list(digits = 16)
function(ms = "0") {
  Sys.sleep(as.numeric(ms) / 1000)
  list(
    pid = Sys.getpid(), worker = faucet::worker_id(), loaded = loaded, shared = shared, own = readLines(connection),
    order = order, random = runif(1), tempdir = tempdir(), has_tempdir = dir.exists(tempdir()),
    port = Sys.getenv("FAUCET_PORT"), template = Sys.getenv("FAUCET_TEMPLATE")
  )
}

#* @get /later
#* @serializer text
function() {
  promises::promise(function(resolve, reject) later::later(function() resolve("in the end"), 0.05))
}

#* @get /wait
function(id) {
  on.exit(file.create(paste0("ended-", id)))
  file.create(paste0("begun-", id))
  while (TRUE) Sys.sleep(0.01)
}

#* @get /never
function(id) {
  file.create(paste0("begun-", id))
  promises::promise(function(resolve, reject) NULL)
}

#* @get /finalizer
#* @serializer text
function() {
  reg.finalizer(new.env(), function(env) stop("in a finalizer"))
  gc()
  "went on"
}

#* @get /events
function(req, res) {
  faucet::stream(req, res, function(out) for (i in 1:3) out$event(i))
}

#* @get /say
#* @serializer text
function(text) {
  cat("to stdout:", text, "\n")
  message("to stderr: ", text)
  "said"
}
