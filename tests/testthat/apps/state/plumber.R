# What it knows of a client is in this process alone.
count <- 0

#* @get /count
#* @serializer unboxedJSON
function(req) {
  count <<- count + 1
  list(count = count, pid = Sys.getpid(), cookie = if (is.null(req$HTTP_COOKIE)) "" else req$HTTP_COOKIE)
}
