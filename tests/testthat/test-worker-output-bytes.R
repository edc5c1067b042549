# Whatever bytes a worker prints, the front lives and shows something readable.

skip_on_os("windows")
skip_on_cran()

# What a worker prints is in files: R itself cannot hold each of these as text.
local_printing <- function(..., env = parent.frame()) {
  dir <- local_code("plumber.R" = c(
    "#* @get /print", "#* @serializer text",
    "function(file) { system(paste(\"cat\", shQuote(file))); system(paste(\"cat\", shQuote(file), \">&2\")); \"printed\" }",
    "#* @get /hello", "#* @serializer text", "function() \"hello\""
  ), env = env)
  pieces <- list(...)
  for (name in names(pieces)) writeBin(pieces[[name]], file.path(dir, name))
  dir
}

bytes <- function(text) charToRaw(text)

test_that("no byte that a worker prints ends the front, and none is a control character when it is shown", {
  dir <- local_printing(
    all = c(as.raw(0:255), bytes("\nafter all\n")),
    nul = c(bytes("a"), as.raw(0), bytes("b\n")),
    escapes = bytes("\033[2J\033[31mred\033[0m \033]0;title\007and \033]8;;http://x\033\\link\033[1;1H\n"),
    invalid = c(bytes("gr"), as.raw(c(0xfc, 0xdf)), bytes("e\n")),
    bidi = bytes("abc\u202edef\u2066\u2028x\u0085y\n"),
    overlong = c(as.raw(c(0xc0, 0x80, 0xed, 0xa0, 0x80, 0xf4, 0x90, 0x80, 0x80)), bytes("\n"))
  )
  front <- local_front(dir, workers = 1L)
  for (name in c("all", "nul", "escapes", "invalid", "bidi", "overlong")) {
    expect_identical(request(front$url, paste0("/print?file=", name))$text, "printed")
    expect_identical(request(front$url, "/hello")$text, "hello")
  }
  request(front$url, "/print?file=nul")
  said <- wait_until({
    said <- front$stderr()
    if (sum(grepl("a\\x00b", said, fixed = TRUE)) == 4) said
  })
  expect_true(any(grepl("[worker 1] after all", said, fixed = TRUE)))
  expect_true(any(grepl("[worker 1] red and link", said, fixed = TRUE)))
  expect_true(any(grepl("[worker 1] gr\\xfc\\xdfe", said, fixed = TRUE)))
  expect_true(any(grepl("[worker 1] abc\\u{202e}def\\u{2066}\\u{2028}x\\u{85}y", said, fixed = TRUE)))
  expect_true(any(grepl("[worker 1] \\xc0\\x80\\xed\\xa0\\x80\\xf4\\x90\\x80\\x80", said, fixed = TRUE)))
  expect_true(all(validUTF8(said)))
  expect_false(any(grepl("[\001-\010\013-\037\177]", said, useBytes = TRUE)))
  expect_false(any(grepl("\u202e|\u2066|\u2028|\u0085", said)))
  front$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(front), 0L)
})

test_that("a worker's last words may be any bytes when the start fails", {
  dir <- local_code("entrypoint.R" = c(
    "system(\"printf 'no \\\\000 \\\\377 \\\\033[31mdatabase\\\\033[0m\\\\n' >&2\")",
    "stop(\"gone\")"
  ))
  for (block in c(TRUE, FALSE)) {
    error <- expect_error(
      faucet::run(dir, workers = 1, port = 0, block = block, quiet = TRUE),
      class = "faucet_error_boot"
    )
    expect_true("no \\x00 \\xff database" %in% error$lines)
    expect_match(conditionMessage(error), "no \\x00 \\xff database", fixed = TRUE)
  }
})

test_that("bytes that no text may hold reach a server beside the session as readable messages", {
  dir <- local_printing(nul = c(bytes("a"), as.raw(0), bytes("b\n")))
  server <- suppressMessages(local_server(dir, workers = 1, quiet = FALSE))
  request(server, "/print?file=nul")
  lines <- messages_until(server, sum(grepl("a\\x00b", seen, fixed = TRUE)) == 2)
  expect_true("[worker 1] a\\x00b" %in% lines)
})

test_that("a line of 100 MB costs little memory, holds up nobody, and is cut with a word on how much", {
  skip_if_not(file.exists("/proc/self/status"))
  dir <- local_code("plumber.R" = c(
    "#* @get /huge", "#* @serializer text",
    "function() {",
    "  file.create(\"begun\")",
    "  system(\"head -c 100000000 /dev/zero | tr '\\\\0' x; echo; echo the next line\")",
    "  \"done\"", "}",
    "#* @get /hello", "#* @serializer text", "function() \"hello\""
  ))
  front <- local_front(dir, workers = 2L)
  peak <- function() {
    status <- readLines(file.path("/proc", front$pid, "status"))
    as.numeric(gsub("[^0-9]", "", grep("^VmHWM", status, value = TRUE))) * 1024
  }
  before <- peak()
  clients <- crowd()
  clients$add(front$url, "/huge", key = "huge")
  wait_until(clients$step() && file.exists(file.path(dir, "begun")))
  expect_identical(request(front$url, "/hello")$text, "hello")
  expect_identical(clients$wait()$huge$text, "done")
  wait_until(any(grepl("the next line", front$stderr())))
  expect_lt(peak() - before, 30e6)
  long <- grep("xxxx", front$stderr(), value = TRUE)
  expect_length(long, 1)
  expect_lt(nchar(long), 10000)
  expect_match(long, "x [.]{3} [(][0-9]+ bytes more[)]$")
})
