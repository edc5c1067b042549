skip_on_cran()

# With ready_path, a pod is used when it says that it is well.

test_that("a pod is not used before it is ready", {
  dir <- local_app("pod")
  dns <- local_dns()
  pods <- local_pods(2, dir)
  sick <- file.path(dir, paste0("sick-", pods[[2]]$address))
  file.create(sick)
  dns$set("api.test", addresses_of(pods))
  server <- local_k8s(paste0("http://api.test:", pods[[1]]$port), dns, ready_path = "/health")
  load <- local_load(server, clients = 4)
  load$wait_for(20)
  expect_identical(unique(begun(dir)$pod), pods[[1]]$address)
  file.remove(sick)
  wait_until(pods[[2]]$address %in% begun(dir)$pod)

  # Nor when it comes back.
  pods[[2]]$kill()
  wait_until(!state_of(server, pods[[2]]) %in% c("ready", "busy"))
  before <- nrow(begun(dir))
  file.create(sick)
  pods[[2]]$start()
  load$wait_for(20)
  expect_false(pods[[2]]$pid() %in% begun(dir)$pid)
  file.remove(sick)
  wait_until(pods[[2]]$pid() %in% begun(dir)$pid)
  answers <- load$stop()
  expect_lte(nrow(failed(answers)), 1)
  expect_identical(most_at_once(dir), 1L)
})
