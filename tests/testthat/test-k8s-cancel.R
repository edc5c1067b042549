skip_on_cran()

# Clients that leave, and time that is over, with pods that run faucet: R is interrupted there.

leave_wait <- function(clients, server, dir, id) {
  clients$add(server, paste0("/wait?id=", id), key = id)
  wait_for_file(dir, paste0("begun-", id), clients)
  clients$leave(id)
}

test_that("when a client leaves the front, R in the pod is interrupted", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(1, dir, "faucet", worker_type = "native")
  server <- local_api(dns, pods)
  pid <- json(request(server, "/pid"))$pid
  clients <- crowd()
  leave_wait(clients, server, dir, "left")
  # The only worker of the only pod serves on.
  expect_identical(json(request(server, "/pid"))$pid, pid)
  expect_true(file.exists(file.path(dir, "ended-left")))
  wait_for_pods(server, pods)
  expect_identical(server$status()$in_flight, 0L)
})

test_that("a client that leaves another front's queue leaves the pod's, too", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(1, dir, "faucet", worker_type = "native")
  fronts <- local_fronts(dns, pods)
  clients <- crowd()
  hold(clients, fronts[[1]], dir, "first")
  clients$add(fronts[[2]], "/work?id=left", key = "left")
  wait_until(clients$step() && waiting(fronts[[2]]) == 1)
  clients$leave("left")
  wait_until(waiting(fronts[[2]]) == 0)
  clients$add(fronts[[1]], "/work?id=next", key = "next")
  wait_until(clients$step() && waiting(fronts[[1]]) == 1)
  release(dir, "first")
  expect_identical(clients$wait()[["next"]]$status, 200L)
  expect_identical(begun(dir)$id, c("first", "next"))
})

test_that("a deadline of the front interrupts R in the pod", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(1, dir, "faucet", worker_type = "native")
  server <- local_api(dns, pods, timeout = 1)
  pid <- json(request(server, "/pid"))$pid
  late <- request(server, "/wait?id=late")
  expect_identical(late$status, 504L)
  expect_identical(late$headers[["faucet-error"]], "timeout")
  wait_for_file(dir, "ended-late")
  expect_identical(json(request(server, "/pid"))$pid, pid)
})

test_that("with cancel = FALSE at the front, work in the pod goes on to its end", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(1, dir, "faucet", worker_type = "native")
  server <- local_api(dns, pods, cancel = FALSE)
  clients <- crowd()
  hold(clients, server, dir, "left")
  clients$leave("left")
  clients$add(server, "/work?id=next", key = "next")
  wait_until(clients$step() && waiting(server) == 1)
  release(dir, "left")
  expect_identical(clients$wait("next")[["next"]]$status, 200L)
  expect_identical(pod_log(dir)$id, c("left", "left", "next", "next"))
})
