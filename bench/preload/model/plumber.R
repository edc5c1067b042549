# An API that holds 500 MB of numbers, made as it loads.

weights <- stats::runif(65536 * 1000)

#* @get /fast
#* @serializer text
function() {
  "fast"
}

#* Reads here and there in the numbers, and then keeps its R process for a moment: of as many clients as there are
#* workers, each has one to itself.
#* @get /predict
#* @serializer text
function() {
  prediction <- sum(weights[sample.int(length(weights), 1000)])
  Sys.sleep(0.01)
  format(prediction)
}
