skip_on_cran()

# The first experiment of a new user: plumber on a port of this machine.

test_that("plumber on a port of localhost is one worker, which gets one request at a time", {
  dir <- local_app("pod")
  pod <- local_pods(1, dir, addresses = "127.0.0.1")[[1]]
  server <- local_k8s(paste0("http://localhost:", pod$port))
  status <- server$status()
  expect_identical(nrow(status), 1L)
  expect_identical(status$state, "ready")
  expect_identical(host_of(status$address), "127.0.0.1")

  # plumber would take both at once.
  clients <- crowd()
  for (id in c("one", "two")) clients$add(server, paste0("/work?ms=500&id=", id), key = id)
  answers <- clients$wait()
  expect_identical(vapply(answers, `[[`, 1L, "status")[c("one", "two")], c(one = 200L, two = 200L))
  expect_identical(pod_log(dir)$what, c("begun", "ended", "begun", "ended"))
  expect_identical(most_at_once(dir), 1L)
})

test_that("a server that listens on both kinds of addresses is one worker, too", {
  skip_if_not(has_address("::1"), "no IPv6 here")
  pod <- local_pods(1, local_app("pod"), addresses = "::")[[1]]
  server <- local_k8s(paste0("http://localhost:", pod$port))
  expect_identical(nrow(server$status()), 1L)
  expect_identical(json(request(server, "/pid"))$pid, pod$pid())
  expect_identical(server$lookup()$addresses, 1L)
})

test_that("requests arrive as they were sent, and answers come back as they were given", {
  dir <- local_app("pod")
  pod <- local_pod(dir)
  # An address needs no DNS.
  server <- local_k8s(pod$url())
  sent <- paste0("{\"text\":\"", strrep("\u00fc", 1e5), "\"}")
  answer <- request(server, "/echo?a=1&b=%20", "POST", body = sent, headers = list(`X-Mine` = "yes", `Faucet-Busy` = "1"))
  expect_identical(answer$status, 200L)
  echo <- json(answer)
  expect_identical(echo$method, "POST")
  expect_identical(echo$query, "?a=1&b=%20")
  expect_identical(echo$body, sent)
  expect_identical(echo$headers[["x-mine"]], "yes")
  expect_match(echo$headers[["x-forwarded-for"]], "127.0.0.1", fixed = TRUE)
  # What fronts and pods tell each other is not for clients.
  expect_false(any(c("faucet-wait", "faucet-workers", "faucet-busy") %in% names(answer$headers)))

  expect_identical(request(server, "/nosuch")$status, 404L)
  expect_identical(request(server, "/pid", "HEAD")$body, raw())
  expect_identical(json(request(server, "/pid"))$pid, pod$pid())
})

test_that("an address of IPv6 needs no DNS either", {
  skip_if_not(has_address("::1"), "no IPv6 here")
  pod <- local_pods(1, local_app("pod"), addresses = "::1")[[1]]
  server <- local_k8s(pod$url())
  expect_identical(json(request(server, "/pid"))$pod, "::1")
})

test_that("a client that leaves gives the pod no second request before it has answered the first", {
  dir <- local_app("pod")
  server <- local_k8s(local_pod(dir)$url())
  clients <- crowd()
  clients$add(server, "/work?ms=1000&id=left", key = "left")
  wait_until(clients$step() && "left" %in% begun(dir)$id)
  clients$leave("left")
  expect_identical(request(server, "/work?id=next")$status, 200L)
  expect_identical(pod_log(dir)$id, c("left", "left", "next", "next"))
  expect_identical(most_at_once(dir), 1L)
})
