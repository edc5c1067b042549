#* For everyone
#* @get /work
#* @serializer unboxedJSON
function(id = "", ms = "0") {
  Sys.sleep(as.numeric(ms) / 1000)
  list(id = id, pid = Sys.getpid())
}

# All else is for hostile clients.

#* @post /echo
#* @parser octet
#* @serializer octet
function(req) {
  if (length(req$bodyRaw) > 0) req$bodyRaw else raw()
}

#* Never returns
#* @get /loop
function() {
  while (TRUE) NULL
}

#* @get /crash
function(how = "kill") {
  if (how == "quit") quit(save = "no", status = 3)
  tools::pskill(Sys.getpid(), tools::SIGKILL)
  while (TRUE) NULL
}

#* Prints what no terminal should see
#* @get /garbage
#* @serializer text
function() {
  for (name in c("/dev/stdout", "/dev/stderr")) {
    output <- file(name, "wb")
    writeBin(as.raw(c(0x61, 0x00, 0x62, 0x0a, 0xff, 0xfe, 0xc3, 0x28, 0x0a)), output)
    writeBin(charToRaw("\033]0;title\007\033[2J\033[31mred\n\xe2\x80\xae%s %n {braces}\n"), output)
    writeBin(rep(charToRaw("long"), 50000), output)
    writeBin(as.raw(0x0a), output)
    close(output)
  }
  "printed"
}

big <- as.raw(rep(0:255, length.out = 4 * 1024^2))

#* More than a client takes that does not read
#* @get /big
#* @serializer octet
function() {
  big
}

#* @get /stream
function(req, res) {
  faucet::stream(req, res, type = "application/octet-stream", function(out) {
    for (i in 1:16) out$write(big[seq_len(256 * 1024)])
  })
}
