# The program against an agent in this session.

test_that("functions are deployed, listed, called, looked at and stopped", {
  local_agent()
  dir <- withr::local_tempdir()
  expect_identical(run_cli("init", "function", wd = dir)$status, 0L)
  done <- run_cli("deploy", "functions.yaml", wd = dir)
  expect_identical(done$status, 0L)
  expect_match(done$stderr, "Deployed replace: http", fixed = TRUE, all = FALSE)

  listed <- run_cli("list")
  expect_match(listed$stdout, "^ *(name|replace|to-upper) +(status|deployed)")
  listed <- jsonlite::fromJSON(run_cli("list", "--json")$text)
  expect_setequal(listed$name, c("replace", "to-upper"))
  expect_match(listed$deployed, "^20[0-9-]+T[0-9:]+Z$")

  expect_identical(run_cli("invoke", "to-upper", input = "I hate this\n")$stdout, "I HATE THIS")
  file <- file.path(dir, "answer")
  done <- run_cli("invoke", "to-upper", "--output", file, "--input", file.path(dir, "replace.R"))
  expect_identical(done[c("status", "stdout", "stderr")], list(status = 0L, stdout = character(), stderr = character()))
  expect_identical(readLines(file), toupper(readLines(file.path(dir, "replace.R"))))

  details <- run_cli("details", "replace")$stdout
  expect_true(all(c("name: replace", "status: deployed") %in% details))
  expect_identical(jsonlite::fromJSON(run_cli("details", "replace", "--json")$text)$signature$open, FALSE)
  expect_match(run_cli("log", "replace", "-n", "1")$stdout, "is deployed", fixed = TRUE)

  expect_identical(run_cli("stop", "to-upper")$stdout, "Stopped to-upper")
  expect_identical(run_cli("rollback", "to-upper")$stdout, "Rolled back to-upper")
  expect_identical(jsonlite::fromJSON(run_cli("stop", "replace", "--json")$text)$status, "stopped")
})

test_that("a program is deployed from the command line, and secrets are given without being arguments", {
  local_agent()
  expect_identical(run_cli("secret", "set", "key", input = "s3cret\n")$stdout, "Set key")
  expect_identical(run_cli("secret", "list")$stdout, "key")
  done <- run_cli("deploy", "--name", "show", "--env", "A=b", "--secrets", "key", "--quiet", "--", "sh", "-c", "echo $A; cat")
  expect_identical(done$status, 0L)
  expect_identical(run_cli("invoke", "show", input = "c")$stdout, c("b", "c"))
  # It is in use.
  expect_identical(run_cli("secret", "delete", "key")$status, 1L)
  expect_identical(run_cli("stop", "show", "--remove")$status, 0L)
  expect_identical(run_cli("secret", "delete", "key")$stdout, "Deleted key")
  expect_identical(run_cli("secret", "delete", "key")$status, 3L)
})

test_that("the exit status says what has become of it, and errors are lines on standard error", {
  agent <- local_agent(token = "right", call_token = "caller")
  token <- withr::local_tempfile(lines = "right")
  withr::local_envvar(FAUCET_TOKEN = NA, FAUCET_CALL_TOKEN = NA)
  expect_status <- function(status, message, ...) {
    done <- run_cli(...)
    expect_identical(done$status, status)
    expect_identical(done$stdout, character())
    expect_match(done$stderr[[1]], message, fixed = TRUE)
  }
  expect_identical(run_cli("deploy", "--name", "fail", "--token-file", token, "--quiet", "--", "sh", "-c", "exit 3")$status, 0L)
  expect_identical(run_cli("deploy", "--name", "sleep", "--token-file", token, "--quiet", "--", "sleep", "100")$status, 0L)
  expect_status(2L, "faucet: There is no verb `lst`.", "lst")
  expect_status(2L, "has no option --jsn", "list", "--jsn")
  expect_status(2L, "must be the address", "list", "--to", "a b")
  expect_status(2L, "There is no directory", "run", "/nonexistent")
  expect_status(3L, "there is no function `nosuch`", "details", "nosuch", "--token-file", token)
  expect_status(3L, "404", "invoke", "nosuch", "--token-file", token)
  expect_status(4L, "token", "list")
  expect_status(4L, "token", "invoke", "sleep")
  expect_status(5L, "cannot be reached", "list", "--to", paste0("127.0.0.1:", free_port()))
  expect_status(6L, "`fail`", "invoke", "fail", env = c(FAUCET_CALL_TOKEN = "caller"))
  expect_status(124L, "within 1 s", "invoke", "sleep", "--timeout", "1", env = c(FAUCET_TOKEN = "right"))

  # What has come before it failed is there, and does not look like all.
  code <- "printf begun; sleep 0.2; exit 3"
  expect_identical(run_cli("deploy", "--name", "break", "--token-file", token, "--quiet", "--", "sh", "-c", code)$status, 0L)
  done <- run_cli("invoke", "break", "--token-file", token)
  expect_identical(done[c("status", "stdout")], list(status = 6L, stdout = "begun"))
  expect_match(done$stderr, "broken off", fixed = TRUE)

  done <- run_cli("invoke", "nosuch", "--json", "--token-file", token)
  told <- jsonlite::fromJSON(done$stderr)
  expect_identical(told[c("status", "stage", "function")], list(status = 404L, stage = 1L, `function` = "nosuch"))
  expect_type(told$call_id, "character")
})

test_that("whoever stops reading ends the call, quietly", {
  local_agent()
  dir <- withr::local_tempdir()
  program <- function(name, what) {
    deploy_quietly(command = c("sh", "-c", paste0("echo $$ > ", file.path(dir, name), "; exec ", what)), name = name)
  }
  program("endless", "yes")
  program("silent", "sleep 1000")
  shell <- local_shell("faucet invoke endless < /dev/null | head -c 1000000 | wc -c; echo ${PIPESTATUS[0]}")
  expect_identical(wait_for_exit(shell), 0L)
  expect_identical(trimws(shell$lines()), c("1000000", "141"))
  # Nothing is ever written.
  until_begun <- paste0("(until [ -s ", dir, "/silent ]; do sleep 0.1; done)")
  shell <- local_shell(paste0("faucet invoke silent < /dev/null | ", until_begun, "; echo ${PIPESTATUS[0]}"))
  expect_identical(wait_for_exit(shell), 0L)
  expect_identical(shell$lines(), "141")
  wait_until_gone(as.integer(c(readLines(file.path(dir, "endless")), readLines(file.path(dir, "silent")))))
})

test_that("a chain streams from standard input to standard output, and ends at once when nobody reads", {
  local_agent()
  code <- quote(function(input, output) while (!is.null(bytes <- input$read())) output$write(bytes))
  deploy_quietly(eval(code), name = "echo", stream = TRUE, workers = c(0, 2))
  file <- withr::local_tempfile()
  writeBin(as.raw(rep(0:250, length.out = 3e6)), file)
  shell <- local_shell(paste0("faucet invoke \"echo | echo\" < ", file, " | cmp - ", file, "; echo ${PIPESTATUS[@]}"))
  expect_identical(wait_for_exit(shell), 0L)
  expect_identical(shell$lines(), "0 0")
  shell <- local_shell("yes | faucet invoke \"echo | echo\" | head -c 1M | wc -c; echo ${PIPESTATUS[@]}")
  expect_identical(wait_for_exit(shell), 0L)
  expect_identical(trimws(shell$lines()), c("1048576", "141 141 0 0"))
  # Its workers are free: another one is served.
  expect_identical(run_cli("invoke", "echo | echo", input = "x")$stdout, "x")

  done <- run_cli("invoke", "echo | | echo", input = "x")
  expect_identical(done$status, 2L)
  expect_identical(done$stderr[-1], c("  echo | | echo", "         ^"))
  expect_identical(run_cli("invoke", "echo | nosuch", input = "x")$status, 3L)
})

test_that("Ctrl-C cancels the call", {
  local_agent()
  begun <- withr::local_tempfile()
  pid <- withr::local_tempfile()
  code <- paste0("echo $$ > ", pid, "; touch ", begun, "; exec sleep 1000")
  deploy_quietly(command = c("sh", "-c", code), name = "silent")
  process <- processx::process$new(cli_program(), c("invoke", "silent"), stdin = "/dev/null", stderr = "|", env = cli_env())
  withr::defer(process$kill())
  wait_until(file.exists(begun), what = "the function to begin")
  process$interrupt()
  wait_until(!process$is_alive(), what = "the program to end")
  expect_identical(process$get_exit_status(), 130L)
  expect_identical(process$read_all_error(), "")
  wait_until_gone(as.integer(readLines(pid)))
})

test_that("a server runs until it is told to stop", {
  shell <- processx::process$new(
    cli_program(), c("local", "--dir", test_path("apps", "basic"), "--workers=1", "--port", "0", "--access-log", "none"),
    stdout = "|", stderr = "|", env = cli_env()
  )
  withr::defer(if (shell$is_alive()) shell$kill_tree())
  seen <- character()
  url <- wait_until(
    {
      seen <- c(seen, shell$read_error_lines())
      line <- grep("Ready on http", seen, value = TRUE)
      if (length(line) > 0) sub("^.*Ready on (http://[^ ]*) .*$", "\\1", line[[1]])
    },
    what = "the server to be ready"
  )
  expect_identical(request(url, "/pid")$status, 200L)
  shell$interrupt()
  wait_until(!shell$is_alive(), what = "the server to stop")
  expect_identical(shell$get_exit_status(), 0L)
})
