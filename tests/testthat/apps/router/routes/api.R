#* @get /pid
#* @serializer unboxedJSON
function() {
  list(pid = Sys.getpid())
}
