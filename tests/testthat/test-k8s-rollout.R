skip_on_cran()

# A rolling update of all pods: each new one is added, then an old one is told to stop.

test_that("plumber pods are replaced without a failed request, once DNS no longer names them", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(6, dir, start = FALSE)
  old <- pods[1:3]
  new <- pods[4:6]
  start_pods(old)
  server <- local_api(dns, old)
  load <- local_load(server, method = "POST", clients = 12)
  for (i in seq_along(old)) {
    start_pods(new[i])
    serving <- c(old[-seq_len(i)], new[seq_len(i)])
    dns$set("api.test", addresses_of(serving))
    # What preStop waits for: plumber ends at once when it is told to.
    wait_for_pods_in_use(server, serving)
    old[[i]]$term()
    old[[i]]$process$wait(20000)
    load$wait_for(30)
  }
  answers <- load$stop()
  expect_identical(failed(answers), answers[0, ])
  expect_setequal(answers$pod, addresses_of(pods))
  expect_identical(anyDuplicated(begun(dir)$id), 0L)
  expect_identical(most_at_once(dir), 1L)
  wait_for_pods(server, new)
})

test_that("faucet pods are replaced without a failed request, even while DNS still names them", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(4, dir, "faucet", start = FALSE)
  old <- pods[1:2]
  new <- pods[3:4]
  start_pods(old)
  server <- local_api(dns, old)
  load <- local_load(server, method = "POST", clients = 12)
  for (i in seq_along(old)) {
    start_pods(new[i])
    dns$set("api.test", addresses_of(c(old[i:2], new[seq_len(i)])))
    wait_until(new[[i]]$address %in% begun(dir)$pod)
    old[[i]]$term()
    expect_identical(wait_for_exit(old[[i]]), 0L)
    load$wait_for(30)
    dns$set("api.test", addresses_of(c(old[-seq_len(i)], new[seq_len(i)])))
  }
  answers <- load$stop()
  expect_identical(failed(answers), answers[0, ])
  expect_setequal(answers$pod, addresses_of(pods))
  expect_identical(anyDuplicated(begun(dir)$id), 0L)
  expect_identical(most_at_once(dir), 1L)
  wait_for_pods(server, new)
})
