# Machines behind hubs, under load and in trouble.

skip_on_cran()

test_that("two machines serve one request each at a time in four R processes, and one that stops under load costs nothing", {
  hub <- local_hub()
  # What is not interrupted is counted right.
  stops <- local_machine(list(hub), local_app("overlap"), workers = 2, cancel = FALSE)
  stays <- local_machine(list(hub), local_app("overlap"), workers = 2, cancel = FALSE)
  wait_for_slots(hub, 4)
  load <- local_load(hub, clients = 12)
  load$wait_for(200)
  answers <- load$stop()
  expect_identical(nrow(failed(answers)), 0L)
  expect_length(unique(answers$pid), 4)
  expect_identical(most_that_met(hub, 4), 1L)

  load <- local_load(hub, clients = 12, method = "POST", path = "/work?ms=20")
  load$wait_for(50)
  stops$process$signal(tools::SIGTERM)
  expect_identical(wait_for_exit(stops), 0L)
  load$wait_for(50)
  expect_identical(nrow(failed(load$stop())), 0L)
  wait_for_slots(hub, 2)
  expect_identical(most_that_met(hub, 2), 1L)
})

test_that("one of two hubs is killed: work goes on through the other, and when it returns slots are offered to it again", {
  dies <- local_hub_process()
  lives <- local_hub()
  machine <- local_machine(c(dies$worker_address, lives$worker_address), local_app("overlap"), workers = 2, cancel = FALSE)
  wait_for_slots(lives, 2)
  wait_for_processes(dies$url, 2)
  lost <- local_load(dies$url, clients = 4)
  load <- local_load(lives, clients = 4)
  load$wait_for(50)
  dies$process$kill()
  load$wait_for(50)
  port <- function(address) as.integer(sub("^.*:", "", address))
  returns <- local_hub_process(port = port(dies$url), worker_port = port(dies$worker_address))
  wait_for_processes(returns$url, 1)
  load$wait_for(50)
  expect_identical(nrow(failed(load$stop())), 0L)
  lost$stop()
  expect_identical(most_that_met(lives, 2), 1L)
  expect_true(machine$process$is_alive())
})

test_that("a machine's own clients and those of a hub never meet in one R process", {
  hub <- local_hub()
  worker <- local_worker(list(hub), local_app("overlap"), workers = 2, port = 0, cancel = FALSE)
  wait_for_slots(hub, 2)
  load <- local_load(list(hub, worker), clients = 8)
  load$wait_for(200)
  answers <- load$stop()
  expect_identical(nrow(failed(answers)), 0L)
  expect_length(unique(answers$pid), 2)
  expect_identical(most_that_met(worker, 2), 1L)
})

test_that("R is interrupted when a client of the hub leaves, and its slot comes back", {
  hub <- local_hub()
  dir <- local_app("cancel")
  worker <- local_worker(list(hub), dir)
  wait_for_slots(hub, 1)
  pid <- json(request(hub, "/pid"))$pid
  clients <- crowd()
  clients$add(hub, "/wait?id=a")
  wait_until(clients$step() && file.exists(file.path(dir, "begun-a")))
  clients$leave("/wait?id=a")
  wait_until(file.exists(file.path(dir, "ended-a")))
  wait_for_slots(hub, 1)
  expect_identical(json(request(hub, "/pid"))$pid, pid)
  expect_identical(worker$status()$restarts, 0L)
})

test_that("past the deadline of a hub, or of the machine, R is interrupted and the client gets 504", {
  late <- function(hub, worker, dir) {
    force(worker)
    wait_for_slots(hub, 1)
    pid <- json(request(hub, "/pid"))$pid
    expect_identical(request(hub, "/wait?id=a")$status, 504L)
    # On a slow machine the deadline may pass before the app has begun.
    wait_until(!file.exists(file.path(dir, "begun-a")) || file.exists(file.path(dir, "ended-a")))
    wait_for_slots(hub, 1)
    expect_identical(json(request(hub, "/pid"))$pid, pid)
    expect_identical(worker$status()$restarts, 0L)
  }
  dir <- local_app("cancel")
  hub <- local_hub(timeout = 1)
  late(hub, local_worker(list(hub), dir), dir)
  dir <- local_app("cancel")
  hub <- local_hub()
  late(hub, local_worker(list(hub), dir, timeout = 1), dir)
})

test_that("each route is served by its machines; without any, requests wait and get 503, and in the end 404", {
  hub <- local_hub(queue_timeout = 0.2, forget_after = 2)
  one <- local_worker(list(hub), local_app("basic"), route = "/model-a")
  two <- local_worker(list(hub), local_app("basic"), route = "/model-b")
  wait_for_slots(hub, 2)
  expect_setequal(hub$status()$pool, c("/model-a", "/model-b"))
  pids <- vapply(c("/model-a/pid", "/model-b/pid"), function(path) json(request(hub, path))$pid, 1L)
  expect_identical(unname(pids), c(one$status()$pid, two$status()$pid))
  expect_identical(request(hub, "/pid")$status, 404L)
  one$stop()
  wait_for_slots(hub, 1)
  away <- request(hub, "/model-a/pid")
  expect_identical(away$status, 503L)
  expect_match(away$headers$`retry-after`, "^[0-9]+$")
  wait_until(request(hub, "/model-a/pid")$status == 404L)
  expect_identical(request(hub, "/model-b/hello")$text, "hello")
})

test_that("a stream comes bit by bit through a hub, and R stops when its client leaves", {
  hub <- local_hub()
  dir <- local_code("plumber.R" = c(
    "#* @get /pid",
    "#* @serializer unboxedJSON",
    "function() list(pid = Sys.getpid())",
    "#* @get /events",
    "function(req, res) faucet::stream(req, res, function(out) {",
    "  on.exit(file.create('ended'))",
    "  out$write('first\\n')",
    "  repeat {",
    "    Sys.sleep(0.05)",
    "    out$write('next\\n')",
    "  }",
    "})"
  ))
  local_worker(list(hub), dir)
  wait_for_slots(hub, 1)
  pid <- json(request(hub, "/pid"))$pid
  stream <- curl::curl(paste0(hub$url, "/events"), open = "rb")
  expect_identical(readLines(stream, 3), c("first", "next", "next"))
  close(stream)
  wait_until(file.exists(file.path(dir, "ended")))
  wait_for_slots(hub, 1)
  expect_identical(json(request(hub, "/pid"))$pid, pid)
})
