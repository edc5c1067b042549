# The program `faucet` of the package that is tested.

cli_program <- function() {
  system.file("exec", "faucet", package = "faucet", mustWork = TRUE)
}

# What its process needs: the R of this session, and its packages.
cli_env <- function(...) {
  c(
    "current", PATH = paste(R.home("bin"), Sys.getenv("PATH"), sep = .Platform$path.sep),
    R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep), R_TESTS = "", FAUCET_TO = getOption("faucet.to", ""), ...
  )
}

# Runs it to its end: `status`, `stdout` and `stderr`, lines each. `input` is a text, or the path of a file.
run_cli <- function(..., input = "", env = character(), wd = NULL) {
  file <- input
  if (!file.exists(input)) {
    file <- withr::local_tempfile()
    cat(input, file = file)
  }
  done <- processx::run(
    cli_program(), c(...), error_on_status = FALSE, stdin = file, env = cli_env(env), timeout = 120, wd = wd
  )
  lines <- function(text) if (nzchar(text)) strsplit(sub("\n$", "", text), "\n", fixed = TRUE)[[1]] else character()
  list(status = done$status, stdout = lines(done$stdout), stderr = lines(done$stderr), text = done$stdout)
}

# Runs a line of shell with `faucet` in it, in a process group of its own. Returns its process.
local_shell <- function(line, env = parent.frame()) {
  dir <- withr::local_tempdir(pattern = "path-", .local_envir = env)
  file.symlink(cli_program(), file.path(dir, "faucet"))
  variables <- cli_env()
  variables[["PATH"]] <- paste(dir, variables[["PATH"]], sep = .Platform$path.sep)
  out <- withr::local_tempfile(.local_envir = env)
  process <- processx::process$new("bash", c("-c", line), stdout = out, stderr = "2>&1", env = variables, cleanup_tree = TRUE)
  withr::defer(if (process$is_alive()) process$kill_tree(), envir = env)
  list(process = process, lines = function() readLines(out, warn = FALSE))
}
