# Workers in Python that dial in to a hub.

# R's own libraries come first in its environment, one of Python among them, perhaps.
local_python <- function(python, arguments, wd = ".", env_vars = character(), env = parent.frame()) {
  files <- withr::local_tempfile(.local_envir = env)
  dir.create(files)
  process <- processx::process$new(
    python, arguments,
    wd = wd, stdout = file.path(files, "stdout"), stderr = file.path(files, "stderr"),
    env = c("current", LD_LIBRARY_PATH = "", PYTHONUNBUFFERED = "1", PYTHONDONTWRITEBYTECODE = "1", env_vars)
  )
  withr::defer(
    {
      process$kill()
      unlink(files, recursive = TRUE)
    },
    envir = env
  )
  list(process = process, pid = process$get_pid(), stderr = function() readLines(file.path(files, "stderr"), warn = FALSE))
}

# The worker that `inst/protocol/slot.md` has for an example.
local_slot_worker <- function(hub, ..., token = "", env = parent.frame()) {
  skip_if_not(nzchar(Sys.which("python3")), "python3 is not installed")
  file <- system.file("protocol", "worker.py", package = "faucet", mustWork = TRUE)
  local_python("python3", c(file, hub$worker_address, ...), env_vars = c(FAUCET_TOKEN = token), env = env)
}

# An unmodified worker of POTHEAD, for the app in `apps/pothead`.
local_pothead <- function(hub, ..., env_vars = character(), env = parent.frame()) {
  python <- test_path("..", "..", ".build", "pothead", "bin", "python")
  skip_if_not(file.exists(python), "POTHEAD is not installed: tools/pothead installs it")
  python <- file.path(normalizePath(dirname(python)), "python")
  arguments <- c("-m", "pothead.worker", "--connect", pothead_address(hub), ..., "api:app")
  # It would wait a second between two requests.
  env_vars <- c(LOAD_BALANCER_CONNECTION_DELAY_BASE = "0", env_vars)
  local_python(python, arguments, wd = test_path("apps", "pothead"), env_vars = env_vars, env = env)
}

pothead_address <- function(hub) {
  line <- grep("POTHEAD at", cli::ansi_strip(format(hub)), value = TRUE)
  sub("^.*POTHEAD at ([^ ,]+).*$", "\\1", line)
}
