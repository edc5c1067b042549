version <- function(n) {
  c(
    "#* @get /version", "#* @serializer text", sprintf("function() \"version %d\"", n),
    "#* @get /pid", "#* @serializer unboxedJSON",
    "function(ms = 0) { Sys.sleep(as.numeric(ms) / 1000); list(pid = Sys.getpid()) }"
  )
}

test_that("reload() serves the new code from new processes, and loses no request on the way", {
  dir <- local_code("plumber.R" = version(1))
  server <- local_server(dir, workers = 2)
  before <- wait_for_workers(server, 2)$pid
  expect_identical(request(server, "/version")$text, "version 1")

  write_code(dir, "plumber.R", version(2))
  client <- local_client(server, "/pid?ms=50")
  expect_identical(withVisible(server$reload()), list(value = server, visible = FALSE))
  answers <- client$stop()
  expect_gt(length(answers), 0)
  expect_true(all(answers == 200))

  after <- wait_for_workers(server, 2)$pid
  expect_false(any(after %in% before))
  expect_identical(request(server, "/version")$text, "version 2")
  wait_until_gone(before)
})

test_that("when the new code has a syntax error, the old workers stay and the error says why", {
  dir <- local_code("plumber.R" = version(1))
  server <- local_server(dir, workers = 2)
  before <- wait_for_workers(server, 2)$pid

  write_code(dir, "plumber.R", c("#* @get /version", "function() { 1 +* 2 }"))
  error <- suppressMessages(expect_error(server$reload(), class = "faucet_error"))
  expect_match(conditionMessage(error), "unexpected '*'", fixed = TRUE)

  expect_identical(request(server, "/version")$text, "version 1")
  expect_setequal(wait_for_workers(server, 2)$pid, before)

  write_code(dir, "plumber.R", version(3))
  server$reload()
  expect_identical(request(server, "/version")$text, "version 3")
})

test_that("a reload follows a link that leads elsewhere now", {
  old <- local_app("basic")
  new <- local_app("basic")
  link <- withr::local_tempfile()
  file.symlink(old, link)
  server <- local_server(link, workers = 1L)
  writeLines("new", file.path(new, "which"))
  writeLines("#* @get /which\nfunction() readLines(\"which\")", file.path(new, "plumber.R"))
  unlink(link)
  file.symlink(new, link)
  server$reload()
  expect_match(request(server$url, "/which")$text, "new")
})
