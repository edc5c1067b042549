# A replica. All those of a test run in one directory, where each R process writes down what it is given, and sees for
# itself whether two requests ever meet in it: it answers asynchronously, so it takes whatever else comes in meanwhile.
pod <- Sys.getenv("POD")
now <- 0
most <- 0

note <- function(what, id) {
  line <- paste(format(as.numeric(Sys.time()), digits = 16), what, id, pod, Sys.getpid(), now)
  cat(line, "\n", sep = "", file = paste0("log-", Sys.getpid()), append = TRUE)
}

begin <- function(id) {
  now <<- now + 1
  most <<- max(most, now)
  note("begun", id)
}

end <- function(id) {
  now <<- now - 1
  note("ended", id)
}

work <- function(id, ms = "0") {
  begin(id)
  promises::promise(function(resolve, reject) {
    later::later(function() {
      end(id)
      resolve(list(id = id, pod = pod, pid = Sys.getpid()))
    }, as.numeric(ms) / 1000)
  })
}

#* @get /work
#* @serializer unboxedJSON
work

#* @post /work
#* @serializer unboxedJSON
work

#* Begins, and ends when the test says so
#* @get /hold
#* @serializer unboxedJSON
function(id) {
  begin(id)
  file.create(paste0("begun-", id))
  while (!file.exists(paste0("released-", id))) Sys.sleep(0.01)
  end(id)
  list(id = id, pod = pod, pid = Sys.getpid())
}

#* Waits until it is interrupted
#* @get /wait
function(id) {
  on.exit(file.create(paste0("ended-", id)))
  file.create(paste0("begun-", id))
  while (TRUE) Sys.sleep(0.01)
}

#* @get /pid
#* @serializer unboxedJSON
function() {
  list(pod = pod, pid = Sys.getpid(), most = most)
}

#* What came in
#* @post /echo
#* @serializer unboxedJSON
function(req) {
  list(method = req$REQUEST_METHOD, query = req$QUERY_STRING, body = req$postBody, headers = as.list(req$HEADERS))
}

#* Well, until the test says otherwise
#* @get /health
#* @serializer unboxedJSON
function(res) {
  if (file.exists(paste0("sick-", pod))) res$status <- 503
  list(pod = pod)
}
