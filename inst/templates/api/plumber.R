# Each function below a `#*` is a route. `faucet run` serves them on http://127.0.0.1:8080, with a page to try them at
# /__docs__/.

#* Say hello
#* @param name Whom to greet
#* @get /hello
function(name = "world") {
  list(message = paste0("Hello, ", name, "!"))
}

#* The mean of some numbers, such as {"x": [1, 2, 3]}
#* @param x:[dbl] Numbers
#* @post /mean
function(x) {
  list(mean = mean(as.numeric(x)))
}
