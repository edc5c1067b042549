# A hub, as its users and workers see it.

test_that("a hub says where workers dial in", {
  said <- messages_of(hub <- local_hub(quiet = FALSE, pothead_port = 0))
  expect_match(said, paste("Ready on", hub$url), fixed = TRUE, all = FALSE)
  call <- paste0("Workers dial in at ", hub$worker_address, ": faucet::run_worker(\"", hub$worker_address, "\", \"api\")")
  expect_match(said, call, fixed = TRUE, all = FALSE)
  expect_match(said, "Those of POTHEAD at 127.0.0.1:", fixed = TRUE, all = FALSE)
  shown <- cli::ansi_strip(format(hub))
  expect_match(shown, paste("workers dial in at", hub$worker_address), fixed = TRUE, all = FALSE)
  expect_match(shown, "no workers yet, 0 in flight, 0 waiting", fixed = TRUE, all = FALSE)
  expect_identical(nrow(hub$status()), 0L)
  expect_null(hub$lookup())
  expect_error(hub$worker_address <- "x", class = "faucet_error")
})

test_that("a worker that dials in is sent requests", {
  hub <- local_hub()
  expect_identical(request(hub, "/")$status, 404L)
  slot <- local_slot(hub$worker_address)
  wait_for_slots(hub, 1)
  clients <- crowd()
  for (i in 1:3) {
    clients$add(hub, paste0("/", i))
    wait_until(clients$step() && socketSelect(list(slot), timeout = 0), what = "a request")
    head <- answer_one(slot, paste("answer", i))
    expect_identical(head[[1]], paste0("GET /", i, " HTTP/1.1"))
  }
  expect_identical(vapply(clients$wait(), `[[`, "", "text"), c(`/1` = "answer 1", `/2` = "answer 2", `/3` = "answer 3"))
  status <- hub$status()
  expect_identical(status$name, "box")
  expect_identical(status$requests, 3)
  expect_identical(status$slots, 1L)
  expect_match(cli::ansi_strip(format(hub)), "box", all = FALSE)
})

test_that("each route has a pool of its own", {
  hub <- local_hub()
  models <- local_slot(hub$worker_address, `Faucet-Route` = "/model")
  wait_for_slots(hub, 1)
  expect_identical(hub$status()$pool, "/model")
  expect_identical(request(hub, "/other")$status, 404L)
  clients <- crowd()
  clients$add(hub, "/model/x")
  wait_until(clients$step() && socketSelect(list(models), timeout = 0), what = "a request")
  answer_one(models, "m")
  expect_identical(clients$wait()[["/model/x"]]$text, "m")
})

test_that("a stranger is refused, and the token is shown nowhere", {
  secret <- "open-sesame-7"
  withr::local_envvar(FAUCET_TOKEN = secret)
  said <- character()
  messages_of(
    {
      hub <- local_hub(quiet = FALSE, admin_port = 0)
      expect_match(dial(hub$worker_address)$status, "^HTTP/1.1 401")
      expect_match(dial(hub$worker_address, Authorization = "Bearer open-sesame-8")$status, "^HTTP/1.1 401")
      slot <- local_slot(hub$worker_address, Authorization = paste("Bearer", secret))
      wait_for_slots(hub, 1)
    },
    function(lines) said <<- c(said, lines)
  )
  shown <- c(
    said, format(hub), utils::capture.output(str(hub)), utils::capture.output(print(hub$status())),
    request(hub$admin_url, "/status")$text, request(hub$admin_url, "/metrics")$text
  )
  expect_no_match(shown, secret, fixed = TRUE)
})

test_that("what only other servers can do is an error", {
  hub <- local_hub()
  expect_error(hub$scale(2), class = "faucet_error_unsupported")
  expect_error(hub$add_pool("/a", "."), class = "faucet_error_unsupported")
  expect_error(hub$remove_pool("/a"), class = "faucet_error_unsupported")
})

test_that("a port that is taken is an error", {
  hub <- local_hub()
  port <- as.integer(sub("^.*:", "", hub$worker_address))
  expect_error(faucet::run_hub(port = 0, worker_port = port), class = "faucet_error_port_in_use")
})

test_that("workers of R do not find the token in their environment", {
  withr::local_envvar(FAUCET_TOKEN = "open-sesame")
  dir <- local_code("plumber.R" = c("#* @get /", "#* @serializer text", "function() Sys.getenv('FAUCET_TOKEN', 'none')"))
  server <- local_server(dir, 1)
  expect_identical(request(server, "/")$text, "none")
})
