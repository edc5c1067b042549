skip_on_os("windows")

trace <- "0af7651916cd43dd8448eb211c80319c"
given <- paste0("00-", trace, "-b7ad6b7169203331-01")

seen <- function(server, parent) {
  rook_value(server, c(req$HTTP_TRACEPARENT, req$HTTP_TRACESTATE), headers = list(traceparent = parent, tracestate = "a=1"))
}

test_that("R sees what a client says of its trace", {
  server <- local_server(local_app("eval"), workers = 1)
  expect_identical(seen(server, given), c(given, "a=1"))
  expect_null(seen(server, "nonsense"))
})

test_that("R sees its request's own span where a collector is told, also of one that is not there", {
  # Nobody is at this port.
  server <- local_server(local_app("eval"), workers = 1, otlp = "http://127.0.0.1:1")
  own <- seen(server, given)
  expect_match(own[[1]], paste0("^00-", trace, "-[0-9a-f]{16}-01$"))
  expect_false(own[[1]] == given)
  expect_identical(own[[2]], "a=1")
  begun <- seen(server, "nonsense")
  expect_match(begun, "^00-[0-9a-f]{32}-[0-9a-f]{16}-01$")
  unrecorded <- sub("01$", "00", given)
  expect_identical(seen(server, unrecorded), c(unrecorded, "a=1"))
})
