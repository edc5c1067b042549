skip_on_cran()

test_that("a worker is recycled after max_requests, without a failed request", {
  server <- local_server(local_app("basic"), workers = 1, max_requests = 5)
  pids <- integer()
  wait_until(
    {
      answer <- request(server, "/pid")
      expect_identical(answer$status, 200L)
      pids <<- union(pids, json(answer)$pid)
      length(pids) == 3
    },
    what = "the worker to be recycled twice"
  )
  wait_until_gone(pids[1:2])
})

test_that("a worker is recycled when it has grown above max_memory", {
  dir <- local_code("plumber.R" = c(
    "hoard <- NULL",
    "#* @get /grow", "#* @serializer unboxedJSON",
    # Random, or the pages would be shared or never touched.
    "function() { hoard <<- runif(5e7); list(pid = Sys.getpid()) }",
    "#* @get /pid", "#* @serializer unboxedJSON", "function() list(pid = Sys.getpid())"
  ))
  server <- local_server(dir, workers = 1, max_memory = "300MB")
  before <- wait_for_workers(server, 1)
  expect_lt(before$memory, 300 * 1024^2)
  expect_identical(json(request(server, "/grow"))$pid, before$pid)
  wait_until(json(request(server, "/pid"))$pid != before$pid)
  wait_until_gone(before$pid)
})
