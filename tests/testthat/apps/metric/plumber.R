orders <- faucet::metric_counter("test_orders", "Orders, \"all\" of them.\nOf each \\ kind.")
waiting <- faucet::metric_gauge("test_waiting")
seconds <- faucet::metric_histogram("test_seconds", "What it took.", buckets = c(0.1, 1))

# Where the app is loaded: in a template, that is nobody's count.
orders$inc(label = "loaded")

#* @get /count
#* @serializer unboxedJSON
function(label = "", by = 1, ms = 0) {
  Sys.sleep(as.numeric(ms) / 1000)
  orders$inc(as.numeric(by), label = label)
  waiting$set(1)
  seconds$observe(0.5)
  list(pid = Sys.getpid())
}

#* @get /fork
#* @serializer unboxedJSON
function() {
  child <- parallel::mcparallel({
    orders$inc(100, label = "child")
    orders$value(label = "child")
  })
  list(counted = parallel::mccollect(child)[[1]])
}

#* @get /file
#* @serializer unboxedJSON
function(ms = 0) {
  Sys.sleep(as.numeric(ms) / 1000)
  list(file = Sys.getenv("FAUCET_METRICS"))
}

#* @get /many
#* @serializer unboxedJSON
function() {
  for (i in 1:1100) orders$inc(n = i)
  list()
}
