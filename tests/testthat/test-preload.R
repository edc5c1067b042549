skip_on_os(c("windows", "mac"))
skip_on_cran()

# The app is loaded once, by a template, and workers are forked from that.

local_preload <- function(dir, workers = 2, ..., env = parent.frame()) {
  server <- local_server(dir, workers = workers, preload = TRUE, worker_type = "auto", admin_port = 0, ..., env = env)
  wait_for_workers(server, workers)
  server
}

template <- function(server) {
  first_pool(request(server$admin_url, "/status"))$template
}

# NULL until there is one that is ready.
ready_template <- function(server, other_than = 0L) {
  found <- template(server)
  if (identical(found$state, "ready") && found$pid != other_than) found$pid
}

# What every worker says of itself, by its number: as many requests at once go to as many workers.
facts_of_all <- function(server, workers = 2) {
  wait_until(
    {
      clients <- crowd()
      for (i in seq_len(workers)) clients$add(server, paste0("/facts?ms=300&", i))
      facts <- lapply(clients$wait(), json)
      if (length(unique(vapply(facts, `[[`, 1L, "pid"))) == workers) facts[order(vapply(facts, `[[`, 1L, "worker"))]
    },
    what = "every worker to answer"
  )
}

of_all <- function(facts, name) unname(unlist(lapply(facts, `[[`, name)))

test_that("the app is loaded once, and each worker makes its own of what cannot be shared", {
  dir <- local_app("preload")
  server <- local_preload(dir, 3)
  status <- server$status()
  expect_identical(status$worker_type, rep("native", 3))
  expect_false(anyNA(status$boot))

  facts <- facts_of_all(server, 3)
  pid <- ready_template(server)
  expect_identical(list.files(dir, "^loaded-"), paste0("loaded-", pid))
  expect_identical(of_all(facts, "loaded"), rep(pid, 3))
  expect_false(pid %in% status$pid)
  expect_identical(of_all(facts, "pid"), status$pid)
  expect_identical(of_all(facts, "worker"), status$worker)
  # Shared.
  expect_length(unique(lapply(facts, `[[`, "shared")), 1)
  expect_length(unique(of_all(facts, "tempdir")), 1)
  expect_true(all(of_all(facts, "has_tempdir")))
  # Their own.
  expect_identical(of_all(facts, "own"), paste("made by", status$pid))
  expect_length(unique(of_all(facts, "random")), 3)
  expect_length(unique(of_all(facts, "port")), 3)
  expect_identical(unique(lapply(facts, `[[`, "order")), list(c("first", "second")))
  expect_identical(of_all(facts, "template"), rep("", 3))
})

test_that("a forked worker does all that others do", {
  dir <- local_app("preload")
  server <- local_preload(dir, 1, interrupt_timeout = 60)
  pid <- server$status()$pid
  # What the template has scheduled runs in the worker.
  wait_for_file(dir, paste0("tick-", pid))
  expect_identical(list.files(dir, "^tick-"), paste0("tick-", pid))
  expect_identical(request(server, "/later")$text, "in the end")
  expect_identical(request(server, "/events")$text, "data: 1\n\ndata: 2\n\ndata: 3\n\n")
  expect_identical(request(server, "/nosuch")$status, 404L)
  # It is interrupted when its client leaves.
  clients <- crowd()
  clients$add(server, "/wait?id=left", key = "left")
  wait_for_file(dir, "begun-left", clients)
  clients$leave("left")
  expect_identical(json(request(server, "/facts"))$pid, pid)
  expect_true(file.exists(file.path(dir, "ended-left")))
  # Also while `later` waits, whose code looks for interrupts by itself.
  clients$add(server, "/never?id=gone", key = "gone")
  wait_for_file(dir, "begun-gone", clients)
  clients$leave("gone")
  expect_identical(json(request(server, "/facts"))$pid, pid)
  # An error in a finalizer is R's own business.
  expect_identical(request(server, "/finalizer")$text, "went on")
  expect_identical(json(request(server, "/facts"))$pid, pid)
  expect_identical(server$status()$restarts, 0L)
})

test_that("an error that nobody takes ends a forked worker", {
  dir <- local_app("preload")
  write_code(dir, "plumber.R", c(
    readLines(file.path(dir, "plumber.R")),
    "faucet::after_fork(function() if (file.exists(\"broken\")) stop(\"it is broken\"))"
  ))
  server <- local_preload(dir, 1, quiet = FALSE)
  file.create(file.path(dir, "broken"))
  tools::pskill(server$status()$pid, sig[["kill"]])
  said <- messages_until(server, any(grepl("exited with status 1", seen)))
  expect_match(said, "Error .*it is broken", all = FALSE)
})

test_that("what forked workers and their template print is shown with their names", {
  dir <- local_app("preload")
  write_code(dir, "plumber.R", c("cat(\"printed by the template\\n\")", readLines(file.path(dir, "plumber.R"))))
  server <- NULL
  # The handle shows what there is when it is used, and the first lines come before.
  said <- character()
  withCallingHandlers(
    server <- local_preload(dir, 2, quiet = FALSE),
    message = function(message) {
      said <<- c(said, strsplit(conditionMessage(message), "\n")[[1]])
      tryInvokeRestart("muffleMessage")
    }
  )
  clients <- crowd()
  for (i in 1:2) clients$add(server, paste0("/say?text=hello", i))
  clients$wait()
  said <- c(said, messages_until(server, sum(grepl("hello", seen)) == 4))
  expect_match(grep("printed by the template", said, value = TRUE), "^\\[template\\] ")
  expect_match(grep("hello", said, value = TRUE), "^\\[worker [12]\\] to std(out|err): hello[12] ?$")
})

test_that("a killed worker is forked anew, recycled ones too, and scaling forks", {
  dir <- local_app("preload")
  server <- local_preload(dir, 2)
  before <- server$status()
  tools::pskill(before$pid[[1]], sig[["kill"]])
  wait_until(wait_for_workers(server, 2)$restarts[[1]] == 1L)
  after <- server$status()
  expect_false(after$pid[[1]] %in% before$pid)
  expect_identical(after$pid[[2]], before$pid[[2]])

  server$scale(4)
  facts <- facts_of_all(server, 4)
  expect_identical(of_all(facts, "loaded"), rep(ready_template(server), 4))
  expect_length(list.files(dir, "^loaded-"), 1)
  expect_length(unique(of_all(facts, "own")), 4)

  # Of those that leave the exit hooks run, and the folder that they shared stays.
  pids <- server$status()$pid
  server$scale(1)
  left <- wait_for_workers(server, 1)$pid
  gone <- setdiff(pids, left)
  wait_until_gone(gone)
  expect_true(all(file.exists(file.path(dir, c(paste0("exit-", gone), paste0("last-", gone))))))
  expect_true(json(request(server, "/facts"))$has_tempdir)
})

test_that("recycled workers are forked anew, without a failed request", {
  dir <- local_app("preload")
  server <- local_preload(dir, 1, max_requests = 5)
  pids <- integer()
  wait_until(
    {
      answer <- request(server, "/facts")
      expect_identical(answer$status, 200L)
      pids <<- union(pids, json(answer)$pid)
      length(pids) == 3
    },
    what = "the worker to be recycled twice"
  )
  expect_length(list.files(dir, "^loaded-"), 1)
})

test_that("when the template is killed, workers go on, and a new template comes", {
  dir <- local_app("preload")
  server <- local_preload(dir, 2)
  before <- server$status()$pid
  old <- ready_template(server)
  tools::pskill(old, sig[["kill"]])
  wait_until_gone(old)
  expect_setequal(of_all(facts_of_all(server), "pid"), before)
  new <- wait_until(ready_template(server, other_than = old))
  expect_setequal(of_all(facts_of_all(server), "pid"), before)
  expect_identical(server$status()$restarts, c(0L, 0L))

  # Orphans are seen to end, and forked from the new one.
  tools::pskill(before[[1]], sig[["kill"]])
  wait_until(wait_for_workers(server, 2)$restarts[[1]] == 1L)
  facts <- facts_of_all(server)
  expect_setequal(of_all(facts, "loaded"), c(old, new))
  server$stop()
  wait_until_gone(c(new, before))
})

test_that("kill -9 of the front leaves neither template nor worker behind", {
  dir <- local_app("preload")
  front <- local_front(dir, workers = 2L, preload = TRUE, worker_type = "auto")
  facts <- facts_of_all(front$url)
  pids <- c(of_all(facts, "pid"), unique(of_all(facts, "loaded")))
  expect_length(pids, 3)
  tempdir <- facts[[1]]$tempdir
  # One worker is idle, the other one works.
  clients <- crowd()
  clients$add(front$url, "/wait?id=1")
  wait_for_file(dir, "begun-1", clients)
  front$process$signal(sig[["kill"]])
  wait_until_gone(c(front$pid, pids))
  wait_until(!dir.exists(tempdir))
})

test_that("stop() runs the exit hooks of each worker, and ends the template", {
  dir <- local_app("preload")
  server <- local_preload(dir, 2)
  facts <- facts_of_all(server)
  pid <- ready_template(server)
  server$stop()
  pids <- of_all(facts, "pid")
  wait_until_gone(c(pid, pids))
  expect_true(all(file.exists(file.path(dir, c(paste0("exit-", pids), paste0("last-", pids))))))
  wait_until(!dir.exists(facts[[1]]$tempdir))
})

test_that("reload() loads the new code in a new template, and keeps the old one if that fails", {
  dir <- local_app("preload")
  server <- local_preload(dir, 2)
  before <- facts_of_all(server)
  old <- ready_template(server)
  good <- readLines(file.path(dir, "plumber.R"))

  write_code(dir, "plumber.R", c(good, "stop(\"broken on purpose\")"))
  error <- suppressMessages(expect_error(server$reload(), class = "faucet_error_reload"))
  expect_match(conditionMessage(error), "broken on purpose")
  expect_identical(ready_template(server), old)
  expect_setequal(of_all(facts_of_all(server), "pid"), of_all(before, "pid"))

  write_code(dir, "plumber.R", c(good, "#* @get /new", "#* @serializer text", "function() \"new\""))
  client <- local_client(server, "/facts")
  server$reload()
  expect_true(all(client$stop() == 200))
  expect_identical(request(server, "/new")$text, "new")
  after <- facts_of_all(server)
  new <- ready_template(server)
  expect_false(new == old)
  expect_identical(of_all(after, "loaded"), rep(new, 2))
  wait_until_gone(c(old, of_all(before, "pid")))
})

test_that("a template that cannot load the app fails the start, and leaves nothing behind", {
  dir <- local_code("plumber.R" = c("file.create(paste0(\"pid-\", Sys.getpid()))", "stop(\"no database\")"))
  error <- expect_error(local_preload(dir), class = "faucet_error_boot")
  expect_match(conditionMessage(error), "no database")
  pids <- as.integer(sub("^pid-", "", list.files(dir, "^pid-")))
  expect_length(pids, 1)
  wait_until_gone(pids)
})

test_that("an after_fork() that fails is a failed start of its worker", {
  dir <- local_code("plumber.R" = c(
    "faucet::after_fork(function() stop(\"no connection\"))", "#* @get /", "function() 1"
  ))
  error <- expect_error(local_preload(dir, 1, max_failures = 1), class = "faucet_error_boot")
  expect_match(conditionMessage(error), "no connection")
})

test_that("an app that cannot be forked is served by ordinary workers, unless native ones are asked for", {
  dir <- local_code("entrypoint.R" = c(
    "httpuv::runServer(\"127.0.0.1\", as.integer(Sys.getenv(\"FAUCET_PORT\")), list(",
    "  call = function(req) list(status = 200L, headers = list(), body = \"answered\"),",
    "  onWSOpen = function(ws) ws$close()",
    "))"
  ))
  server <- local_preload(dir)
  expect_identical(server$status()$worker_type, c("http", "http"))
  expect_identical(request(server, "/")$text, "answered")
  error <- expect_error(
    local_server(dir, workers = 1, preload = TRUE, worker_type = "native"), class = "faucet_error_boot"
  )
  expect_match(conditionMessage(error), "WebSockets")
})

test_that("a template that cannot be forked from says nothing untrue of its app", {
  dir <- local_code("entrypoint.R" = c(
    "app <- list(call = function(req) NULL, onWSOpen = function(ws) NULL)",
    "httpuv::runServer(\"127.0.0.1\", as.integer(Sys.getenv(\"FAUCET_PORT\")), app)",
    "message(\"goes on\")"
  ))
  withr::local_dir(dir)
  # Without a front, which would interrupt it as soon as it has said that it is unable.
  withr::local_envvar(
    FAUCET_TEMPLATE = "1", FAUCET_PORT = "1", FAUCET_LIB = getNamespaceInfo("faucet", "DLLs")[["faucet"]][["path"]],
    R_LIBS = paste(.libPaths(), collapse = ":")
  )
  worker <- system.file("worker", "worker.R", package = "faucet")
  said <- system2(file.path(R.home("bin"), "Rscript"), shQuote(worker), stdin = "/dev/null", stdout = TRUE, stderr = TRUE)
  expect_identical(as.character(said), "goes on")
})

test_that("a session's router can be preloaded", {
  value <- 6
  router <- plumber::pr_get(plumber::pr(), "/", function() value * 7, serializer = plumber::serializer_text())
  server <- faucet::run(app = router, workers = 2, port = 0, block = FALSE, quiet = TRUE, access_log = "none", preload = TRUE)
  withr::defer(suppressMessages(server$stop(timeout = 1)))
  expect_identical(request(server, "/")$text, "42")
})

test_that("without a template after_fork() runs at once", {
  ran <- FALSE
  expect_identical(withVisible(after_fork(function() ran <<- TRUE)), list(value = NULL, visible = FALSE))
  expect_true(ran)
  expect_error(after_fork("no function"), class = "faucet_error_option")

  dir <- local_app("preload")
  server <- local_server(dir, workers = 1)
  facts <- json(request(server, "/facts"))
  expect_identical(facts$own, paste("made by", facts$pid))
  expect_identical(facts$order, c("first", "second"))
})
