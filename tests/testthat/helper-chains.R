# Chains, called as curl does, of functions that stream and of one that fails as it is told.

# `echo` has twice as many workers as `bad`: as many chains of three with it run at a time.
deploy_stages <- function(chains = 1) {
  echo <- function(input, output) {
    while (!is.null(piece <- input$read())) output$write(piece)
  }
  # Fails with its first input, or, if `when` is a file's path, behind that once there is such a file.
  bad <- function(input, output, how = "none", when = "") {
    fail <- function() {
      while (nzchar(when) && !file.exists(when)) Sys.sleep(0.01)
      switch(how,
        error = stop("no such luck"),
        crash = tools::pskill(Sys.getpid(), 9),
        loop = repeat Sys.sleep(0.01)
      )
    }
    while (!is.null(piece <- input$read())) {
      if (nzchar(when)) output$write(piece)
      fail()
      if (!nzchar(when)) output$write(piece)
    }
  }
  deploy_quietly(at_top(echo), "echo", stream = TRUE, workers = 2 * chains)
  deploy_quietly(at_top(bad), "bad", stream = TRUE, workers = chains)
}

chain_url <- function(chain, ..., agent = getOption("faucet.to")) {
  query <- c(list(chain = chain), list(...))
  pairs <- paste0(names(query), "=", vapply(query, function(value) utils::URLencode(format(value), reserved = TRUE), ""))
  paste0(agent, "/invoke?", paste(pairs, collapse = "&"))
}

# Begins to call a chain, as curl does. `input` is a text, or the path of a file. `$has_begun()`: the first byte of the answer is
# there. `$end()`: what has become of it: curl's exit code, the status, and the answer as a text and as what its JSON is.
start_chain <- function(chain, input, ..., http = 1, headers = character(), env = parent.frame()) {
  skip_if_not(nzchar(Sys.which("curl")), "curl is not installed")
  file <- input
  if (!file.exists(input)) {
    file <- withr::local_tempfile(.local_envir = env)
    cat(input, file = file)
  }
  answer <- withr::local_tempfile(.local_envir = env)
  process <- processx::process$new("curl", c(
    "-sS", "-N", if (http == 2) "--http2-prior-knowledge" else "--http1.1", "-H", "Content-Type: text/plain", "-H", "Expect:",
    if (length(headers) > 0) rbind("-H", headers), "--data-binary", paste0("@", file), "-o", answer, "-w", "%{http_code}",
    chain_url(chain, ...)
  ), stdout = "|", env = c("current", LD_LIBRARY_PATH = ""))
  withr::defer(process$kill(), envir = env)
  end <- function() {
    process$wait(120000)
    text <- if (file.exists(answer)) paste(readLines(answer, warn = FALSE), collapse = "\n") else ""
    list(
      exit = process$get_exit_status(), status = as.integer(process$read_all_output()), text = text,
      json = tryCatch(jsonlite::fromJSON(text), error = function(error) NULL)
    )
  }
  list(
    has_begun = function() !process$is_alive() || isTRUE(file.size(answer) > 0), end = end,
    leave = function() process$kill()
  )
}

curl_chain <- function(...) {
  start_chain(...)$end()
}

# Over HTTP/1.1, and over HTTP/2.
start_both <- function(..., env = parent.frame()) {
  lapply(1:2, function(http) start_chain(..., http = http, env = env))
}

# Until no worker has anything to do; then each answers again.
expect_free <- function(agent) {
  wait_until(all(agent$status()$state == "ready"), what = "every worker to be free")
  expect_identical(curl_chain("echo | bad | echo", "again")$text, "again")
}

# Where `bad` is in a chain of three, by its stage.
chain_with_bad <- function(stage, ...) {
  options <- list(...)
  stages <- rep("echo", 3)
  stages[[stage]] <- paste0("bad(", paste0(names(options), " = '", options, "'", collapse = ", "), ")")
  paste(stages, collapse = " | ")
}

# The most memory that processes have had since forget_peaks(), in bytes each.
peaks <- function(pids) {
  vapply(pids, function(pid) {
    line <- grep("^VmHWM", readLines(file.path("/proc", pid, "status")), value = TRUE)
    as.numeric(gsub("[^0-9]", "", line)) * 1024
  }, 1)
}

forget_peaks <- function(pids) {
  for (pid in pids) writeLines("5", file.path("/proc", pid, "clear_refs"))
}
