# What a storm is made of: `/work` and `/echo` are for everyone, all else is what hostile clients ask for.

#* Waits 10 ms, as for a database, and says who asked
#* @get /work
#* @serializer text
function(id = "") {
  Sys.sleep(0.01)
  id
}

#* Gives the body back, byte for byte
#* @post /echo
#* @parser octet
#* @serializer octet
function(req) {
  if (length(req$bodyRaw) > 0) req$bodyRaw else raw()
}

#* Never returns
#* @get /loop
function(busy = "0") {
  while (TRUE) if (busy != "1") Sys.sleep(0.005)
}

#* Dies in the middle of its answer
#* @get /crash
function(how = "kill") {
  if (how == "quit") quit(save = "no", status = 3)
  tools::pskill(Sys.getpid(), if (how == "kill") tools::SIGKILL else 6L)
  Sys.sleep(10)
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

#* The same, bit by bit
#* @get /stream
function(req, res) {
  chunk <- big[seq_len(64 * 1024)]
  faucet::stream(req, res, type = "application/octet-stream", function(out) {
    for (i in 1:40) {
      out$write(chunk)
      Sys.sleep(0.01)
    }
  })
}
