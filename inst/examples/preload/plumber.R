# preload: load the app once, and fork the workers from the process that has.
#
#   faucet::run(system.file("examples/preload", package = "faucet"), workers = 4, preload = TRUE)
#
#   curl 'http://127.0.0.1:8080/mean?station=7'
#   for i in 1 2 3 4; do curl -s http://127.0.0.1:8080/worker & done; wait
#
# The second shows that all workers were forked after the data was made, that each has its own journal, and how much of
# its memory it shares with the others (on Linux). Kill a worker: the next one is there at once, in column `boot` of
# `$status()`, where without `preload` it makes the data again.

# In place of a large file: 10 million numbers, 80 MB. It is made once, in the template; the workers share it, as long as
# they only read it.
measured <- list(at = Sys.time(), celsius = matrix(rnorm(1e7, mean = 15, sd = 8), ncol = 100))

# What workers must not share is made in each of them after the fork. A file that is written to has one position for all
# who got it by a fork; a connection to a database would have one conversation. Without `preload` this is called at once.
journal <- NULL
faucet::after_fork(function() {
  journal <<- file(tempfile("journal-", fileext = ".log"), open = "a")
})

#* The mean temperature at a station
#* @param station:int Its number, 1 to 100
#* @get /mean
#* @serializer unboxedJSON
function(req, res, station = 1) {
  station <- suppressWarnings(as.integer(station))
  if (length(station) != 1 || is.na(station) || station < 1 || station > 100) {
    res$status <- 400
    return(list(error = "400 - Bad Request: station is a number from 1 to 100"))
  }
  writeLines(paste(format(Sys.time()), faucet::request_id(req), "station", station), journal)
  list(station = station, celsius = mean(measured$celsius[, station]), worker = faucet::worker_id())
}

#* What this worker has of its own
#* @get /worker
#* @serializer unboxedJSON
function() {
  Sys.sleep(0.2) # so that requests at the same time go to different workers
  list(
    worker = faucet::worker_id(),
    pid = Sys.getpid(),
    journal = basename(summary(journal)$description),
    random = runif(1),
    data_made = format(measured$at, "%H:%M:%OS3"),
    memory_mb = memory()
  )
}

# Shared and private memory of this process, as the Linux kernel counts it.
memory <- function(file = "/proc/self/smaps_rollup") {
  if (!file.exists(file)) {
    return(NULL)
  }
  lines <- grep("^(Shared|Private)_(Clean|Dirty):", readLines(file), value = TRUE)
  kind <- tolower(sub("_.*", "", lines))
  kb <- as.numeric(gsub("[^0-9]", "", lines))
  as.list(round(tapply(kb, kind, sum) / 1024))
}
