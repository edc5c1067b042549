skip_on_os("windows")
skip_on_cran()

test_that("a session may change its environment while requests need files", {
  dir <- local_app("echo")
  session <- local_rscript(sprintf(
    "server <- faucet::run(
       \"%s\",
       workers = 1, port = 0, block = FALSE, quiet = TRUE, access_log = \"none\", body_memory = 0
     )
     cat(server$url, \"\\n\")
     repeat {
       names <- paste0(\"NEW_\", 1:10000)
       for (name in names) do.call(Sys.setenv, stats::setNames(list(\"x\"), name))
       Sys.unsetenv(names)
     }",
    dir
  ))
  url <- wait_until({
    if (!session$process$is_alive()) stop(paste(c("The session has ended:", session$stderr()), collapse = "\n"))
    line <- grep("^http://", session$stdout(), value = TRUE)
    if (length(line) == 1) trimws(line)
  }, what = "the session's server")
  body <- charToRaw("body")
  for (round in 1:20) {
    clients <- crowd()
    for (i in 1:50) clients$add(url, "/body", paste(i), "POST", body, type = "application/octet-stream")
    done <- clients$wait()
    if (!all(vapply(done, is.list, NA))) break
  }
  expect_true(session$process$is_alive())
  expect_identical(unique(lapply(done, function(response) if (is.list(response)) response$body else response)), list(body))
})

test_that("workers have the environment of the server's start, and after a reload that of the reload", {
  dir <- local_code("plumber.R" = c(
    "#* @get /variable", "#* @serializer text", "function() Sys.getenv(\"FAUCET_TEST_VARIABLE\", \"none\")",
    "#* @get /die", "function() tools::pskill(Sys.getpid(), 9)"
  ))
  for (preload in c(FALSE, TRUE)) {
    withr::local_envvar(FAUCET_TEST_VARIABLE = "at start")
    server <- local_server(dir, workers = 1, preload = preload)
    wait_for_workers(server, 1)
    expect_identical(request(server, "/variable")$text, "at start")
    Sys.setenv(FAUCET_TEST_VARIABLE = "later")
    pid <- server$status()$pid
    request(server, "/die")
    wait_until({
      status <- server$status()
      identical(status$state, "ready") && status$pid != pid
    }, what = "another worker")
    expect_identical(request(server, "/variable")$text, "at start")
    server$reload()
    expect_identical(request(server, "/variable")$text, "later")
    server$stop()
  }
})
