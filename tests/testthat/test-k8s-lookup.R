skip_on_cran()

# Names, and what they lead to.

test_that("each address of a name is a worker", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(3, dir)
  server <- local_api(dns, pods)
  status <- server$status()
  expect_setequal(status$address, paste0(addresses_of(pods), ":", pods[[1]]$port))
  expect_identical(status$slots, c(1L, 1L, 1L))
  lookup <- server$lookup()
  expect_identical(lookup$url, paste0("http://api.test:", pods[[1]]$port))
  expect_identical(lookup$state, "ok")
  expect_identical(lookup$addresses, 3L)
  expect_s3_class(lookup$since, "POSIXct")

  clients <- crowd()
  for (i in 1:3) clients$add(server, paste0("/hold?id=", i))
  wait_until(clients$step() && nrow(begun(dir)) == 3)
  expect_setequal(begun(dir)$pod, addresses_of(pods))
  for (i in 1:3) release(dir, i)
  clients$wait()
})

test_that("a new address gets requests once somebody is there", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(2, dir, start = FALSE)
  start_pods(pods[1])
  server <- local_api(dns, pods[1])
  load <- local_load(server)
  # Kubernetes names a pod before it serves.
  dns$set("api.test", addresses_of(pods))
  wait_until(server$lookup()$addresses == 2L)
  load$wait_for(10)
  start_pods(pods[2])
  wait_until(pods[[2]]$address %in% begun(dir)$pod)
  answers <- load$stop()
  expect_identical(failed(answers), answers[0, ])
  expect_identical(most_at_once(dir), 1L)
})

test_that("a vanished address ends its request and gets nothing new", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(2, dir)
  server <- local_api(dns, pods)
  clients <- crowd()
  hold(clients, server, dir, "last")
  busy <- addresses_of(pods) == begun(dir)$pod
  dns$set("api.test", addresses_of(pods[!busy]))
  wait_until(clients$step() && identical(state_of(server, pods[busy][[1]]), "draining"))
  for (i in 1:5) {
    expect_identical(json(request(server, paste0("/work?id=", i)))$pod, pods[!busy][[1]]$address)
  }
  release(dir, "last")
  expect_identical(clients$wait()$last$status, 200L)
  wait_for_pods(server, pods[!busy])
  expect_identical(nrow(server$status()), 1L)
})

test_that("a vanished address that comes back serves again", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(2, dir)
  server <- local_api(dns, pods)
  clients <- crowd()
  hold(clients, server, dir, "first")
  busy <- addresses_of(pods) == begun(dir)$pod
  dns$set("api.test", addresses_of(pods[!busy]))
  wait_until(clients$step() && identical(state_of(server, pods[busy][[1]]), "draining"))
  # While its request is still in flight: that process must not get a second one.
  dns$set("api.test", addresses_of(pods))
  wait_until(server$lookup()$addresses == 2L)
  load <- local_load(server, clients = 4)
  load$wait_for(20)
  expect_identical(unique(begun(dir)$pod[begun(dir)$id != "first"]), addresses_of(pods[!busy]))
  release(dir, "first")
  expect_identical(clients$wait()$first$status, 200L)
  wait_until(sum(begun(dir)$pod == addresses_of(pods[busy])) > 1)
  answers <- load$stop()
  expect_identical(failed(answers), answers[0, ])
  expect_identical(most_at_once(dir), 1L)
})

lookups <- function(server, outcome) {
  metric(read_metrics(server$admin_url), "faucet_lookups_total", sprintf("outcome=\"%s\"", outcome))
}

ready_page <- function(server) {
  page <- request(server, "/__faucet__/readyz")
  c(list(status = page$status), first_pool(page)$lookup)
}

test_that("nothing fails while DNS is down, and log, status and readiness tell", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(2, dir)
  suppressMessages(server <- local_api(dns, pods, admin_port = 0, quiet = FALSE))
  load <- local_load(server)
  since <- server$lookup()$since
  told <- messages_of({
    dns$stop()
    wait_until(server$lookup()$state == "failed")
    lookup <- server$lookup()
    expect_gt(as.numeric(lookup$since), as.numeric(since))
    expect_match(lookup$message, "[a-z]")
    expect_identical(lookup$addresses, 2L)
    page <- ready_page(server)
    expect_identical(page$status, 200L)
    expect_identical(page$state, "failed")
    expect_identical(first_pool(request(server$admin_url, "/status"))$lookup$state, "failed")

    # A server that is there and does not know: now lookups fail quickly. One line tells of all of them.
    dns$start(knows = FALSE)
    wait_until(lookups(server, "failed") > 5)
    server$is_running()
  })
  expect_length(grep("api.test", told, fixed = TRUE), 1)
  load$wait_for(100)
  dns$stop()$start()
  wait_until(server$lookup()$state == "ok")
  answers <- load$stop()
  suppressMessages(server$is_running())
  expect_identical(failed(answers), answers[0, ])
  expect_setequal(answers$pod, addresses_of(pods))
  expect_identical(ready_page(server)$state, "ok")
  expect_gt(lookups(server, "ok"), 1)
})

test_that("nothing fails when DNS knows no address any more, and log, status and readiness tell", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(2, dir)
  suppressMessages(server <- local_api(dns, pods, admin_port = 0, quiet = FALSE))
  load <- local_load(server)
  told <- messages_of({
    dns$empty("api.test")
    wait_until(lookups(server, "empty") > 2)
    server$is_running()
  })
  expect_length(grep("api.test", told, fixed = TRUE), 1)
  expect_identical(server$lookup()$state, "empty")
  expect_identical(server$lookup()$addresses, 2L)
  page <- ready_page(server)
  expect_identical(page$status, 200L)
  expect_identical(page$state, "empty")
  expect_gte(lookups(server, "empty"), 1)
  load$wait_for(50)

  # There is not even the name: all of its pods are gone, as far as Kubernetes' DNS knows.
  dns$remove("api.test")
  asked <- dns$asked("api.test")
  wait_until(dns$asked("api.test") > asked + 1)
  expect_identical(server$lookup()$state, "empty")
  load$wait_for(50)
  dns$set("api.test", addresses_of(pods))
  wait_until(server$lookup()$state == "ok")
  answers <- load$stop()
  expect_identical(failed(answers), answers[0, ])
  expect_identical(nrow(server$status()), 2L)
})

test_that("SRV records give hosts and ports", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- c(local_pods(1, dir), local_pods(1, dir))
  for (i in 1:2) dns$set(paste0("pod-", i, ".api.test"), pods[[i]]$address)
  targets <- paste0("pod-", 1:2, ".api.test:", c(pods[[1]]$port, pods[[2]]$port))
  dns$srv("_http._tcp.api.test", targets)
  server <- local_k8s("srv+http://_http._tcp.api.test", dns)
  wait_for_pods(server, pods)
  expect_setequal(server$status()$address, paste0(addresses_of(pods), ":", c(pods[[1]]$port, pods[[2]]$port)))
  expect_identical(request(server, "/pid")$status, 200L)

  dns$srv("_http._tcp.api.test", targets[[2]])
  wait_for_pods(server, pods[2])
  expect_identical(json(request(server, "/pid"))$pid, pods[[2]]$pid())
})

test_that("a name with IPv6 addresses only is reached by them", {
  skip_if_not(has_address("::1"), "no IPv6 here")
  dns <- local_dns()
  pods <- local_pods(1, local_app("pod"), addresses = "::1")
  server <- local_api(dns, pods)
  expect_identical(json(request(server, "/pid"))$pod, "::1")
})

test_that("of a name with addresses of both kinds, those of IPv4 count", {
  skip_if_not(has_address("::1"), "no IPv6 here")
  dns <- local_dns()
  pod <- local_pods(1, local_app("pod"), addresses = "::")[[1]]
  dns$set("api.test", c("127.0.0.1", "::1"))
  server <- local_k8s(paste0("http://api.test:", pod$port), dns)
  expect_identical(host_of(server$status()$address), "127.0.0.1")
  expect_identical(server$lookup()$addresses, 1L)
  expect_identical(json(request(server, "/pid"))$pid, pod$pid())
})

test_that("reload() looks at once", {
  dns <- local_dns()
  pods <- local_pods(2, local_app("pod"))
  server <- local_api(dns, pods[1], refresh = 3600)
  dns$set("api.test", addresses_of(pods))
  expect_identical(withVisible(server$reload()), list(value = server, visible = FALSE))
  wait_for_pods(server, pods)
})

test_that("a refused connection is a reason to look at once, but not again and again", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(2, dir)
  server <- local_api(dns, pods[1], refresh = 3600)
  asked <- dns$asked("api.test")
  begun <- Sys.time()
  dns$set("api.test", addresses_of(pods[2]))
  pods[[1]]$kill()
  answer <- request(server, "/pid")
  expect_identical(json(answer)$pod, pods[[2]]$address)

  # Nobody is at that address: at most one lookup a second, however many requests and attempts there are.
  dns$set("api.test", addresses_of(pods[1]))
  pods[[2]]$kill()
  clients <- crowd()
  for (i in 1:20) clients$add(server, paste0("/work?id=", i))
  start_pods(pods[1])
  answers <- clients$wait()
  expect_identical(unique(vapply(answers, `[[`, 1L, "status")), 200L)
  seconds <- as.numeric(Sys.time()) - as.numeric(begun)
  expect_lte(dns$asked("api.test") - asked, floor(seconds) + 2)
})

# In a mount namespace of its own, a front finds other files in /etc.
local_etc_front <- function(url, resolv_conf, hosts, env = parent.frame()) {
  files <- withr::local_tempdir(.local_envir = env)
  writeLines(resolv_conf, file.path(files, "resolv.conf"))
  writeLines(hosts, file.path(files, "hosts"))
  script <- paste(
    "mount --bind", file.path(files, "resolv.conf"), "/etc/resolv.conf && mount --bind", file.path(files, "hosts"),
    "/etc/hosts && exec", file.path(R.home("bin"), "Rscript"), "-e \"$1\""
  )
  code <- sprintf(
    "faucet::run_k8s(\"%s\", host = \"127.0.0.1\", port = 0, refresh = 0.2, access_log = \"none\", boot_timeout = 20)", url
  )
  process <- processx::process$new(
    "unshare", c("--mount", "sh", "-c", script, "sh", code),
    stdout = NULL, stderr = file.path(files, "stderr"),
    env = c("current", R_LIBS = paste(.libPaths(), collapse = .Platform$path.sep), R_TESTS = "")
  )
  withr::defer(if (process$is_alive()) process$kill(), envir = env)
  wait_until_ready(list(
    process = process, pid = process$get_pid(),
    stderr = function() if (file.exists(file.path(files, "stderr"))) readLines(file.path(files, "stderr"), warn = FALSE)
  ))
}

can_mount <- function() {
  nzchar(Sys.which("unshare")) &&
    processx::run("unshare", c("--mount", "mount", "--bind", tempdir(), "/mnt"), error_on_status = FALSE)$status == 0
}

test_that("without the setting `dns`, the system's files say whom to ask, and for which name", {
  skip_on_os(c("windows", "mac", "solaris"))
  skip_if_not(can_mount(), "mounting files takes privileges")
  dir <- local_app("pod")
  pods <- local_pods(2, dir)
  # As in a cluster: short names, to be looked for in some domains, and names with less than five dots first there.
  dns <- local_dns(listen = paste0(sub("[.][0-9]+$", "", pods[[1]]$address), ".53:53"))
  dns$set("api.default.svc.test", pods[[1]]$address)
  resolv_conf <- c(
    paste("nameserver", sub(":53$", "", dns$address)), "search nosuch.svc.test default.svc.test svc.test", "options ndots:5"
  )
  hosts <- c("127.0.0.1 localhost", paste(pods[[2]]$address, "from-hosts"))
  urls <- paste0("http://", c("api", "api.default.svc.test", "api.default", "from-hosts"), ":", pods[[1]]$port)
  fronts <- lapply(urls, local_etc_front, resolv_conf, hosts, env = environment())
  found <- vapply(fronts, function(front) json(request(front$url, "/pid"))$pod, "")
  expect_identical(found, addresses_of(pods)[c(1, 1, 1, 2)])
})
