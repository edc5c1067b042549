skip_on_cran()

# No pod is there.

test_that("without any pod, requests are turned away when their time is over", {
  dns <- local_dns()
  pods <- local_pods(2, local_app("pod"))
  server <- local_api(dns, pods, queue_timeout = 0.5)
  for (pod in pods) pod$kill()
  answer <- request(server, "/pid")
  expect_identical(answer$status, 503L)
  expect_identical(answer$headers[["faucet-error"]], "queue_timeout")
  expect_match(answer$headers[["retry-after"]], "^[0-9]+$")
  wait_until(all(server$status()$state == "suspended"))
  expect_identical(request(server, "/__faucet__/readyz")$status, 503L)
  expect_identical(request(server, "/__faucet__/livez")$status, 200L)
  expect_true(server$is_running())
  start_pods(pods[1])
  wait_until(identical(state_of(server, pods[[1]]), "ready"))
  expect_identical(request(server, "/__faucet__/readyz")$status, 200L)
  expect_identical(json(request(server, "/pid"))$pod, pods[[1]]$address)
})

for (kind in c("plumber", "faucet")) {
  test_that(paste("when a pod returns, those who wait are served in their order:", kind), {
    dir <- local_app("pod")
    dns <- local_dns()
    pods <- local_pods(2, dir, kind)
    server <- local_api(dns, pods)
    for (pod in pods) pod$kill()
    clients <- crowd()
    for (i in 1:6) {
      clients$add(server, paste0("/work?ms=20&id=", i), key = paste(i))
      wait_until(clients$step() && waiting(server) == i)
    }
    # At an address of its own, as a new pod has.
    pods[[2]]$start()
    answers <- clients$wait()
    expect_identical(unique(vapply(answers, `[[`, 1L, "status")), 200L)
    expect_identical(begun(dir)$id, paste(1:6))
    expect_identical(most_at_once(dir), 1L)
  })
}

test_that("all pods gone from DNS too, and others in their place", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(2, dir, start = FALSE)
  start_pods(pods[1])
  server <- local_api(dns, pods[1])
  dns$remove("api.test")
  pods[[1]]$kill()
  clients <- crowd()
  clients$add(server, "/work?id=waits", key = "waits")
  wait_until(clients$step() && !identical(server$lookup()$state, "ok"))
  start_pods(pods[2])
  dns$set("api.test", addresses_of(pods[2]))
  expect_identical(json(clients$wait()$waits)$pod, pods[[2]]$address)
  wait_for_pods(server, pods[2])
})
