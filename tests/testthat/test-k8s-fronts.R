skip_on_cran()

# Several fronts over the same pods. When these run faucet, the lock lives with the pod.

test_that("a pod's R process gets one request at a time from two fronts, and no client is told that it was busy", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(2, dir, "faucet")
  fronts <- local_fronts(dns, pods)
  loads <- list(
    local_load(fronts[[1]], path = "/work?ms=10", method = "POST", clients = 8, prefix = "one"),
    local_load(fronts[[2]], path = "/work?ms=10", method = "POST", clients = 8, prefix = "other")
  )
  for (load in c(loads, loads)) load$wait_for(100)
  answers <- lapply(loads, function(load) load$stop())
  for (i in 1:2) expect_identical(failed(answers[[!!i]]), answers[[!!i]][0, ])
  expect_setequal(c(answers[[1]]$id, answers[[2]]$id), begun(dir)$id)
  expect_identical(anyDuplicated(begun(dir)$id), 0L)
  expect_identical(most_at_once(dir), 1L)
  # Each front used each pod.
  for (i in 1:2) expect_setequal(answers[[!!i]]$pod, addresses_of(pods))
})

test_that("a front that asks rarely is served beside one that always asks", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(1, dir, "faucet")
  fronts <- local_fronts(dns, pods)
  load <- local_load(fronts[[1]], clients = 16)
  for (i in 1:10) {
    before <- load$count()
    expect_identical(request(fronts[[2]], paste0("/work?id=rare-", i))$status, 200L)
    # First come, first served: those before it at the pod and not many more. (The other front's own queue does not count.)
    expect_lt(load$count() - before, 16)
  }
  answers <- load$stop()
  expect_identical(failed(answers), answers[0, ])
  expect_identical(most_at_once(dir), 1L)
})

test_that("a request waits at its front while another front has the pod, and is served when it frees", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(1, dir, "faucet")
  fronts <- local_fronts(dns, pods)
  clients <- crowd()
  hold(clients, fronts[[1]], dir, "first")
  for (i in 1:3) {
    clients$add(fronts[[2]], paste0("/work?id=next-", i), key = paste0("next-", i))
    # The first of them may be on its way to the pod to ask for a turn.
    wait_until(clients$step() && waiting(fronts[[2]]) >= i - 1)
  }
  expect_identical(begun(dir)$id, "first")
  release(dir, "first")
  answers <- clients$wait()
  expect_identical(unique(vapply(answers, `[[`, 1L, "status")), 200L)
  expect_identical(begun(dir)$id, c("first", "next-1", "next-2", "next-3"))
})

test_that("a request goes to a free pod when another front has the one it was meant for", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(2, dir, "faucet")
  fronts <- local_fronts(dns, pods)
  clients <- crowd()
  hold(clients, fronts[[1]], dir, "first")
  for (i in 1:4) {
    expect_false(json(request(fronts[[2]], paste0("/work?id=", i)))$pod == begun(dir)$pod[[1]])
  }
  release(dir, "first")
  clients$wait()
})

test_that("a request whose time in the queue is over never reaches the pod that another front has", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(1, dir, "faucet")
  fronts <- local_fronts(dns, pods, queue_timeout = 0.5)
  clients <- crowd()
  hold(clients, fronts[[1]], dir, "first")
  answer <- request(fronts[[2]], "/work?id=late")
  expect_identical(answer$status, 503L)
  expect_identical(answer$headers[["faucet-error"]], "queue_timeout")
  expect_false("faucet-busy" %in% names(answer$headers))
  release(dir, "first")
  clients$wait()
  expect_identical(request(fronts[[2]], "/work?id=next")$status, 200L)
  expect_identical(begun(dir)$id, c("first", "next"))
})

test_that("a front that dies gives its turn to the other", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(1, dir, "faucet")
  one <- local_api(dns, pods)
  other <- local_k8s_front(paste0("http://api.test:", pods[[1]]$port), dns)
  clients <- crowd()
  hold(clients, one, dir, "first")
  clients$add(other$url, "/work?id=lost", key = "lost")
  clients$add(one, "/work?id=next", key = "next")
  wait_until(clients$step() && waiting(one) == 1)
  other$process$kill()
  release(dir, "first")
  answers <- clients$wait()
  expect_identical(answers[["next"]]$status, 200L)
  expect_identical(answers$first$status, 200L)
  expect_true(is.character(answers$lost))
  expect_identical(request(one, "/work?id=after")$status, 200L)
  expect_identical(most_at_once(dir), 1L)
})

test_that("two fronts lose nothing while pods of faucet come and go", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(3, dir, "faucet", start = FALSE)
  start_pods(pods[1:2])
  fronts <- local_fronts(dns, pods[1:2])
  load <- local_load(fronts, method = "POST", clients = 12)
  start_pods(pods[3])
  dns$set("api.test", addresses_of(pods))
  wait_until(pods[[3]]$address %in% begun(dir)$pod)
  pods[[1]]$term()
  expect_identical(wait_for_exit(pods[[1]]), 0L)
  dns$set("api.test", addresses_of(pods[-1]))
  load$wait_for(50)
  answers <- load$stop()
  expect_identical(failed(answers), answers[0, ])
  expect_identical(anyDuplicated(begun(dir)$id), 0L)
  expect_identical(most_at_once(dir), 1L)
})
