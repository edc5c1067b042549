# Machines that dial hubs.

test_that("requests at a hub are served by the workers that dialled in, one each at a time", {
  hub <- local_hub()
  dir <- local_app("basic")
  worker <- local_worker(list(hub), dir, workers = 2, name = "box")
  wait_for_slots(hub, 2)
  clients <- crowd()
  hold(clients, hub, dir, "a")
  hold(clients, hub, dir, "b")
  clients$add(hub, "/hold?id=c", key = "c")
  wait_until(clients$step() && waiting(hub) == 1)
  expect_false(file.exists(file.path(dir, "begun-c")))
  for (id in c("a", "b", "c")) release(dir, id)
  expect_identical(unique(vapply(clients$wait(), function(answer) answer$status, 1L)), 200L)
  expect_identical(unique(hub$status()$name), "box")

  expect_null(worker$url)
  shown <- cli::ansi_strip(format(worker))
  expect_identical(shown[[1]], "<faucet_server> without clients of its own")
  expect_match(shown, paste("slots are offered to", hub$worker_address), all = FALSE)
  expect_output(str(worker), "running: 2 workers", fixed = TRUE)
  expect_error(worker$add_pool("/a", dir), class = "faucet_error_unsupported")
  worker$scale(1)
  wait_for_slots(hub, 1)
  worker$stop()
  wait_for_slots(hub, 0)
})

test_that("it is said and shown to which hubs slots are offered, and what is wrong with one", {
  hub <- local_hub()
  nobody <- paste0("127.0.0.1:", free_port())
  said <- messages_of({
    worker <- local_worker(c(hub$worker_address, nobody), local_app("basic"), quiet = FALSE)
    wait_until(identical(is.na(worker$lookup()$trouble), c(TRUE, FALSE)))
    wait_until(worker$lookup()$offers[[1]] == 1)
    shown <- cli::ansi_strip(format(worker))
    lookup <- worker$lookup()
    worker$stop()
  })
  expect_match(said, paste0("1 worker: slots are offered to ", hub$worker_address, ", ", nobody), all = FALSE)
  expect_match(shown, paste0("^hub ", nobody, ": "), all = FALSE)
  expect_identical(lookup$hub, c(hub$worker_address, nobody))
  expect_identical(lookup$address, lookup$hub)
  expect_identical(lookup$offers, c(1L, 0L))
  expect_identical(lookup$connections, c(1L, 0L))
})

test_that("two hubs get answers from the same workers, which also serve clients of their own", {
  hubs <- list(local_hub(), local_hub())
  worker <- local_worker(hubs, local_app("basic"), port = 0, route = "/work")
  expect_match(worker$url, "^http://127.0.0.1:")
  for (hub in hubs) wait_for_slots(hub, 1)
  expect_identical(hubs[[1]]$status()$pool, "/work")
  pids <- c(
    vapply(hubs, function(hub) json(request(hub, "/work/pid"))$pid, 1L),
    json(request(worker, "/pid"))$pid
  )
  expect_length(unique(pids), 1)
})

test_that("a token opens the door, and a wrong one does not", {
  hub <- local_hub(token = "open-sesame")
  dir <- local_app("basic")
  said <- character()
  messages_of(
    {
      stranger <- local_worker(list(hub), dir, token = "open-barley", quiet = FALSE)
      wait_until({
        stranger$is_running()
        any(grepl("401", said))
      })
    },
    function(lines) said <<- c(said, lines)
  )
  expect_no_match(said, "barley")
  expect_identical(nrow(hub$status()), 0L)
  local_worker(list(hub), dir, token = "open-sesame")
  wait_for_slots(hub, 1)
})

test_that("a condition in R opens and closes the door", {
  hub <- local_hub()
  dir <- local_app("basic")
  open <- FALSE
  worker <- local_worker(list(hub), dir, workers = 2, gate = gate(function() open, strict = TRUE))
  wait_for_workers(worker, 2)
  later::run_now()
  expect_identical(slots(hub), 0L)
  open <- TRUE
  wait_for_slots(hub, 2)
  open <- FALSE
  wait_for_slots(hub, 0)
  # That R is idle is not needed: so it is in `$wait()`.
  open <- TRUE
  wait_until({
    worker$wait(0.3)
    slots(hub) == 2
  })
})

test_that("one job is allowed though the gate is closed", {
  hub <- local_hub()
  dir <- local_app("basic")
  worker <- local_worker(list(hub), dir, workers = 2, gate = gate(function() FALSE))
  wait_for_workers(worker, 2)
  wait_for_slots(hub, 1)
  clients <- crowd()
  hold(clients, hub, dir, "a")
  clients$add(hub, "/hold?id=b", key = "b")
  wait_until(clients$step() && waiting(hub) == 1)
  expect_false(file.exists(file.path(dir, "begun-b")))
  for (id in c("a", "b")) release(dir, id)
  expect_identical(unique(vapply(clients$wait(), function(answer) answer$status, 1L)), 200L)
})

test_that("gates of the machine let work in, and keep it out", {
  skip_if_not(gate_is_told("memory"), "the system does not tell")
  hub <- local_hub()
  dir <- local_app("basic")
  local_worker(list(hub), dir, gate = gate_memory("100000GB", strict = TRUE))
  open <- local_worker(list(hub), dir, route = "/open", gate = gate_memory(1))
  wait_for_slots(hub, 1)
  expect_identical(hub$status()$pool, "/open")
})

test_that("TERM takes the offers back at once, and lets work end", {
  hub <- local_hub()
  dir <- local_app("basic")
  code <- sprintf("faucet::run_worker(\"%s\", \"%s\", workers = 2)", hub$worker_address, dir)
  machine <- local_rscript(code)
  wait_for_slots(hub, 2)
  clients <- crowd()
  hold(clients, hub, dir, "a")
  machine$process$signal(tools::SIGTERM)
  wait_for_slots(hub, 1)
  expect_true(machine$process$is_alive())
  release(dir, "a")
  expect_identical(clients$wait()$a$status, 200L)
  expect_identical(wait_for_exit(machine), 0L)
  wait_for_slots(hub, 0)
  expect_match(machine$stderr(), "Stopped", all = FALSE)
})

test_that("a hub that dies is dialled again when it is back, and the other is served meanwhile", {
  hubs <- list(local_hub(), local_hub())
  dir <- local_app("basic")
  address <- hubs[[1]]$worker_address
  local_worker(hubs, dir, workers = 1)
  for (hub in hubs) wait_for_slots(hub, 1)
  hubs[[1]]$stop()
  expect_identical(request(hubs[[2]], "/pid")$status, 200L)
  again <- local_hub(worker_port = as.integer(sub("^.*:", "", address)))
  wait_for_slots(again, 1)
  expect_identical(request(again, "/pid")$status, 200L)
})

test_that("a hub with TLS is dialled at tls://, by those who trust it", {
  certificates <- local_certificates()
  file <- function(name) file.path(certificates, name)
  hub <- local_hub(tls = list(cert = file("cert.pem"), key = file("key.pem")), token = "open-sesame")
  address <- paste0("tls://", hub$worker_address)
  dir <- local_app("basic")
  local_worker(address, dir, ca = file("ca.pem"), token = "open-sesame", name = "friend")
  wait_for_slots(hub, 1)
  expect_identical(hub$status()$name, "friend")
  doubter <- local_worker(address, dir, token = "open-sesame", name = "doubter")
  wait_until(isTRUE(grepl("certificate", doubter$lookup()$trouble, ignore.case = TRUE)))
  plain <- local_worker(list(hub), dir, token = "open-sesame", name = "plain")
  wait_until(isTRUE(!is.na(plain$lookup()$trouble)))
  expect_identical(hub$status()$name, "friend")
})
