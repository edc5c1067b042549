skip_on_os("windows")

# What a function's worker does with its folder, and what its callers get.

# A worker is told in its environment what it serves. An agent does that; here the app itself does.
local_function <- function(fun = NULL, about = list(), globals = list(), files = list(), env = NULL, frame = parent.frame()) {
  set <- c(list(FAUCET_FUNCTION = "f"), env)
  told <- paste0("Sys.setenv(", names(set), " = ", vapply(set, deparse, ""), ")", collapse = "\n")
  file <- if (length(files) > 0) names(files)[[1]] else ""
  run <- sprintf("faucet:::run_function(\"%s\", Sys.getenv(\"FAUCET_HOST\"), as.integer(Sys.getenv(\"FAUCET_PORT\")))", file)
  dir <- do.call(local_code, c(list("entrypoint.R" = c(told, run)), files, list(env = frame)))
  if (!is.null(fun)) {
    environment(fun) <- globalenv()
    saveRDS(list(fun = fun, globals = globals), file.path(dir, "function.rds"))
    about <- utils::modifyList(list(format = 1, r = as.character(getRversion()), stream = FALSE, rds = FALSE), about)
    jsonlite::write_json(about, file.path(dir, "function.json"), auto_unbox = TRUE)
  }
  dir
}

local_service <- function(..., frame = parent.frame()) {
  local_server(local_function(..., frame = frame), workers = 1, worker_type = "native", env = frame)
}

cause <- function(response) response$headers[["faucet-error"]]

test_that("a function is served as it was packed", {
  scale <- 2
  server <- local_service(function(x, by = 1) by * factor * as.numeric(x), globals = list(factor = scale))
  answer <- request(server, "/?by=3", "POST", "5", type = "application/x-www-form-urlencoded")
  expect_identical(answer$text, "30")
  expect_identical(request(server, "/some/where?by=3", "POST", "[5, 6]")$text, "[30,36]")
  answer <- request(server, "/?to=3", "POST", "5")
  expect_identical(answer$status, 400L)
  expect_identical(cause(answer), "bad_option")
  expect_identical(jsonlite::fromJSON(answer$text)$option, "to")
  answer <- request(server, "/", "POST", "[[1, 2], {}]")
  expect_identical(answer$status, 500L)
  expect_identical(cause(answer), "function_error")
})

test_that("a file that defines the function, or ends with one, will do", {
  server <- local_service(files = list("code.R" = c("other <- function() 1", "f <- function(x) paste(x, other())", "3")))
  expect_identical(request(server, "/", "POST", "a", type = "text/plain")$text, "a 1")
  server <- local_service(files = list("code.R" = "function(x) toupper(x)"))
  expect_identical(request(server, "/", "POST", "a", type = "text/plain")$text, "A")
})

test_that("what cannot be served says why", {
  old <- list(packages = list(rlang = "0.0.1"))
  raised <- expect_error(local_service(function(x) x, about = old), class = "faucet_error_boot")
  why <- "Function 'f' cannot be started: it was deployed with rlang 0.0.1"
  expect_match(paste(raised$lines, collapse = "\n"), why, fixed = TRUE)
  raised <- expect_error(local_service(files = list("code.R" = "1")), class = "faucet_error_boot")
  expect_match(paste(raised$lines, collapse = "\n"), "defines no function of that name")
})

test_that("a stream comes as it is written, and one that fails is broken off", {
  stream <- function(input, output, fail = FALSE) {
    while (!is.null(bytes <- input$read())) output$write(bytes)
    if (fail) stop("in the middle")
  }
  server <- local_service(stream, about = list(stream = TRUE))
  body <- as.raw(sample(0:255, 3e6, replace = TRUE))
  answer <- request(server, "/", "POST", body)
  expect_identical(answer$body, body)
  expect_identical(answer$headers[["content-type"]], "application/octet-stream")
  expect_error(request(server, "/?fail", "POST", "x"))
  expect_identical(request(server, "/", "POST", raw())$status, 200L)
})

test_that("what a stream has written stays what it was then", {
  changing <- function(input, output) {
    while (!is.null(bytes <- input$read())) {
      output$write(bytes)
      bytes[seq_along(bytes)] <- as.raw(0)
    }
  }
  server <- local_service(changing, about = list(stream = TRUE))
  body <- as.raw(sample(0:255, 3e6, replace = TRUE))
  expect_identical(request(server, "/", "POST", body)$body, body)
})

test_that("a stream whose type is none says so, and can go on with another", {
  stream <- function(input, output, again = FALSE) {
    output$type("text/plain\nx")
    if (again) {
      try(output$write("lost"), silent = TRUE)
      output$type("text/plain")
    }
    output$write("done")
  }
  server <- local_service(stream, about = list(stream = TRUE))
  answer <- request(server, "/", "POST", "x")
  expect_identical(answer$status, 500L)
  expect_identical(answer$headers[["faucet-error"]], "function_error")
  expect_identical(request(server, "/?again", "POST", "x")$text, "done")
})

test_that("a call that computes for too long ends its worker, and the next one has its time again", {
  skip_on_os("mac")
  loop <- function(seconds) {
    until <- sum(proc.time()[1:2]) + as.numeric(seconds)
    while (sum(proc.time()[1:2]) < until) NULL
    "done"
  }
  server <- local_service(loop, env = list(FAUCET_CPU_TIME = "1"))
  for (i in 1:3) expect_identical(request(server, "/", "POST", "0.6", type = "text/plain")$text, "done")
  expect_identical(request(server, "/", "POST", "60", type = "text/plain")$status, 502L)
  expect_identical(request(server, "/", "POST", "0", type = "text/plain")$text, "done")
})
