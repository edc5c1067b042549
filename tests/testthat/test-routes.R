skip_on_os("windows")

# What workers tell of the routes of their app: a plain one, and one behind a filter of its mount's own.
plain <- c("#* @get /plain", "#* @serializer text", "function() \"plain\"")
filtered <- paste(
  "plumber::pr_handle(plumber::pr_filter(plumber::pr(), \"own\", function() plumber::forward()),",
  "c(\"GET\", \"POST\"), \"/one\", function() 1)"
)
routed <- c(plain, "#* @plumber", paste0("function(pr) plumber::pr_mount(pr, \"/filtered\", ", filtered, ")"))

# Of an app that is no router.
rook_entrypoint <- c(
  "message(\"This is no router.\")",
  "httpuv::runServer(\"127.0.0.1\", 8000, list(call = function(req) list(status = 200L, headers = list(), body = \"x\")))"
)

local_routed <- function(env = parent.frame()) {
  withr::local_envvar(FAUCET_COMPILE = NA, .local_envir = env)
  local_code("plumber.R" = routed, env = env)
}

expect_routed <- function(routes, compiled = 1) {
  expect_s3_class(routes, c("faucet_routes", "data.frame"), exact = TRUE)
  expect_named(routes, c("method", "path", "compiled", "why"))
  expect_type(routes$method, "character")
  expect_type(routes$compiled, "logical")
  expect_setequal(routes$path, c("/plain", "/filtered/one"))
  expect_identical(sum(routes$compiled), as.integer(compiled))
  expect_identical(is.na(routes$why), routes$compiled)
}

test_that("a directory, a file and a router tell which of their routes are compiled", {
  dir <- local_routed()
  expect_routed(compiled_routes(dir))
  expect_routed(compiled_routes(file.path(dir, "plumber.R")))
  expect_routed(compiled_routes(plumber::plumb(file.path(dir, "plumber.R"))))
  expect_identical(compiled_routes(dir)$method[1], "GET")
})

test_that("an entrypoint's router is read as it is when it runs", {
  withr::local_envvar(FAUCET_COMPILE = NA)
  dir <- local_code("entrypoint.R" = c(
    "router <- pr_get(pr(), \"/plain\", function() \"answered\", serializer = serializer_text())",
    paste0("pr_run(pr_mount(router, \"/filtered\", ", filtered, "), port = 8000)")
  ))
  expect_routed(compiled_routes(dir))
})

test_that("a running server tells what its workers have told, and counts it", {
  server <- local_server(local_routed(), workers = 2, worker_type = "native", admin_port = 0)
  status <- wait_for_workers(server, 2)
  expect_identical(status$compiled, c("1 of 2", "1 of 2"))
  expect_routed(compiled_routes(server))
  pool <- jsonlite::fromJSON(request(server$admin_url, "/status")$text)$pools
  expect_identical(pool$compiled, 1L)
  expect_named(pool$routes[[1]], c("compiled", "method", "path", "why"), ignore.order = TRUE)
  expect_setequal(pool$routes[[1]]$path, c("/plain", "/filtered/one"))
})

test_that("forked workers tell it, too", {
  server <- local_server(local_routed(), workers = 2, worker_type = "native", preload = TRUE)
  expect_identical(wait_for_workers(server, 2)$compiled, c("1 of 2", "1 of 2"))
})

test_that("what is known follows the code", {
  dir <- local_routed()
  server <- local_server(dir, workers = 1, worker_type = "native")
  writeLines(plain, file.path(dir, "plumber.R"))
  server$reload()
  expect_identical(compiled_routes(server)$path, "/plain")
  writeLines(rook_entrypoint, file.path(dir, "entrypoint.R"))
  server$reload()
  expect_identical(wait_for_workers(server, 1)$compiled, NA_character_)
  expect_error(compiled_routes(server), class = "faucet_error_unsupported")
})

test_that("compile = FALSE reaches workers, as an argument, an option, or in the environment", {
  dir <- local_routed()
  counted <- function(...) {
    server <- local_server(dir, workers = 1, worker_type = "native", ...)
    on.exit(server$stop())
    wait_for_workers(server, 1)$compiled
  }
  expect_identical(counted(compile = FALSE), "0 of 2")
  expect_identical(counted(compile = FALSE, preload = TRUE), "0 of 2")
  expect_identical(withr::with_options(list(faucet.compile = FALSE), counted()), "0 of 2")
  expect_identical(withr::with_options(list(faucet.compile = FALSE), counted(compile = TRUE)), "1 of 2")
  withr::local_envvar(FAUCET_COMPILE = "false")
  expect_identical(counted(), "0 of 2")
  routes <- compiled_routes(dir)
  expect_routed(routes, 0)
  expect_identical(unique(routes$why), "compile = FALSE")
})

test_that("each of several pools has routes of its own", {
  server <- local_server(list("/a" = local_routed(), "/b" = pool(local_routed(), compile = FALSE)), workers = 1)
  status <- wait_for_workers(server, 2)
  skip_if_not(all(status$worker_type == "native"))
  expect_identical(status$compiled[match(c("/a", "/b"), status$pool)], c("1 of 2", "0 of 2"))
  expect_routed(compiled_routes(server, pool = "/a"))
  expect_routed(compiled_routes(server, pool = "/b"), 0)
  expect_identical(expect_error(compiled_routes(server), class = "faucet_error_option")$option, "pool")
  expect_identical(expect_error(compiled_routes(server, "/c"), class = "faucet_error_option")$option, "pool")
})

test_that("an app that is deployed tells its routes, and a function has none", {
  withr::local_envvar(FAUCET_COMPILE = NA)
  agent <- local_agent(compile = FALSE)
  deploy_quietly(local_routed(), name = "app", workers = 1)
  deploy_quietly(function(x = 1) Sys.getenv("FAUCET_COMPILE"), name = "fun", workers = 1)
  expect_identical(invoke("fun"), "false")
  status <- agent$status()
  expect_identical(status$compiled[match(c("/functions/app", "/functions/fun"), status$pool)], c("0 of 2", NA))
  expect_routed(compiled_routes(agent, pool = "/functions/app"), 0)
  expect_error(compiled_routes(agent, pool = "/functions/fun"), class = "faucet_error_unsupported")
})

test_that("nothing is known of workers of type http", {
  server <- local_server(local_routed(), workers = 1, worker_type = "http")
  expect_identical(wait_for_workers(server, 1)$compiled, NA_character_)
  expect_error(compiled_routes(server), class = "faucet_error_unsupported")
})

test_that("what has no routes, or does not start, is an error that has R's last lines", {
  no_router <- local_code("entrypoint.R" = rook_entrypoint)
  error <- expect_error(compiled_routes(no_router), class = "faucet_error_unsupported")
  expect_true("This is no router." %in% error$lines)
  expect_match(conditionMessage(error), "This is no router.", fixed = TRUE)
  broken <- local_code("plumber.R" = "stop(\"This cannot be loaded.\")")
  expect_silent(error <- expect_error(compiled_routes(broken), class = "faucet_error_boot"))
  expect_match(error$lines, "This cannot be loaded.", fixed = TRUE, all = FALSE)
  expect_error(compiled_routes("nowhere"), class = "faucet_error_dir")
  expect_error(compiled_routes(1), class = "faucet_error_dir")
  expect_error(compiled_routes(c("/a" = no_router)), class = "faucet_error_option")
  expect_error(compiled_routes(no_router, pool = "/"), class = "faucet_error_option")
})

test_that("nothing is left of the worker that was asked", {
  dir <- local_code("plumber.R" = c("writeLines(paste(Sys.getpid()), \"pid\")", routed))
  compiled_routes(dir)
  wait_until_gone(as.integer(readLines(file.path(dir, "pid"))))
})

table_of <- function(...) {
  routes <- data.frame(
    method = c("GET", "GET, POST"), path = c("/fast", "/a/<n:int>"), compiled = c(TRUE, FALSE), why = c(NA, "It has a hook.")
  )
  structure(routes, class = c("faucet_routes", "data.frame"))[...]
}

test_that("routes print with what they are, and why", {
  withr::local_options(cli.num_colors = 1L, cli.unicode = FALSE)
  expect_identical(format(table_of(1:2, )), c(
    "<faucet_routes> 1 of 2 routes are compiled",
    "v GET        /fast",
    "x GET, POST  /a/<n:int>  It has a hook."
  ))
  expect_identical(format(table_of(1, )), c("<faucet_routes> 1 of 1 route is compiled", "v GET  /fast"))
  expect_identical(format(table_of(0, )), "<faucet_routes> 0 of 0 routes are compiled")
  expect_output(print(table_of(1:2, )), "1 of 2 routes are compiled")
  # A part of it is no table of routes any more.
  expect_output(print(table_of(, c("path", "why"))), "/fast")
})

test_that("the front is told as many routes as it reads, in one line", {
  expect_null(routes_of(list(call = function(req) NULL), NULL))
  expect_identical(routes_of(NULL, as.data.frame(table_of(0, ))), "[]")
  routes <- table_of(1:2, )
  routes$why[2] <- paste0("a \"quote\",\na line, \u00fc, and ", rawToChar(as.raw(0xff)))
  json <- routes_of(NULL, routes)
  expect_no_match(json, "\n")
  expect_identical(jsonlite::fromJSON(json)$why, c(NA, "a \"quote\",\na line, \u00fc, and <ff>"))
  expect_identical(jsonlite::fromJSON(json)$path, routes$path)
  first <- nchar(routes_of(NULL, routes[1, ]), "bytes")
  expect_identical(routes_of(NULL, routes, most = first), routes_of(NULL, routes[1, ]))
  expect_identical(routes_of(NULL, routes, most = 1), "[]")
})

test_that("more routes than fit are cut to what does", {
  dir <- local_code("plumber.R" = c(
    "#* @plumber", "function(pr) {",
    "  for (i in 1:30) pr$handle(\"GET\", paste0(\"/\", strrep(\"x\", 5e4), i), function() 1)",
    "  pr", "}"
  ))
  routes <- compiled_routes(dir)
  expect_gt(nrow(routes), 10)
  expect_lt(nrow(routes), 30)
})

test_that("the program tells them", {
  dir <- local_routed()
  shown <- run_cli("routes", dir)
  expect_identical(shown$status, 0L)
  expect_match(shown$stdout[1], "1 of 2 routes are compiled", fixed = TRUE)
  expect_length(shown$stdout, 3)
  json <- jsonlite::fromJSON(run_cli("routes", dir, "--json")$text)
  expect_setequal(json$path, c("/plain", "/filtered/one"))
  expect_identical(run_cli("routes", "nowhere")$status, 2L)
})
