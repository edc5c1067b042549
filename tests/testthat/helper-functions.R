# Agents beside the test's session, and what is deployed to them.

# An agent with a folder of its own, which `to` leads to for as long as the test runs.
local_agent <- function(..., env = parent.frame()) {
  dir <- withr::local_tempdir(pattern = "agent-", .local_envir = env)
  agent <- faucet::run_agent(port = 0, state_dir = dir, block = FALSE, quiet = TRUE, access_log = "none", ...)
  withr::defer(suppressMessages(try(agent$stop(timeout = 1), silent = TRUE)), envir = env)
  withr::local_options(faucet.to = agent$url, .local_envir = env)
  agent
}

# deploy() without what it shows.
deploy_quietly <- function(...) {
  faucet::deploy(..., quiet = TRUE)
}

# A server whose answers the test makes up: `app` is a function of a request.
local_answers <- function(app, env = parent.frame(), ...) {
  server <- faucet::run(app = app, workers = 1, port = 0, block = FALSE, quiet = TRUE, access_log = "none", ...)
  withr::defer(suppressMessages(try(server$stop(timeout = 1), silent = TRUE)), envir = env)
  withr::local_options(faucet.to = server$url, .local_envir = env)
  server
}

# What users write is not in a package, as tests are.
at_top <- function(fun) {
  environment(fun) <- globalenv()
  fun
}
