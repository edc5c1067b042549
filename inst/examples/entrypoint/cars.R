# Mounted at /cars by entrypoint.R.

#* The car with the shortest quarter mile
#* @get /fastest
#* @serializer unboxedJSON
function() {
  best <- mtcars[which.min(mtcars$qsec), ]
  list(car = rownames(best), seconds = best$qsec)
}

#* A handler that fails, to see the error handler of entrypoint.R
#* @get /broken
function() {
  stop("no such car")
}
