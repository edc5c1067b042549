# Chains of functions at an agent, by HTTP and by the program: what comes of them, and of those that fail in the middle.

local_walk <- function(env = parent.frame()) {
  skip_if_not(nzchar(Sys.which("python3")), "python3 is not installed")
  # macOS has another sed.
  has_sandbox <- suppressWarnings(system2("sed", c("--sandbox", "p"), input = "x", stdout = FALSE, stderr = FALSE)) == 0
  skip_if_not(has_sandbox, "sed is not GNU's")
  agent <- local_agent(env = env)
  deploy_quietly(system.file("examples/functions/functions.yaml", package = "faucet", mustWork = TRUE))
  agent
}

walk <- c(
  "sed e=s/hate/love/ | to-upper" = "I LOVE THIS",
  "sed(e = 's/I hate/You love/', n = 3) | to_upper" = "YOU LOVE THIS",
  "sed-command e=s/hate/love/ | to-upper-command" = "I LOVE THIS",
  "sed e=s/hate/love/ | to-upper-command" = "I LOVE THIS",
  "echo-r | echo-shell | echo-python" = "I hate this",
  "echo-python | sed e=s/hate/love/ | echo-r | to-upper | echo-shell" = "I LOVE THIS"
)

test_that("the walk-through does what it says, by R, curl, the program and gRPC", {
  skip_on_cran()
  local_walk()
  for (chain in names(walk)) {
    expect_identical(invoke(chain, "I hate this"), walk[[chain]], info = chain)
    for (http in 1:2) expect_identical(curl_chain(chain, "I hate this", http = http)$text, walk[[chain]], info = chain)
  }
  shown <- names(walk)[c(1, 5)]
  for (chain in shown) {
    done <- run_cli("invoke", chain, input = "I hate this\n")
    expect_identical(done[c("status", "stdout", "stderr")], list(status = 0L, stdout = walk[[chain]], stderr = character()))
  }
  error <- expect_error(invoke("echo-r | sed e=nonsense", "x"), class = "faucet_invoke_error")
  expect_identical(error[c("stage", "function", "status")], list(stage = 2L, `function` = "sed", status = 500L))
  expect_match(error$error, "must be like s/hate/love/", fixed = TRUE)

  python <- test_path("..", "..", ".build", "grpc", "bin", "python")
  skip_if_not(file.exists(python), "grpcio is not installed: tools/test-grpc installs it")
  client <- system.file("examples/functions/client.py", package = "faucet", mustWork = TRUE)
  for (chain in shown) {
    file <- withr::local_tempfile()
    cat("I hate this", file = file)
    done <- processx::run(
      file.path(normalizePath(dirname(python)), "python"), c(client, chain), stdin = file, error_on_status = FALSE,
      env = c("current", FAUCET_TO = getOption("faucet.to"), LD_LIBRARY_PATH = "", PYTHONDONTWRITEBYTECODE = "1")
    )
    expect_identical(done[c("status", "stdout")], list(status = 0L, stdout = walk[[chain]]), info = paste(chain, done$stderr))
  }
})

test_that("values have between two stages the type that the first gives them", {
  skip_on_cran()
  local_agent()
  deploy_quietly(at_top(function(x) stats::setNames(list(mean(x$mpg), nrow(x)), c("mean", "rows"))), "summarise")
  deploy_quietly(at_top(function(x, by = "gear", value = 4) x[x[[by]] == value, ]), "choose")
  deploy_quietly(at_top(function(x) paste(typeof(x), names(x))), "tell")
  expect_equal(invoke("choose(value = 3) | summarise", mtcars), list(mean = mean(mtcars$mpg[mtcars$gear == 3]), rows = 15L))
  expect_identical(invoke("summarise | tell", mtcars), c("list mean", "list rows"))
  # CSV stays CSV, also through what only passes it on.
  deploy_stages()
  deploy_quietly(command = "cat", name = "cat")
  csv <- charToRaw(paste(c("mpg,gear", "20,4", "30,4", "10,3", ""), collapse = "\n"))
  expect_equal(invoke("choose | summarise", csv, type = "text/csv"), list(mean = 25, rows = 2L))
  expect_identical(invoke("choose | echo | cat", csv, type = "text/csv"), data.frame(mpg = c(20L, 30L), gear = c(4L, 4L)))
  expect_equal(invoke("cat | choose | cat | summarise", mtcars), list(mean = mean(mtcars$mpg[mtcars$gear == 4]), rows = 12L))
})

test_that("what is wrong is told before anything runs", {
  skip_on_cran()
  local_agent()
  ran <- withr::local_tempfile()
  deploy_quietly(at_top(function(x, file, n = 1L) file.create(file)), "touch")
  fails <- function(chain) {
    error <- expect_error(invoke(gsub("FILE", ran, chain, fixed = TRUE), "x"), class = "faucet_invoke_error")
    expect_false(file.exists(ran))
    error
  }
  error <- fails("touch(file = 'FILE') | nosuch")
  expect_identical(error[c("status", "cause", "stage", "function")], list(
    status = 404L, cause = "no_function", stage = 2L, `function` = "nosuch"
  ))
  error <- fails("touch(file = 'FILE') | touch(file = 'FILE', n = 'many')")
  expect_identical(error[c("status", "cause", "stage", "option")], list(
    status = 400L, cause = "bad_option", stage = 2L, option = "n"
  ))
  expect_identical(fails("touch(file = 'FILE') | | touch")$cause, "bad_chain")
  expect_identical(fails("touch file=FILE | http://example.org/")$cause, "bad_chain")
})

test_that("a stage that fails before the first byte is named, and sets all workers free", {
  skip_on_cran()
  agent <- local_agent()
  deploy_stages(chains = 2)
  expect_free(agent)
  expected <- list(
    error = list(status = 500L, error = "no such luck"),
    crash = list(status = 502L, error = "the worker died"),
    loop = list(status = 504L, error = "did not answer in time")
  )
  for (how in names(expected)) for (stage in 1:3) {
    chain <- chain_with_bad(stage, how = how)
    started <- start_both(chain, "some text", timeout = if (how == "loop") 1 else 60)
    for (done in lapply(started, function(one) one$end())) {
      info <- paste(how, stage)
      expect_identical(done[c("exit", "status")], list(exit = 0L, status = expected[[how]]$status), info = info)
      expect_identical(done$json[c("stage", "function")], list(stage = stage, `function` = "bad"), info = info)
      expect_match(done$json$error, expected[[how]]$error, info = info)
      expect_true(nzchar(done$json$call_id), info = info)
    }
    expect_free(agent)
  }
})

test_that("a stage that fails after the first byte breaks the answer off, and sets all workers free", {
  skip_on_cran()
  agent <- local_agent()
  deploy_stages(chains = 2)
  expect_free(agent)
  for (how in c("error", "crash", "loop")) for (stage in 1:3) {
    info <- paste(how, stage)
    when <- withr::local_tempfile()
    chain <- chain_with_bad(stage, how = how, when = when)
    started <- start_both(chain, "some text", timeout = if (how == "loop") 2 else 60)
    wait_until(all(vapply(started, function(one) one$has_begun(), NA)), what = "the first byte")
    file.create(when)
    done <- lapply(started, function(one) one$end())
    # Of HTTP/1.1, a part of the body; of HTTP/2, a stream that was reset.
    expect_identical(vapply(done, `[[`, 1L, "exit"), c(18L, 92L), info = info)
    for (one in done) expect_identical(one[c("status", "text")], list(status = 200L, text = "some text"), info = info)
    expect_free(agent)
  }
  # With `buffer`, all or nothing.
  for (stage in 1:3) {
    done <- curl_chain(chain_with_bad(stage, how = "error", when = when), "some text", buffer = 1)
    expect_identical(done[c("exit", "status")], list(exit = 0L, status = 502L))
    expect_identical(done$json[c("stage", "function")], list(stage = stage, `function` = "bad"))
  }
  expect_free(agent)
})

test_that("a client that leaves ends each stage, and sets all workers free", {
  skip_on_cran()
  agent <- local_agent()
  deploy_stages(chains = 2)
  expect_free(agent)
  never <- file.path(withr::local_tempdir(), "never")
  for (stage in 1:3) {
    started <- start_both(chain_with_bad(stage, how = "loop"), "some text")
    wait_until(sum(with(agent$status(), state == "busy" & pool == "/functions/bad")) == 2, what = "two that loop")
    for (one in started) one$leave()
    expect_free(agent)
    started <- start_both(chain_with_bad(stage, how = "loop", when = never), "some text")
    wait_until(all(vapply(started, function(one) one$has_begun(), NA)), what = "the first byte")
    for (one in started) one$leave()
    expect_free(agent)
  }
})

test_that("who reads what breaks off is told so, and may say it in its own words", {
  skip_on_cran()
  local_agent()
  deploy_quietly(command = c("sh", "-c", "cat; sleep 0.2; exit 3"), name = "breaks")
  sees <- function(input, output) {
    tryCatch(
      while (!is.null(piece <- input$read())) output$write(piece),
      faucet_error_input_failed = function(error) message("seen: ", conditionMessage(error))
    )
  }
  deploy_quietly(at_top(sees), "sees", stream = TRUE)
  # Though it goes on as if nothing were.
  expect_error(invoke("breaks | sees", "some text"), class = "faucet_error_answer")
  wait_until(any(grepl("seen: The input has broken off", function_logs("sees"), fixed = TRUE)), what = "the message")
})

test_that("R that collects its input has all of it, or the call fails: it is never cut", {
  skip_on_cran()
  local_agent()
  deploy_stages()
  deploy_quietly(at_top(function(x) nchar(x)), "count", max_body = 100000)
  deploy_quietly(at_top(function(x, n) strrep(x, n)), "repeat")
  expect_equal(invoke("echo | repeat(n = 100000) | echo | count", "x"), 100000)
  error <- expect_error(invoke("echo | repeat(n = 100001) | echo | count", "x"), class = "faucet_invoke_error")
  expect_identical(error[c("status", "cause", "stage", "function")], list(
    status = 413L, cause = "body_too_large", stage = 4L, `function` = "count"
  ))
  # What is there at once is as large as what comes.
  deploy_quietly(at_top(function(x) nchar(x)), "tiny", max_body = 10)
  expect_equal(invoke("repeat(n = 10) | tiny", "x"), 10)
  error <- expect_error(invoke("repeat(n = 11) | tiny", "x"), class = "faucet_invoke_error")
  expect_identical(error[c("status", "cause", "stage")], list(status = 413L, cause = "body_too_large", stage = 2L))
})

test_that("a deadline is the chain's, whatever its stages have done with it", {
  skip_on_cran()
  agent <- local_agent()
  deploy_stages()
  deploy_quietly(at_top(function(x) as.numeric(Sys.time())), "now")
  expect_free(agent)
  done <- curl_chain("echo | bad(how = loop) | now", "x", headers = "Faucet-Deadline: 1")
  expect_identical(done$status, 504L)
  error <- expect_error(invoke("echo | bad how=loop", "x", timeout = 1), class = "faucet_invoke_error")
  expect_identical(error[c("status", "stage", "function")], list(status = 504L, stage = 2L, `function` = "bad"))
  expect_s3_class(error, "faucet_error_invoke_timeout")
  wait_until(all(agent$status()$state == "ready"), what = "every worker to be free")
})

test_that("whoever reads no more ends an endless stream, and nothing is left running", {
  skip_on_cran()
  agent <- local_agent()
  deploy_stages()
  pids <- withr::local_tempfile()
  deploy_quietly(command = c("sh", "-c", paste0("echo $$ >> '", pids, "'; exec cat")), name = "cat", workers = c(0, 2))
  for (chain in c("echo | echo", "cat | cat", "echo | cat | echo")) {
    shell <- local_shell(paste0("yes | faucet invoke '", chain, "' | head -c 1000000 | wc -c; echo ${PIPESTATUS[@]:1:2}"))
    expect_identical(wait_for_exit(shell), 0L)
    expect_identical(trimws(shell$lines()), c("1000000", "141 0"), info = chain)
    wait_until(all(agent$status()$state == "ready"), what = "every worker to be free")
  }
  wait_until_gone(as.integer(readLines(pids)))
  expect_free(agent)
})

test_that("memory stays flat however much flows through R", {
  skip_on_cran()
  skip_if_not(file.exists("/proc/self/clear_refs"), "Linux tells how much memory a process has had")
  agent <- local_agent()
  deploy_stages(chains = 2)
  big <- withr::local_tempfile()
  writeBin(as.raw(seq_len(2^20) %% 251), big)
  megabyte <- readBin(big, "raw", 2^20)
  connection <- file(big, "ab")
  for (i in 2:64) writeBin(megabyte, connection)
  close(connection)
  answer <- withr::local_tempfile()
  # R takes its share of memory before it begins to collect what it needs no more.
  invoke("echo | echo | echo", file(big), output = answer)
  processes <- c(agent$status()$pid, Sys.getpid())
  forget_peaks(processes)
  before <- peaks(processes)
  invoke("echo | echo | echo", file(big), output = answer)
  expect_true(all(processes %in% c(agent$status()$pid, Sys.getpid())))
  expect_identical(unname(tools::md5sum(answer)), unname(tools::md5sum(big)))
  expect_lt(max(peaks(processes) - before), 32 * 2^20)
})
