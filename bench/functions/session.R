# A session that has faucet loaded: for each line that it reads, a name, it deploys a small function, has it answer once, and
# says how many milliseconds these two took.

to <- commandArgs(TRUE)[[1]]
library(faucet)
names <- file("stdin", "r")
cat("ready\n")

while (length(name <- readLines(names, 1)) > 0) {
  start <- proc.time()[["elapsed"]]
  deploy(function(x) x, name, to, quiet = TRUE)
  deployed <- proc.time()[["elapsed"]]
  stopifnot(identical(invoke(name, 42, to = to), 42L))
  answered <- proc.time()[["elapsed"]]
  cat(sprintf("[%.0f, %.0f]\n", 1000 * (deployed - start), 1000 * (answered - start)))
}
