# model: load once, answer many times.
#
#   faucet::run(system.file("examples/model", package = "faucet"), workers = 2)
#
#   curl http://127.0.0.1:8080/model
#   curl -X POST -H 'Content-Type: application/json' \
#     -d '[{"wt": 2.6, "hp": 110}, {"wt": 3.4, "hp": 175}]' http://127.0.0.1:8080/predict
#
# What stands at the top of this file runs once in each worker, before the worker gets its first request: faucet sends
# nothing to a worker that is still loading (`boot_timeout` says for how long it may). Each worker holds its own copy of
# the model, so memory is the number of workers times this.

worker <- Sys.getenv("FAUCET_WORKER_ID", "none")
started <- Sys.time()

# In place of `readRDS("model.rds")`.
model <- lm(mpg ~ wt + hp, data = mtcars)

loading <- as.numeric(difftime(Sys.time(), started, units = "secs"))

#* The model and what it costs
#* @get /model
#* @serializer unboxedJSON
function() {
  list(
    formula = deparse(formula(model)),
    coefficients = as.list(coef(model)),
    bytes = as.numeric(object.size(model)),
    seconds_to_load = loading,
    worker = worker
  )
}

#* Predict miles per gallon
#* @parser json
#* @post /predict
#* @serializer unboxedJSON
function(req, res) {
  cars <- req$body
  if (!is.data.frame(cars) || !all(c("wt", "hp") %in% names(cars)) || !is.numeric(cars$wt) || !is.numeric(cars$hp)) {
    res$status <- 400
    return(list(error = "400 - Bad Request: the body is a JSON array of objects with the numbers wt and hp"))
  }
  list(mpg = I(unname(predict(model, cars))), worker = worker)
}
