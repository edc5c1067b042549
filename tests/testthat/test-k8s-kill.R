skip_on_cran()

# Pods that die.

test_that("kill -9 of one of 4 pods at full load costs at most the request that was in flight there", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(4, dir)
  server <- local_api(dns, pods)
  load <- local_load(server, clients = 16)
  load$wait_for(50)
  pods[[2]]$kill()
  # Its address stays in DNS for some time, as Kubernetes' DNS lags.
  wait_until(identical(state_of(server, pods[[2]]), "suspended"))
  load$wait_for(100)
  dns$set("api.test", addresses_of(pods[-2]))
  wait_for_pods_in_use(server, pods[-2])
  load$wait_for(50)
  answers <- load$stop()

  lost <- failed(answers)
  expect_lte(nrow(lost), 1)
  expect_true(all(lost$status == 502))
  expect_true(all(lost$cause == "worker_died"))
  expect_identical(most_at_once(dir), 1L)
})

test_that("a pod that comes back at its address gets requests again", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(2, dir)
  server <- local_api(dns, pods)
  pods[[1]]$kill()
  # One of two finds out, and goes to the other pod: nothing of it was executed.
  clients <- crowd()
  for (i in 1:2) clients$add(server, paste0("/work?ms=100&id=early-", i))
  for (answer in clients$wait()) expect_identical(json(answer)$pod, pods[[2]]$address)
  wait_until(identical(state_of(server, pods[[1]]), "suspended"))
  expect_identical(server$status()$in_flight, c(0L, 0L))
  pods[[1]]$start()
  wait_for_pods(server, pods)
  clients <- crowd()
  for (i in 1:2) clients$add(server, paste0("/hold?id=", i))
  wait_until(clients$step() && nrow(begun(dir)) == 4)
  expect_setequal(begun(dir)$pod[3:4], addresses_of(pods))
  for (i in 1:2) release(dir, i)
  clients$wait()
})

for (kind in c("plumber", "faucet")) {
  test_that(paste("no POST runs twice, however often pods die:", kind), {
    dir <- local_app("pod")
    dns <- local_dns()
    pods <- local_pods(3, dir, kind)
    server <- local_api(dns, pods)
    load <- local_load(server, method = "POST", clients = 12)
    for (pod in pods[1:2]) {
      load$wait_for(30)
      pod$kill()
      load$wait_for(30)
      pod$start()
      wait_until(identical(state_of(server, pod), "ready") || identical(state_of(server, pod), "busy"))
    }
    load$wait_for(30)
    answers <- load$stop()

    ids <- begun(dir)$id
    expect_identical(anyDuplicated(ids), 0L)
    # All that was answered ran; of what was lost, one request at most for each death.
    expect_true(all(answers$id[answers$status == 200] %in% ids))
    lost <- failed(answers)
    expect_lte(nrow(lost), 2)
    expect_identical(lost[lost$status != 502, ], lost[0, ])
    expect_identical(most_at_once(dir), 1L)
  })
}
