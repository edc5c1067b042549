skip_on_os("windows")

# Who serves in a worker: faucet itself, or what the app starts.

rook_app <- function(extra = NULL, port = "as.integer(Sys.getenv(\"FAUCET_PORT\"))") {
  c(
    sprintf("httpuv::runServer(\"127.0.0.1\", %s, list(", port),
    "  call = function(req) list(status = 200L, headers = list(), body = \"answered\")",
    extra,
    "))"
  )
}

plumber_app <- c("#* @get /", "#* @serializer text", "function() \"answered\"")

# httpuv::startServer(), as plumber2 does it.
started_app <- c(
  "app <- list(call = function(req) list(status = 200L, headers = list(), body = \"answered\"))",
  "httpuv::startServer(\"127.0.0.1\", as.integer(Sys.getenv(\"FAUCET_PORT\")), app)",
  "while (TRUE) later::run_now(0.1)"
)

# Not httpuv at all.
socket_app <- c(
  "listener <- serverSocket(as.integer(Sys.getenv(\"FAUCET_PORT\")))",
  "repeat {",
  "  connection <- socketAccept(listener, blocking = TRUE, open = \"r+b\")",
  "  while (length(line <- readLines(connection, n = 1)) > 0 && nzchar(line)) NULL",
  "  answer <- \"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: 8\\r\\n\\r\\nanswered\"",
  "  try(writeLines(answer, connection, sep = \"\"))",
  "  close(connection)",
  "}"
)

static_app <- c("dir.create(\"www\", showWarnings = FALSE)", rook_app("  , staticPaths = list(\"/static\" = \"www\")"))
socket_opened_app <- rook_app("  , onWSOpen = function(ws) ws$close()")

native_apps <- list(
  "plumber.R" = list("plumber.R" = plumber_app),
  "a router that entrypoint.R returns" = list(
    "entrypoint.R" = "pr() %>% pr_get(\"/\", function() \"answered\", serializer = serializer_text())"
  ),
  "a router that entrypoint.R runs" = list("entrypoint.R" = c(
    "router <- pr_get(pr(), \"/\", function() \"answered\", serializer = serializer_text())",
    "pr_run(router, port = as.integer(Sys.getenv(\"FAUCET_PORT\")), quiet = TRUE)"
  )),
  "a router's own run()" = list(
    "api.R" = plumber_app,
    "entrypoint.R" = "plumb(\"api.R\")$run(port = as.integer(Sys.getenv(\"FAUCET_PORT\")), quiet = TRUE, docs = FALSE)"
  ),
  "httpuv::runServer()" = list("entrypoint.R" = rook_app()),
  "a router that entrypoint.R runs on no port" = list(
    "entrypoint.R" = "pr_run(pr_get(pr(), \"/\", function() \"answered\", serializer = serializer_text()))"
  )
)

# What cannot be native, and what of the reason is told.
other_apps <- list(
  "httpuv::startServer()" = list(app = started_app, why = "serves TCP itself"),
  "WebSockets" = list(app = socket_opened_app, why = "WebSockets"),
  "static paths" = list(app = static_app, why = "static paths"),
  "a server of its own" = list(app = socket_app, why = "serves TCP itself")
)

for (name in names(native_apps)) {
  test_that(paste(name, "is served by faucet itself, unless http is asked for"), {
    dir <- do.call(local_code, native_apps[[name]])
    # Whatever the suite's own setting is.
    for (worker in c("auto", "native", "http")) {
      server <- local_server(dir, workers = 1, worker_type = worker)
      expect_identical(request(server, "/")$text, "answered")
      expect_identical(type_of(server), if (worker == "http") "http" else "native")
      server$stop()
    }
  })
}

for (name in names(other_apps)) {
  test_that(paste("an app with", name, "is served by itself"), {
    server <- local_server(local_code("entrypoint.R" = other_apps[[name]]$app), workers = 1, worker_type = "auto")
    expect_identical(request(server, "/")$text, "answered")
    expect_identical(type_of(server), "http")
  })

  test_that(paste("an app with", name, "says why it cannot be native"), {
    dir <- local_code("entrypoint.R" = other_apps[[name]]$app)
    error <- expect_error(local_server(dir, workers = 1, worker_type = "native"), class = "faucet_error_boot")
    expect_match(conditionMessage(error), other_apps[[name]]$why, fixed = TRUE)
  })
}

# As most scripts end that were written for one process.
legacy_app <- function(port) {
  sprintf("pr_run(pr_get(pr(), \"/\", function() \"answered\", serializer = serializer_text()), port = %dL)", port)
}

test_that("an app that runs its server on another port is served all the same, and one line says so", {
  port <- httpuv::randomPort()
  for (preload in c(FALSE, TRUE)) {
    dir <- local_code("entrypoint.R" = legacy_app(port))
    started <- from_start_until(
      local_server(dir, workers = 2, worker_type = "native", preload = preload, quiet = FALSE),
      "worker [12] is ready"
    )
    server <- started$server
    expect_identical(request(server, "/")$text, "answered")
    lines <- grep("is ignored", c(started$lines, messages_of(wait_for_workers(server, 2))), value = TRUE)
    expect_length(lines, 1)
    expect_match(lines, paste0("asks for, ", port, ", is ignored"), fixed = TRUE)
    expect_match(lines, paste("listens on port", sub(".*:", "", server$url)), fixed = TRUE)
    server$stop()
  }
})

test_that("plumber's words of addresses where nobody listens are not shown, and others' are", {
  dir <- local_code("entrypoint.R" = c("message(\"Running an app\")", legacy_app(httpuv::randomPort())))
  start <- function() local_server(dir, workers = 1, worker_type = "native", quiet = FALSE, env = env)
  env <- environment()
  lines <- from_start_until(start(), "is ignored")$lines
  expect_true("[worker 1] Running an app" %in% lines)
  expect_false(any(grepl("Running plumber|__docs__", grep("^\\[worker", lines, value = TRUE))))
})

test_that("an app that takes WebSockets is run on FAUCET_PORT, whatever port it asks for", {
  port <- httpuv::randomPort()
  app <- rook_app("  , onWSOpen = function(ws) ws$close()", port = paste0(port, "L"))
  server <- local_server(local_code("entrypoint.R" = app), workers = 1, worker_type = "auto")
  expect_identical(request(server, "/")$text, "answered")
  expect_identical(type_of(server), "http")
})

test_that("an app with a server on FAUCET_PORT may run another one on another port", {
  port <- httpuv::randomPort()
  other <- "list(call = function(req) list(status = 200L, headers = list(), body = \"other\"))"
  app <- c(started_app[1:2], sprintf("httpuv::runServer(\"127.0.0.1\", %dL, %s)", port, other))
  server <- local_server(local_code("entrypoint.R" = app), workers = 1, worker_type = "auto")
  expect_identical(type_of(server), "http")
  expect_identical(request(server, "/")$text, "answered")
  expect_identical(readLines(paste0("http://127.0.0.1:", port), warn = FALSE), "other")
})

test_that("a worker of type http that listens elsewhere does not start, and the error says where it does", {
  skip_on_os(c("mac", "solaris"))
  port <- httpuv::randomPort()
  dir <- local_code("entrypoint.R" = legacy_app(port))
  error <- expect_error(
    local_server(dir, workers = 1, worker_type = "http", boot_timeout = 5), class = "faucet_error_boot"
  )
  expect_match(conditionMessage(error), paste0("listens on 127.0.0.1:", port), fixed = TRUE)
  expect_match(conditionMessage(error), "as.integer(Sys.getenv(\"FAUCET_PORT\"))", fixed = TRUE)
})

test_that("workers are native by default", {
  withr::local_envvar(FAUCET_WORKER_TYPE = NA)
  server <- local_server(local_app("basic"), workers = 2)
  expect_identical(type_of(server), c("native", "native"))
})

test_that("exit hooks and .Last run when a native worker is stopped", {
  dir <- local_app("hooks")
  server <- local_server(dir, workers = 2, worker_type = "native")
  pids <- wait_for_workers(server, 2)$pid
  server$stop()
  expect_setequal(list.files(dir, "^exit-ended-"), paste0("exit-ended-", pids))
  expect_setequal(list.files(dir, "^last-"), paste0("last-", pids))
  expect_false(any(is_alive(pids)))
})

test_that("nothing of a native worker is left in the file system", {
  dir <- local_code("plumber.R" = c("#* @get /socket", "#* @serializer text", "function() Sys.getenv(\"FAUCET_SOCKET\")"))
  server <- local_server(dir, workers = 1, worker_type = "native")
  socket <- request(server, "/socket")$text
  expect_true(file.exists(socket))
  expect_identical(format(file.mode(dirname(socket))), "700")
  expect_identical(format(file.mode(c(socket, paste0(socket, ".control")))), c("600", "600"))
  server$stop()
  expect_false(file.exists(dirname(socket)))
})

test_that("warnings and errors of handlers are shown with the worker's number", {
  dir <- local_code("plumber.R" = c(
    "#* @get /warn", "function() { warning(\"be warned\"); 1 }", "#* @get /fail", "function() stop(\"failed on purpose\")"
  ))
  server <- suppressMessages(local_server(dir, workers = 1, worker_type = "native", quiet = FALSE))
  expect_identical(request(server, "/warn")$status, 200L)
  expect_identical(request(server, "/fail")$status, 500L)
  lines <- messages_until(server, any(grepl("be warned", seen)) && any(grepl("failed on purpose", seen)))
  expect_match(grep("be warned|failed on purpose", lines, value = TRUE), "^\\[worker 1\\] ")
})

test_that("an error of a handler is told with its request", {
  code <- c("#* @get /fail", "function() stop(\"failed on purpose\")", "#* @get /ok", "function() 1")
  mounted <- c("root <- pr_get(pr(), \"/fail\", function() stop(\"failed on purpose\"))", "pr_mount(pr(), \"/sub\", root)")
  by_hand <- c("pr_set_error(pr_get(pr(), \"/fail\", function() stop(\"failed on purpose\")),", "function(req, res, err) {",
    "print(\"my own words\")", "res$status <- 500L", "list() })")
  seen <- function(what, path, pattern = "failed on purpose", ...) {
    server <- suppressMessages(local_server(what, workers = 1, quiet = FALSE, ..., env = env))
    answer <- request(server, path, headers = list(`X-Request-Id` = "the-id"))
    expect_identical(answer$status, 500L)
    line <- grep(pattern, messages_until(server, any(grepl(pattern, seen))), value = TRUE)
    expect_length(line, 1)
    line
  }
  env <- environment()
  withr::local_options(faucet.worker_type = "native")
  expect_match(
    seen(local_code("plumber.R" = code), "/fail"),
    "[worker 1] error in GET /fail (request the-id): <simpleError in ", fixed = TRUE
  )
  head <- "error in GET /sub/fail (request the-id): <simpleError"
  expect_match(seen(local_code("entrypoint.R" = mounted), "/sub/fail", preload = TRUE), head, fixed = TRUE)
  router <- plumber::pr_get(plumber::pr(), "/fail", function() stop("failed on purpose"))
  pool <- list("/pool" = faucet::pool(app = router))
  expect_match(seen(pool, "/pool/fail"), "error in GET /pool/fail (request the-id): <simpleError", fixed = TRUE)
  fun <- list("/" = faucet::pool(app = function(req) stop("failed on purpose")))
  expect_match(seen(fun, "/a%0Ab"), "error in GET /a", fixed = TRUE)
  expect_no_match(seen(local_code("entrypoint.R" = by_hand), "/fail", "my own words"), "error in")
})
