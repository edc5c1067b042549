# Everything at once, and then nothing of it is left. What one client, worker or operator may do alone is tested elsewhere.

skip_on_cran()

# A front whose R session scales when a number of workers is in the file `orders`.
stormy_front <- function(dir, worker, env = parent.frame()) {
  code <- paste0(
    "server <- faucet::run('", dir, "', workers = 3, worker_type = '", worker, "', port = 0, admin_port = 0, timeout = 5, ",
    "header_timeout = 2, idle_timeout = 5, block = FALSE); ",
    "writeLines(server$admin_url, 'admin.new'); file.rename('admin.new', 'admin'); ",
    "while (!server$wait(timeout = 0.1)) if (file.exists('orders')) { ",
    "  n <- as.integer(readLines('orders')); file.remove('orders'); server$scale(n) }"
  )
  front <- wait_until_ready(local_rscript(code, wd = dir, env = env))
  wait_until(file.exists(file.path(dir, "admin")))
  front$admin_url <- readLines(file.path(dir, "admin"))
  front
}

# Processes whose working directory is `dir`, as that of workers is.
processes_in <- function(dir) {
  pids <- grep("^[0-9]+$", list.files("/proc"), value = TRUE)
  as.integer(pids[vapply(pids, function(pid) identical(Sys.readlink(file.path("/proc", pid, "cwd")), dir), NA)])
}

descriptors_of <- function(pid) list.files(file.path("/proc", pid, "fd"))

weather <- function(front, dir, worker) {
  status <- function() {
    if (!front$process$is_alive()) stop(paste(c("The front has ended:", tail(front$stderr(), 5)), collapse = "\n"))
    jsonlite::fromJSON(request(front$admin_url, "/status")$text)$workers
  }
  all_ready <- function(n) {
    wait_until(
      {
        workers <- status()
        nrow(workers) == n && all(workers$state == "ready")
      },
      what = paste(n, "workers to be ready")
    )
  }
  calm <- function() {
    all_ready(3)
    length(descriptors_of(front$pid))
  }
  order <- function(n) {
    writeLines(format(n), file.path(dir, "orders.new"))
    file.rename(file.path(dir, "orders.new"), file.path(dir, "orders"))
  }
  # Every worker has had a request, and the front a connection to it.
  for (i in 1:2) worker_pids_at_work(front, 3)
  before <- calm()

  load <- local_load(front$url, path = "/work?ms=10", clients = 4)
  hostile <- hostile_clients(front$url)
  for (round in 1:4) {
    hostile$act()
    # A worker of type `http` knows no interrupt: it is held until `timeout`, and replaced.
    if (worker == "native" || round == 1) hostile$loop()
    hostile$crash(if (round %% 2 == 0) "quit" else "kill")
    switch(round, NULL, tools::pskill(front$pid, sig[["hup"]]), order(4), order(3))
    load$wait_for(50)
  }
  all_ready(3)
  answers <- load$stop()
  expect_identical(nrow(failed(answers)), 0L, info = paste(capture.output(print(failed(answers))), collapse = "\n"))
  expect_true(front$process$is_alive())

  hostile$leave()
  wait_until(calm() <= before, what = "as many descriptors as before")
  worker_pids_at_work(front, 3)

  workers <- setdiff(processes_in(dir), front$pid)
  expect_gte(length(workers), 3)
  tools::pskill(front$pid, tools::SIGTERM)
  expect_identical(wait_for_exit(front), 0L)
  wait_until_gone(workers)
  expect_identical(processes_in(dir), integer())
}

worker_pids_at_work <- function(front, n) {
  wait_until(
    {
      clients <- crowd()
      for (i in seq_len(n)) clients$add(front, paste0("/work?ms=300&", i))
      length(unique(vapply(clients$wait(), function(response) json(response)$pid, 1L))) == n
    },
    what = "every worker to answer"
  )
}

test_that("a storm leaves native workers, and the front, as they were", {
  skip_if_not(dir.exists("/proc/self/fd"))
  dir <- normalizePath(local_app("storm"))
  file.remove(file.path(dir, "sockets.R"))
  weather(stormy_front(dir, "native"), dir, "native")
})

test_that("a storm leaves workers of type http, and the front, as they were", {
  skip_if_not(dir.exists("/proc/self/fd"))
  dir <- normalizePath(local_app("storm"))
  file.rename(file.path(dir, "sockets.R"), file.path(dir, "entrypoint.R"))
  weather(stormy_front(dir, "http"), dir, "http")
})
