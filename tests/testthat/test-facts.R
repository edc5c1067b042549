test_that("outside of a worker there is nothing to know", {
  withr::local_envvar(FAUCET_WORKER_ID = NA)
  expect_identical(worker_id(), NA_integer_)
  expect_identical(request_id(list()), NA_character_)
  expect_identical(request_id(new.env()), NA_character_)
  expect_identical(request_id(), NA_character_)
  expect_false(is_cancelled())
})

test_that("an app knows its worker, its request, and whether it is cancelled", {
  skip_on_os("windows")
  for (kind in kinds) {
    server <- local_server(local_app("eval"), workers = 2, worker_type = kind)
    status <- wait_for_workers(server, 2)
    facts <- quote(list(status = 200L, headers = list(), body = jsonlite::toJSON(auto_unbox = TRUE, list(
      worker = worker_id(), pid = Sys.getpid(), request = request_id(req), cancelled = is_cancelled()
    ))))
    for (id in c("one-of-its-own", "another")) {
      answer <- rlang::inject(rook(server, !!facts, headers = list(`X-Request-Id` = id)))
      facts_of <- json(answer)
      expect_identical(facts_of$request, answer$headers[["x-request-id"]])
      expect_identical(status$worker[status$pid == facts_of$pid], facts_of$worker)
      expect_false(facts_of$cancelled)
    }
    made <- rlang::inject(rook(server, !!facts))
    expect_identical(json(made)$request, made$headers[["x-request-id"]])
  }
})

test_that("plumber's handlers know the same", {
  dir <- local_code("plumber.R" = c(
    "#* @get /facts", "#* @serializer unboxedJSON",
    "function(req) list(worker = faucet::worker_id(), request = faucet::request_id(req))"
  ))
  server <- local_server(dir, workers = 1)
  answer <- request(server, "/facts")
  expect_identical(json(answer), list(worker = 1L, request = answer$headers[["x-request-id"]]))
})

test_that("a deployed function knows its call's id, and a chain has one", {
  skip_on_cran()
  agent <- local_agent()
  deploy_quietly(function(x) paste0(x, faucet::request_id(), ";"), name = "value")
  later <- function(x) promises::promise(function(resolve, reject) later::later(function() resolve(faucet::request_id())))
  deploy_quietly(later, name = "later")
  passes <- function(input, output) {
    while (!is.null(bytes <- input$read())) output$write(bytes)
    output$write(faucet::request_id())
  }
  deploy_quietly(passes, name = "passes", stream = TRUE)
  call <- function(path, id) {
    headers <- list(`X-Request-Id` = id, Accept = "text/plain")
    answer <- request(agent, path, "POST", body = "x", headers = headers, type = "text/plain")
    expect_identical(answer$status, 200L)
    trimws(answer$text)
  }
  for (id in c("one-of-its-own", "another")) {
    expect_identical(call("/functions/value", id), paste0("x", id, ";"))
    expect_identical(call("/functions/later", id), id)
    expect_identical(call("/functions/passes", id), paste0("x", id))
    passed <- call("/invoke?chain=value%7Cpasses", id)
    expect_match(passed, paste0("^x", id, ";\\s*", id, "$"))
  }
})
