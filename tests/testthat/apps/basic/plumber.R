cat("Loading the API\n")

#* @get /hello
#* @serializer text
function() {
  "hello"
}

#* Who answers, after some time
#* @get /pid
#* @serializer unboxedJSON
function(ms = "0") {
  Sys.sleep(as.numeric(ms) / 1000)
  list(pid = Sys.getpid(), worker = Sys.getenv("FAUCET_WORKER_ID"), port = Sys.getenv("FAUCET_PORT"))
}

#* Leaves a file when it begins and another when it ends
#* @get /work
#* @serializer text
function(id, ms = "0") {
  file.create(paste0("begun-", id))
  Sys.sleep(as.numeric(ms) / 1000)
  file.create(paste0("ended-", id))
  paste("worked on", id)
}

#* The same, but ends when the test says so
#* @get /hold
#* @serializer text
function(id) {
  file.create(paste0("begun-", id))
  while (!file.exists(paste0("released-", id))) Sys.sleep(0.01)
  file.create(paste0("ended-", id))
  paste("held for", id)
}

#* Never returns
#* @get /loop
function(id) {
  file.create(paste0("begun-", id))
  while (TRUE) NULL
}

#* @get /fail
function() {
  stop("failed on purpose")
}

#* @get /die
function() {
  quit(save = "no", status = 3)
}

#* Prints, with and without a line's end
#* @get /say
#* @serializer text
function(text) {
  cat("to stdout:", text, "\n")
  message("to stderr: ", text)
  system2("echo", shQuote(paste("from a child:", text)))
  "said"
}

#* What the app finds around it
#* @get /surroundings
#* @serializer unboxedJSON
function() {
  list(
    global = setdiff(ls(globalenv(), all.names = TRUE), ".Random.seed"),
    app = ls(parent.env(environment()), all.names = TRUE),
    dir = getwd(),
    stdin = length(readLines(stdin(), n = 1)),
    interactive = interactive()
  )
}
