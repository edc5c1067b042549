#* The body, as it came
#* @post /body
#* @parser octet
#* @serializer octet
function(req) {
  if (length(req$bodyRaw) > 0) req$bodyRaw else raw()
}

#* What R was told of the request
#* @get /headers
#* @serializer unboxedJSON
function(req) {
  as.list(req$HEADERS)
}

#* @get /hello
#* @serializer text
function() {
  "hello"
}

#* As many headers as came, beside the usual ones
#* @get /many
#* @serializer text
function(req, res) {
  own <- grep("^x-own-", names(req$HEADERS), value = TRUE)
  for (name in own) res$setHeader(name, req$HEADERS[[name]])
  as.character(length(own))
}
