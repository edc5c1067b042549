skip_on_os(c("windows", "mac"))

# Workers of an agent's functions are forked from its template.

local_agent <- function(..., env = parent.frame()) {
  # Where another user can come to.
  state <- withr::local_tempdir(tmpdir = "/tmp", .local_envir = env)
  server <- faucet::run_agent(port = 0, state_dir = state, block = FALSE, quiet = TRUE, access_log = "none", ...)
  withr::defer(suppressMessages(try(server$stop(timeout = 1), silent = TRUE)), envir = env)
  server
}

# Where other users can read it.
local_folder <- function(files, env = parent.frame()) {
  folder <- withr::local_tempdir(tmpdir = "/tmp", .local_envir = env)
  Sys.chmod(folder, "755", use_umask = FALSE)
  for (name in names(files)) writeLines(files[[name]], file.path(folder, name))
  folder
}

deploy_folder <- function(server, name, folder, ...) {
  definition <- jsonlite::toJSON(list(name = name, dir = folder, ...), auto_unbox = TRUE)
  answer <- jsonlite::fromJSON(request(server, "/deploy?wait=60", "POST", definition)$text)
  expect_identical(answer$status, "deployed", info = paste(answer$message, answer$lines))
}

call_text <- function(server, path, body = NULL) {
  request(server, paste0("/functions/", path), if (is.null(body)) "GET" else "POST", body, type = "text/plain")$text
}

code_of_f <- c(
  "f <- function(x = \"nothing\", what = \"x\") {",
  "  switch(what,",
  "    x = x, forked = Sys.getenv(\"FAUCET_FORK\"), user = Sys.info()[[\"user\"]],",
  "    loaded = as.character(isNamespaceLoaded(\"stats4\")), later = as.character(isNamespaceLoaded(\"later\")),",
  "    file = {",
  "      cat(\"kept\", file = file <- tempfile())",
  "      readLines(file, warn = FALSE)",
  "    }",
  "  )",
  "}"
)

# Until the template has loaded, workers are ordinary processes: then another version gets another worker.
wait_for_fork <- function(server, name, folder) {
  wait_until(
    {
      forked <- call_text(server, paste0(name, "?what=forked")) == "true"
      if (!forked) deploy_folder(server, name, folder, filePath = "f.R")
      forked
    },
    what = "a worker to be forked"
  )
}

test_that("a function's worker is forked into its own folder, with packages that are loaded", {
  server <- local_agent(packages = "stats4")
  folder <- local_folder(list("f.R" = code_of_f))
  deploy_folder(server, "f", folder, filePath = "f.R")
  wait_for_fork(server, "f", folder)
  expect_identical(call_text(server, "f?what=loaded"), "TRUE")
  # What no function has asked for would keep its first call waiting. By now R has looked for what there is to do.
  expect_identical(call_text(server, "f?what=later"), "FALSE")
  expect_identical(call_text(server, "f?what=x", "given"), "given")
  expect_identical(call_text(server, "f?what=file"), "kept")
})

test_that("so is the worker of a whole API", {
  server <- local_agent()
  folder <- local_folder(list("f.R" = code_of_f))
  deploy_folder(server, "f", folder, filePath = "f.R")
  wait_for_fork(server, "f", folder)
  api <- c("#* @get /forked", "#* @serializer text", "function() Sys.getenv(\"FAUCET_FORK\")")
  deploy_folder(server, "api", local_folder(list("plumber.R" = api)))
  expect_identical(call_text(server, "api/forked"), "true")
})

test_that("a function runs as another user, forked or not", {
  skip_if_not(Sys.info()[["effective_user"]] == "root", "only root can run functions as somebody else")
  server <- local_agent(run_as = "nobody")
  folder <- local_folder(list("f.R" = code_of_f))
  deploy_folder(server, "f", folder, filePath = "f.R")
  expect_identical(call_text(server, "f?what=user"), "nobody")
  wait_for_fork(server, "f", folder)
  expect_identical(call_text(server, "f?what=user"), "nobody")
  expect_identical(call_text(server, "f?what=file"), "kept")
  # Longer than what is passed in memory.
  long <- strrep("0123456789", 3e5)
  expect_identical(call_text(server, "f?what=x", long), long)
  # What is uploaded is in the agent's own folder.
  user <- function(x) unname(Sys.info()[["effective_user"]])
  faucet::deploy(user, name = "g", to = server$url, quiet = TRUE)
  expect_identical(faucet::invoke("g", 1, to = server$url), "nobody")
})

test_that("a user that cannot come to the agent's folder is named before anything starts", {
  skip_if_not(Sys.info()[["effective_user"]] == "root", "only root can run functions as somebody else")
  closed <- withr::local_tempdir()
  Sys.chmod(closed, "700", use_umask = FALSE)
  start <- function(...) faucet::run_agent(port = 0, state_dir = file.path(closed, "state"), block = FALSE, quiet = TRUE, ...)
  expect_error(start(run_as = "nobody"), "user nobody cannot come to", class = "faucet_error_option")
  expect_error(start(run_as = "no-such-user"), "there is no user", class = "faucet_error_option")
})
