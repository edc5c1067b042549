# `faucet::run()` that also scales when it is told: `orders` is a file into which somebody writes a number of workers.
# Nobody's order is fatal: what goes wrong is printed, and serving goes on.
serve <- function(dir, orders, ...) {
  server <- faucet::run(dir, block = FALSE, ...)
  while (!server$wait(timeout = 0.2)) {
    if (file.exists(orders)) {
      workers <- as.integer(readLines(orders))
      file.remove(orders)
      tryCatch(server$scale(workers), error = function(error) message(conditionMessage(error)))
    }
  }
}
