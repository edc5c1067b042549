skip_on_os(c("windows", "mac"))

# Sockets that systemd opens, and what it is told: by its own tool for trying services without it. What is told and when,
# `src/rust/core/tests/notify.rs` tests.

skip_if(!nzchar(Sys.which("systemd-socket-activate")), "systemd-socket-activate is not here")

# A server that is started at the first connection to one of `sockets`, by their names.
local_service <- function(dir, sockets, ..., env_vars = character(), env = parent.frame()) {
  inherited <- c("R_LIBS", "R_TESTS", "PATH", "HOME", "TMPDIR", names(env_vars))
  prefix <- c(
    Sys.which("systemd-socket-activate"), paste0("--setenv=", inherited), paste0("--listen=", sockets),
    paste0("--fdname=", paste(names(sockets), collapse = ":"))
  )
  code <- sprintf("faucet::run(\"%s\", workers = 1, port = 1, access_log = \"none\")", dir)
  service <- local_rscript(code, prefix = unname(prefix), env_vars = env_vars, env = env)
  wait_until(sum(grepl("^Listening on ", service$stderr())) == length(sockets), what = "systemd's sockets")
  service
}

over <- function(socket, path) {
  request("http://localhost", path, unix_socket_path = socket)
}

test_that("a server listens on what systemd has opened, and leaves it", {
  dir <- withr::local_tempdir(pattern = "s")
  socket <- file.path(dir, "app.sock")
  port <- httpuv::randomPort()
  app <- local_code("plumber.R" = c(
    "#* @get /told", "#* @serializer unboxedJSON",
    "function() list(",
    "  names = grep(\"^(LISTEN_|NOTIFY_|WATCHDOG_)\", names(Sys.getenv()), value = TRUE),",
    "  port = Sys.getenv(\"FAUCET_SERVER_PORT\")",
    ")"
  ))
  service <- local_service(app, c(web = socket, admin = paste0("127.0.0.1:", port)))
  told <- json(over(socket, "/told"))
  # Neither the socket of another nor its name reaches a worker.
  expect_length(told$names, 0)
  expect_identical(told$port, "80")
  expect_identical(request(paste0("http://127.0.0.1:", port), "/status")$status, 200L)
  lines <- service$stderr()
  expect_match(lines, paste0("listens on unix:", socket, ", which systemd has opened"), fixed = TRUE, all = FALSE)
  expect_match(lines, "the admin port is one that systemd has opened", fixed = TRUE, all = FALSE)
  expect_match(lines, paste0("Ready on unix:", socket), fixed = TRUE, all = FALSE)
  service$process$signal(sig[["term"]])
  expect_identical(wait_for_exit(service), 0L)
  # It is systemd's.
  expect_true(file.exists(socket))
})

test_that("variables that are for another process count for nothing", {
  withr::local_envvar(LISTEN_PID = "1", LISTEN_FDS = "1", WATCHDOG_PID = "1", WATCHDOG_USEC = "1")
  server <- local_server(local_app("basic"), workers = 1)
  expect_match(server$url, "^http://127.0.0.1:")
})

test_that("what systemd passes and nobody can listen on is an error", {
  code <- "Sys.setenv(LISTEN_PID = Sys.getpid(), LISTEN_FDS = 1); faucet::run(\"%s\", port = 0)"
  dir <- local_app("basic")
  # Rscript has its standard streams alone, or a file of R's at this place.
  front <- local_rscript(sprintf(code, dir), prefix = c("sh", "-c", "exec \"$@\" 3<&-", "sh"))
  expect_gt(wait_for_exit(front), 0L)
  expect_match(paste(front$stderr(), collapse = "\n"), "Cannot listen on the socket number 1 that systemd passes")
})

test_that("nobody at NOTIFY_SOCKET is said once, and all goes on", {
  withr::local_envvar(NOTIFY_SOCKET = file.path(withr::local_tempdir(), "none"))
  seen <- messages_of({
    server <- local_server(local_app("basic"), workers = 1, quiet = FALSE)
    server$reload()
  })
  expect_identical(sum(grepl("systemd cannot be told", seen)), 1L)
  expect_identical(request(server, "/openapi.json")$status, 200L)
})
