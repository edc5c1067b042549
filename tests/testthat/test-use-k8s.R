# What use_k8s() writes, and whether its parts agree with each other. That Kubernetes takes it: tools/test-k8s.

written <- function(..., name = "quotes", env = parent.frame()) {
  dir <- local_app("basic", env = env)
  suppressMessages(use_k8s(dir, name, ...))
}

# The text without comments, which mention what is not set.
code_of <- function(file) grep("^ *#", readLines(file), value = TRUE, invert = TRUE)

documents <- function(file) {
  lines <- readLines(file)
  texts <- split(lines, cumsum(lines == "---"))
  lapply(unname(texts), function(text) yaml::yaml.load(paste(text[text != "---"], collapse = "\n")))
}

# All objects of the files, by kind and name: "Deployment/quotes-front".
objects <- function(files) {
  found <- unlist(lapply(grep("[.]yaml$", files, value = TRUE), documents), recursive = FALSE)
  rlang::set_names(found, vapply(found, function(object) paste0(object$kind, "/", object$metadata$name), ""))
}

pod <- function(deployment) deployment$spec$template$spec
container <- function(deployment) pod(deployment)$containers[[1]]

ports_of <- function(deployment) {
  ports <- container(deployment)$ports
  rlang::set_names(
    vapply(ports, function(port) port$containerPort, 1L), vapply(ports, function(port) port$name, "")
  )
}

env_of <- function(deployment) {
  env <- Filter(function(variable) !is.null(variable$value), container(deployment)$env)
  rlang::set_names(
    lapply(env, function(variable) variable$value), vapply(env, function(variable) variable$name, "")
  )
}

seconds <- function(deployment, name) as.numeric(env_of(deployment)[[paste0("FAUCET_", name)]])
pre_stop <- function(deployment) {
  command <- container(deployment)$lifecycle$preStop$exec$command
  stopifnot(identical(command[[1]], "sleep"))
  as.numeric(command[[2]])
}
patience <- function(probe) probe$periodSeconds * probe$failureThreshold

test_that("the files go into k8s, and their paths come back invisibly", {
  dir <- local_app("basic")
  result <- withVisible(suppressMessages(use_k8s(dir, "quotes")))
  expect_false(result$visible)
  expect_identical(result$value, file.path(dir, "k8s", k8s_files()))
  expect_setequal(list.files(file.path(dir, "k8s"), all.files = TRUE, no.. = TRUE), k8s_files())
  expect_setequal(k8s_files(), list.files(system.file("k8s", package = "faucet"), all.files = TRUE, no.. = TRUE))
})

test_that("the installed files are what use_k8s() writes for an API called hello", {
  files <- written(name = "hello")
  for (file in files) {
    installed <- system.file("k8s", basename(file), package = "faucet")
    expect_identical(readLines(file), readLines(installed), info = basename(file))
  }
})

test_that("name, image and replicas are filled in, and nothing of the example stays", {
  files <- written(image = "registry.example.org:5000/team/q:2.1", replicas = 6)
  all <- unlist(lapply(files, readLines))
  expect_false(any(grepl("hello", all, ignore.case = TRUE)))
  expect_false(any(grepl("replicas: (4|16)$", all, ignore.case = TRUE)))

  all <- objects(files)
  expect_setequal(names(all), c(
    "Service/quotes-workers", "Deployment/quotes-workers", "PodDisruptionBudget/quotes-workers",
    "NetworkPolicy/quotes-workers", "Service/quotes", "Deployment/quotes-front", "PodDisruptionBudget/quotes-front",
    "HorizontalPodAutoscaler/quotes-workers"
  ))
  expect_identical(container(all[["Deployment/quotes-workers"]])$image, "registry.example.org:5000/team/q:2.1")
  expect_identical(container(all[["Deployment/quotes-front"]])$image, "registry.example.org:5000/team/q-front:2.1")
  expect_identical(all[["Deployment/quotes-workers"]]$spec$replicas, 6L)
  expect_identical(all[["Deployment/quotes-front"]]$spec$replicas, 2L)
  expect_identical(all[["HorizontalPodAutoscaler/quotes-workers"]]$spec$minReplicas, 6L)
  expect_identical(all[["HorizontalPodAutoscaler/quotes-workers"]]$spec$maxReplicas, 24L)
})

test_that("what was filled in is not taken for the example's name", {
  files <- written(image = "registry.example.org/hello:1")
  all <- objects(files)
  expect_identical(container(all[["Deployment/quotes-workers"]])$image, "registry.example.org/hello:1")
  expect_identical(container(all[["Deployment/quotes-front"]])$image, "registry.example.org/hello-front:1")
})

test_that("an image has the API's name and a tag unless it is told otherwise", {
  image <- function(...) container(objects(written(...))[["Deployment/quotes-workers"]])$image
  expect_identical(image(), "quotes:1")
  expect_identical(image(image = "localhost:5000/a"), "localhost:5000/a:1")
  expect_identical(image(image = "a/b:v1.2-3"), "a/b:v1.2-3")
})

test_that("selectors find the pods that they mean, and no others", {
  all <- objects(written())
  for (which in c("workers", "front")) {
    deployment <- all[[paste0("Deployment/quotes-", which)]]
    labels <- deployment$spec$template$metadata$labels
    expect_identical(labels[["app.kubernetes.io/component"]], which)
    expect_identical(deployment$spec$selector$matchLabels, labels)
    expect_identical(deployment$metadata$labels, labels)
    expect_identical(all[[paste0("PodDisruptionBudget/quotes-", which)]]$spec$selector$matchLabels, labels)
    expect_identical(pod(deployment)$topologySpreadConstraints[[1]]$labelSelector$matchLabels, labels)
    service <- all[[if (which == "front") "Service/quotes" else "Service/quotes-workers"]]
    expect_identical(service$spec$selector, labels)
  }
  scaler <- all[["HorizontalPodAutoscaler/quotes-workers"]]
  expect_true(paste0(scaler$spec$scaleTargetRef$kind, "/", scaler$spec$scaleTargetRef$name) %in% names(all))
  # Prometheus' names of the front's labels.
  front <- all[["Deployment/quotes-front"]]$spec$template$metadata$labels
  names(front) <- gsub("[./]", "_", names(front))
  for (metric in scaler$spec$metrics) expect_identical(metric$external$metric$selector$matchLabels, front)
})

test_that("ports agree: of probes, services, settings, metrics and the front's URL", {
  all <- objects(written())
  for (name in c("Deployment/quotes-workers", "Deployment/quotes-front")) {
    deployment <- all[[name]]
    ports <- ports_of(deployment)
    env <- env_of(deployment)
    expect_named(ports, c("http", "admin"))
    expect_identical(env$FAUCET_PORT, paste(ports[["http"]]))
    expect_identical(env$FAUCET_ADMIN_PORT, paste(ports[["admin"]]))
    # Whoever asks is not in the pod.
    expect_identical(env$FAUCET_HOST, "0.0.0.0")
    expect_identical(env$FAUCET_ADMIN_HOST, "0.0.0.0")
    expect_identical(deployment$spec$template$metadata$annotations[["prometheus.io/port"]], paste(ports[["admin"]]))
    for (probe in c("startupProbe", "readinessProbe", "livenessProbe")) {
      expect_identical(container(deployment)[[probe]]$httpGet$port, "admin", info = paste(name, probe))
    }
  }
  expect_identical(all[["Service/quotes"]]$spec$ports[[1]]$targetPort, "http")

  # Headless: the name is the pods', and so is the port.
  workers <- all[["Service/quotes-workers"]]
  port <- ports_of(all[["Deployment/quotes-workers"]])[["http"]]
  expect_identical(workers$spec$clusterIP, "None")
  expect_identical(workers$spec$ports[[1]], list(name = "http", port = port, targetPort = "http"))
  expect_identical(
    env_of(all[["Deployment/quotes-front"]])$API_URL,
    paste0("http://quotes-workers.$(POD_NAMESPACE).svc.cluster.local.:", port)
  )
})

test_that("a variable is set before another one mentions it", {
  env <- container(objects(written())[["Deployment/quotes-front"]])$env
  names <- vapply(env, function(variable) variable$name, "")
  expect_identical(env[[match("POD_NAMESPACE", names)]]$valueFrom$fieldRef$fieldPath, "metadata.namespace")
  expect_lt(match("POD_NAMESPACE", names), match("API_URL", names))
})

test_that("probes ask faucet itself, and only readiness depends on R", {
  all <- objects(written())
  for (deployment in all[c("Deployment/quotes-workers", "Deployment/quotes-front")]) {
    expect_identical(container(deployment)$livenessProbe$httpGet$path, "/__faucet__/livez")
    expect_identical(container(deployment)$readinessProbe$httpGet$path, "/__faucet__/readyz")
  }
  workers <- all[["Deployment/quotes-workers"]]
  expect_identical(container(workers)$startupProbe$httpGet$path, "/__faucet__/readyz")
  expect_gt(patience(container(workers)$startupProbe), setting_definitions()$boot_timeout$default)
  # A front is up before its first pod is.
  front <- all[["Deployment/quotes-front"]]
  expect_identical(container(front)$startupProbe$httpGet$path, "/__faucet__/livez")
  expect_gte(patience(container(front)$readinessProbe), seconds(front, "QUEUE_TIMEOUT"))
})

test_that("there is time to drain", {
  all <- objects(written())
  workers <- all[["Deployment/quotes-workers"]]
  front <- all[["Deployment/quotes-front"]]
  for (deployment in list(workers, front)) {
    # 5 s are for R's exit hooks.
    needed <- pre_stop(deployment) + seconds(deployment, "SHUTDOWN_TIMEOUT") + 5
    expect_gt(pod(deployment)$terminationGracePeriodSeconds, needed)
    expect_identical(deployment$spec$strategy$rollingUpdate$maxUnavailable, 0L)
  }
  expect_gte(seconds(workers, "SHUTDOWN_TIMEOUT"), seconds(workers, "TIMEOUT"))
  expect_gte(seconds(front, "SHUTDOWN_TIMEOUT"), seconds(front, "QUEUE_TIMEOUT") + seconds(front, "TIMEOUT"))
  # A pod that is late shall say so itself.
  expect_gt(seconds(front, "TIMEOUT"), seconds(workers, "TIMEOUT"))
  # 30 s in the cluster's DNS, and 5 s at least between the front's lookups.
  expect_gt(workers$spec$minReadySeconds, 35)
  expect_gt(pre_stop(workers), 35)
})

test_that("the pods give turns to the fronts, and are left to them", {
  all <- objects(written())
  policy <- all[["NetworkPolicy/quotes-workers"]]
  pods <- all[["Deployment/quotes-workers"]]
  expect_identical(policy$spec$podSelector$matchLabels, pods$spec$template$metadata$labels)
  fronts <- policy$spec$ingress[[1]]
  expect_identical(fronts$from[[1]]$podSelector$matchLabels, all[["Deployment/quotes-front"]]$spec$template$metadata$labels)
  expect_identical(fronts$ports[[1]]$port, "http")
  expect_null(policy$spec$ingress[[2]]$from)
  expect_identical(policy$spec$ingress[[2]]$ports[[1]]$port, "admin")
  expect_identical(env_of(pods)$FAUCET_FRONTS, paste(private_ranges, collapse = ","))

  dir <- local_app("basic")
  files <- suppressMessages(use_k8s(dir, "quotes", fronts = c("10.244.0.0/16", "fd00::/8")))
  env <- env_of(objects(files)[["Deployment/quotes-workers"]])
  expect_identical(env$FAUCET_FRONTS, "10.244.0.0/16,fd00::/8")
  expect_identical(env$FAUCET_TRUSTED_PROXIES, "10.244.0.0/16,fd00::/8")
  for (wrong in list(1, character(), NA_character_, "pods", "10.0.0.0/33", "a,b")) {
    error <- expect_error(use_k8s(dir, "other", fronts = wrong), class = "faucet_error_option")
    expect_identical(error$option, "fronts")
  }
})

test_that("every FAUCET_ variable is a setting, with a value that it takes", {
  all <- objects(written())
  for (which in c("workers", "front")) {
    env <- env_of(all[[paste0("Deployment/quotes-", which)]])
    definitions <- settings_of(if (which == "front") "run_k8s" else "run")
    for (variable in grep("^FAUCET_", names(env), value = TRUE)) {
      name <- tolower(sub("^FAUCET_", "", variable))
      expect_true(name %in% names(definitions), info = variable)
      if (name %in% names(definitions)) {
        value <- parse_setting(env[[variable]], definitions[[name]])
        expect_no_error(check_setting(value, name, definitions[[name]], "variable"))
      }
    }
  }
})

test_that("what runs has no rights, and a place for its files", {
  files <- written()
  all <- objects(files)
  for (which in c("workers", "front")) {
    deployment <- all[[paste0("Deployment/quotes-", which)]]
    dockerfile <- files[basename(files) == (if (which == "front") "front.Dockerfile" else "api.Dockerfile")]
    user <- grep("^USER ", readLines(dockerfile), value = TRUE)
    expect_identical(user[[length(user)]], paste("USER", pod(deployment)$securityContext$runAsUser))
    expect_true(pod(deployment)$securityContext$runAsNonRoot)
    expect_false(pod(deployment)$enableServiceLinks)
    expect_false(pod(deployment)$automountServiceAccountToken)
    security <- container(deployment)$securityContext
    expect_true(security$readOnlyRootFilesystem)
    expect_false(security$allowPrivilegeEscalation)
    mount <- container(deployment)$volumeMounts[[1]]
    expect_identical(mount$mountPath, "/tmp")
    expect_named(pod(deployment)$volumes[[1]], c("name", "emptyDir"))
    expect_identical(pod(deployment)$volumes[[1]]$name, mount$name)
  }
  base <- readLines(system.file("docker/Dockerfile", package = "faucet"))
  expect_true(any(grepl("--uid 10001 ", base, fixed = TRUE)))
})

test_that("the images run R in exec form, with code that parses", {
  files <- written()
  for (file in grep("[.]Dockerfile$", files, value = TRUE)) {
    lines <- code_of(file)
    command <- sub("^CMD ", "", grep("^CMD ", lines, value = TRUE))
    expect_length(command, 1)
    command <- yaml::yaml.load(command)
    expect_identical(command[1:2], c("Rscript", "-e"))
    code <- parse(text = command[[3]], keep.source = FALSE)[[1]]
    expect_identical(as.character(code[[1]])[[2]], "faucet")
  }
})

test_that("files that exist stay as they are, all of them", {
  dir <- local_app("basic")
  dir.create(file.path(dir, "k8s"))
  mine <- file.path(dir, "k8s", "api.yaml")
  writeLines("mine", mine)
  error <- expect_error(suppressMessages(use_k8s(dir, "quotes")), class = "faucet_error_exists")
  expect_s3_class(error, "faucet_error")
  expect_identical(error$files, mine)
  expect_match(conditionMessage(error), "k8s/api.yaml", fixed = TRUE)
  expect_identical(list.files(file.path(dir, "k8s")), "api.yaml")
  expect_identical(readLines(mine), "mine")

  files <- suppressMessages(use_k8s(dir, "quotes", overwrite = TRUE))
  expect_true(all(file.exists(files)))
  expect_false(identical(readLines(mine), "mine"))
})

test_that("a name must be one that Kubernetes takes, also for what is derived from it", {
  dir <- local_app("basic")
  for (bad in list(
    "Quotes", "1quotes", "-quotes", "quotes-", "quo_tes", "quo.tes", "quotes ", "quotes\n", "", "null", "on", strrep("a", 56),
    NA_character_, 1, c("a", "b")
  )) {
    error <- expect_error(use_k8s(dir, bad), class = "faucet_error_option", info = deparse(bad))
    expect_identical(error$option, "name")
  }
  expect_false(dir.exists(file.path(dir, "k8s")))

  for (good in c("q", "quo-tes", "q1", strrep("a", 55))) {
    expect_no_error(files <- suppressMessages(use_k8s(dir, good, overwrite = TRUE)))
    names <- sub("^.*/", "", names(objects(files)))
    expect_true(all(nchar(names) <= 63))
  }
})

test_that("the name is by default that of the directory, made one that Kubernetes takes", {
  parent <- withr::local_tempdir()
  names <- c(
    quotes = "quotes", "Sales_2" = "sales-2", "2024" = "api-2024", "_x_" = "x", on = "api-on", "..." = "api",
    "\u00e9t\u00e9" = "t", strrep("a", 80)
  )
  names(names)[[8]] <- strrep("a", 80)
  names[[8]] <- strrep("a", 55)
  for (name in names(names)) {
    dir <- file.path(parent, name)
    dir.create(dir)
    file.copy(file.path(local_app("basic"), "plumber.R"), dir)
    files <- suppressMessages(use_k8s(dir))
    expect_true(paste0("Service/", names[[name]]) %in% names(objects(files)), info = name)
  }
  withr::local_dir(file.path(parent, "Sales_2"))
  expect_true("Service/sales-2" %in% names(objects(suppressMessages(use_k8s(overwrite = TRUE)))))
})

test_that("other arguments are checked before anything is written", {
  dir <- local_app("basic")
  option <- function(...) {
    expect_error(use_k8s(dir, "quotes", ...), class = "faucet_error_option")$option
  }
  for (bad in list("A", "a:", "a@sha256:00", "a b", "a/", "/a", "", NA_character_, 1, c("a", "b"))) {
    expect_identical(option(image = bad), "image", info = deparse(bad))
  }
  for (bad in list(0, 1.5, "four", NA, NULL)) expect_identical(option(replicas = bad), "replicas", info = deparse(bad))
  expect_identical(option(overwrite = NA), "overwrite")
  expect_error(use_k8s(file.path(dir, "nosuch"), "quotes"), class = "faucet_error_dir")
  expect_error(use_k8s(withr::local_tempdir(), "quotes"), class = "faucet_error_dir")
  expect_false(dir.exists(file.path(dir, "k8s")))
})

test_that("it says what it wrote, what to do next, and what is wrong", {
  dir <- local_app("basic")
  hide <- function(lines) gsub(dir, "<dir>", lines, fixed = TRUE)
  withr::local_dir(dir)
  expect_snapshot_messages(transform = hide, {
    use_k8s(name = "quotes")
    use_k8s(name = "quotes", image = "registry.example.org/team/quotes:2", overwrite = TRUE)
  })
  file.remove(file.path("k8s", setdiff(k8s_files(), "hpa.yaml")))
  expect_snapshot_errors(transform = hide, {
    use_k8s(name = "quotes")
    use_k8s(name = "My_Quotes")
    use_k8s(name = "on")
    use_k8s(name = "quotes", image = "Quotes@sha256:00")
    use_k8s(name = "quotes", replicas = 0)
  })
})
