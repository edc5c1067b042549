skip_on_cran()

# Pods that take connections and never answer.

test_that("a half-dead pod is found by a request's deadline, set aside, and used again when it answers", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(2, dir)
  server <- local_api(dns, pods, timeout = 1, ready_path = "/health")
  pods[[1]]$pause()
  withr::defer(pods[[1]]$resume())
  # One of two requests meets it.
  clients <- crowd()
  for (id in c("a", "b")) clients$add(server, paste0("/work?ms=300&id=", id), key = id)
  answers <- clients$wait()
  status <- vapply(answers, `[[`, 1L, "status")
  expect_setequal(status, c(200L, 504L))
  wait_until(identical(state_of(server, pods[[1]]), "suspended"))
  for (i in 1:4) expect_identical(json(request(server, paste0("/work?id=", i)))$pod, pods[[2]]$address)
  expect_identical(state_of(server, pods[[1]]), "suspended")
  pods[[1]]$resume()
  wait_for_pods(server, pods)
  expect_identical(request(server, "/pid")$status, 200L)
})
