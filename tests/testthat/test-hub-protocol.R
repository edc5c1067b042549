# A worker that was written from inst/protocol/slot.md alone.

test_that("a worker by the book serves GET, POST and HEAD on one connection", {
  hub <- local_hub()
  worker <- local_slot_worker(hub, "by-the-book")
  wait_for_slots(hub, 1)
  address <- hub$status()$address

  answer <- json(request(hub, "/x?y=1"))
  expect_identical(answer[c("path", "body")], list(path = "/x?y=1", body = ""))
  expect_identical(answer$pid, worker$pid)
  host <- sub("^http://", "", hub$url)
  told <- answer$headers[c("host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "faucet-wait")]
  expect_identical(unname(unlist(told)), c(host, "127.0.0.1", "http", host, "0"))
  expect_match(answer$headers$`x-request-id`, "^[0-9a-f]{32}$")

  expect_identical(json(request(hub, "/x", "POST", "a body"))$body, "a body")
  empty <- json(request(hub, "/x", "POST"))
  expect_identical(empty[c("body", "path")], list(body = "", path = "/x"))
  head <- request(hub, "/x", "HEAD")
  expect_identical(head$status, 200L)
  expect_gt(as.integer(head$headers$`content-length`), 0)
  expect_length(head$body, 0)
  body <- strrep("0123456789", 1e5)
  expect_identical(json(request(hub, "/x", "PUT", body))$body, body)

  status <- hub$status()
  expect_identical(status[c("name", "address", "requests")], data.frame(name = "by-the-book", address = address, requests = 5))
})

test_that("after Connection: close the worker dials again", {
  hub <- local_hub()
  worker <- local_slot_worker(hub)
  wait_for_slots(hub, 1)
  address <- hub$status()$address
  for (i in 1:3) {
    expect_identical(json(request(hub, "/last"))$pid, worker$pid)
  }
  wait_for_slots(hub, 1)
  expect_false(hub$status()$address == address)
})

test_that("a worker by the book that is killed at work costs one request, and no other", {
  hub <- local_hub()
  dies <- local_slot_worker(hub)
  wait_for_slots(hub, 1)
  clients <- crowd()
  clients$add(hub, "/work/60", key = "lost")
  wait_until(clients$step() && identical(hub$status()$state, "busy"), what = "the worker to be at work")
  clients$add(hub, "/next", key = "next")
  wait_until(clients$step() && waiting(hub) == 1)
  dies$process$kill()
  lost <- clients$wait("lost")$lost
  expect_identical(lost$status, 502L)
  expect_identical(lost$headers$`faucet-error`, "worker_died")
  lives <- local_slot_worker(hub)
  expect_identical(json(clients$wait("next")[["next"]])$pid, lives$pid)
})

test_that("a client that leaves costs its slot, which comes back when the worker is free", {
  hub <- local_hub()
  worker <- local_slot_worker(hub)
  wait_for_slots(hub, 1)
  clients <- crowd()
  clients$add(hub, "/work/1")
  wait_until(clients$step() && identical(hub$status()$state, "busy"), what = "the worker to be at work")
  clients$leave("/work/1")
  wait_for_slots(hub, 0)
  wait_for_slots(hub, 1)
  expect_identical(json(request(hub, "/x"))$pid, worker$pid)
})

test_that("the token opens the door for a worker by the book, and a route is its own", {
  hub <- local_hub(token = "open-sesame")
  stranger <- local_slot_worker(hub, token = "open-barley")
  wait_until(any(grepl("401", stranger$stderr())), what = "the stranger to be told")
  expect_match(stranger$stderr(), "the token is missing, or not the hub's", fixed = TRUE, all = FALSE)
  expect_identical(nrow(hub$status()), 0L)
  local_slot_worker(hub, "model", "/model-a", token = "open-sesame")
  wait_for_slots(hub, 1)
  answer <- json(request(hub, "/model-a/x"))
  expect_identical(answer$path, "/x")
  expect_identical(answer$headers$`x-forwarded-prefix`, "/model-a")
  expect_identical(request(hub, "/x")$status, 404L)
})

test_that("a worker by the book finds its hub again", {
  hub <- local_hub()
  worker <- local_slot_worker(hub)
  wait_for_slots(hub, 1)
  port <- as.integer(sub("^.*:", "", hub$worker_address))
  hub$stop()
  wait_until(any(grepl("once more", worker$stderr())), what = "the worker to miss its hub")
  again <- local_hub(worker_port = port)
  wait_for_slots(again, 1)
  expect_identical(json(request(again, "/x"))$pid, worker$pid)
})

# What follows is said by a slot in this session, word by word.

test_that("a request that meets a withdrawal goes to another slot, whatever its method", {
  hub <- local_hub()
  other <- local_slot_worker(hub)
  wait_for_slots(hub, 1)
  slot <- local_slot(hub$worker_address)
  wait_for_slots(hub, 2)
  # The slot that was offered last is used first.
  clients <- crowd()
  clients$add(hub, "/x", method = "POST", body = "a body")
  wait_until(clients$step() && socketSelect(list(slot), timeout = 0), what = "a request")
  send_lines(slot, c(
    "HTTP/1.1 503 Service Unavailable", "Faucet-Error: withdrawn", "Faucet-Busy: 1", "Faucet-Workers: 1", "Content-Length: 0",
    "Connection: close"
  ))
  answer <- json(clients$wait()[["/x"]])
  expect_identical(answer[c("pid", "body")], list(pid = other$pid, body = "a body"))
  wait_for_slots(hub, 1)
  # Nothing was on its way.
  slot <- local_slot(hub$worker_address)
  wait_for_slots(hub, 2)
  send_lines(slot, c("HTTP/1.1 503 Service Unavailable", "Faucet-Busy: 1", "Content-Length: 0", "Connection: close"))
  wait_for_slots(hub, 1)
})

refuse <- function(slot) {
  send_lines(slot, c("HTTP/1.1 503 Service Unavailable", "Faucet-Busy: 1", "Faucet-Workers: 1", "Content-Length: 0"))
}

asks_for_turn <- function(clients, slot) {
  wait_until(clients$step() && socketSelect(list(slot), timeout = 0), what = "to be asked for a turn")
  expect_identical(read_head(slot), c("GET /__faucet__/turn HTTP/1.1", "host: localhost", "faucet-wait: 0", ""))
}

test_that("a worker with a lock of its own refuses, and gives turns", {
  hub <- local_hub()
  slot <- local_slot(hub$worker_address)
  wait_for_slots(hub, 1)
  clients <- crowd()
  comes <- function() {
    wait_until(clients$step() && socketSelect(list(slot), timeout = 0), what = "a request")
    expect_identical(c(read_head(slot)[[1]], rawToChar(readBin(slot, "raw", 6))), c("POST /x HTTP/1.1", "a body"))
  }
  clients$add(hub, "/x", method = "POST", body = "a body")
  comes()
  refuse(slot)
  asks_for_turn(clients, slot)
  send_lines(slot, c("HTTP/1.1 503 Service Unavailable", "Faucet-Error: busy", "Faucet-Workers: 1", "Content-Length: 0"))
  asks_for_turn(clients, slot)
  send_lines(slot, c("HTTP/1.1 404 Not Found", "Faucet-Workers: 1", "Content-Length: 0"))
  comes()
  refuse(slot)
  asks_for_turn(clients, slot)
  send_lines(slot, c("HTTP/1.1 200 OK", "Faucet-Workers: 1", "Content-Length: 0"))
  comes()
  # Others wait: before the next request, there is a turn again.
  send_lines(slot, c("HTTP/1.1 200 OK", "Faucet-Busy: 1", "Faucet-Workers: 1", "Content-Length: 4"), "done")
  expect_identical(clients$wait()[["/x"]]$text, "done")

  clients$add(hub, "/y")
  wait_until(clients$step() && socketSelect(list(slot), timeout = 0), what = "a request")
  expect_identical(read_head(slot)[[1]], "GET /y HTTP/1.1")
  refuse(slot)
  asks_for_turn(clients, slot)
  clients$leave("/y")
  wait_until(waiting(hub) == 0)
  send_lines(slot, c("HTTP/1.1 200 OK", "Faucet-Workers: 1", "Content-Length: 0"))
  wait_until(socketSelect(list(slot), timeout = 0), what = "the turn to be given back")
  expect_identical(read_head(slot)[[1]], "GET /__faucet__/readyz HTTP/1.1")
  send_lines(slot, c("HTTP/1.1 404 Not Found", "Faucet-Workers: 1", "Content-Length: 0"))
  wait_for_slots(hub, 1)
  clients$add(hub, "/z")
  wait_until(clients$step() && socketSelect(list(slot), timeout = 0), what = "a request")
  expect_identical(answer_one(slot, "z")[[1]], "GET /z HTTP/1.1")
  expect_identical(clients$wait()[["/z"]]$text, "z")
})
