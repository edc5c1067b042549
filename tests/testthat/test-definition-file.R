# A file of that name, and a folder `model` beside it.
local_definitions <- function(name, text, env = parent.frame()) {
  dir <- normalizePath(withr::local_tempdir(.local_envir = env))
  dir.create(file.path(dir, "model"))
  file.create(file.path(dir, "model", "plumber.R"))
  file <- file.path(dir, name)
  writeLines(text, file)
  file
}

# What is sent of a file.
definitions <- function(name, text, env = parent.frame()) {
  lapply(read_definitions(local_definitions(name, text, env)), `[[`, "definition")
}

test_that("functions by name, in YAML", {
  file <- local_definitions("functions.yaml", c(
    "functions:", "  sed:", "    command: [sed, -n]", "    options: e", "    max_body: 1MB",
    "  model:", "    dir: model", "    file: plumber.R", "    workers: [0, 4]", "    env: {LANG: C}"
  ))
  made <- read_definitions(file)
  expect_identical(made[[1]]$definition, list(
    name = "sed", command = I(c("sed", "-n")), options = I("e"), maxBody = 1024^2
  ))
  expect_null(made[[1]]$folder)
  expect_identical(made[[2]]$folder, file.path(dirname(file), "model"))
  expect_false(made[[2]]$is_made)
  expect_identical(
    as_json(made[[2]]$definition), '{"name":"model","filePath":"plumber.R","workers":[0,4],"env":{"LANG":"C"}}'
  )
})

test_that("RYO-FaaS's deploy.json", {
  found <- definitions("deploy.json", '{"deploy": [
    {"packageDir": "/src/method1", "name": "Method1", "filePath": "/src/method1/method1.R", "agentAddr": ["localhost:9000"]},
    {"packageDir": "/src/method2", "name": "Method2", "filePath": "/src/method2/method2.R", "agentAddr": ["a:9000", "b:9000"]}
  ]}')
  expect_identical(found[[1]], list(
    dir = "/src/method1", name = "Method1", filePath = "/src/method1/method1.R", agentAddr = I("localhost:9000")
  ))
  expect_identical(found[[2]][c("name", "replicas")], list(name = "Method2", replicas = 2L))
  expect_null(found[[2]]$agentAddr)
})

test_that("the folder of the file itself, and paths of files as RYO-FaaS has them", {
  file <- local_definitions("a.yaml", c("- name: a", "  dir: .", "  file: model/plumber.R", "  timeout: 1.5"))
  made <- read_definitions(file)[[1]]
  expect_identical(made$folder, dirname(file))
  expect_identical(made$definition, list(name = "a", filePath = "model/plumber.R", timeout = 1.5))
  found <- definitions("a.json", '{"deploy": [{"packageDir": "./model", "name": "a", "filePath": "./model/plumber.R"}]}')
  expect_identical(found[[1]]$filePath, "plumber.R")
})

test_that("a file that is not in its folder is refused", {
  file <- local_definitions("a.json", "")
  withr::local_file(file.path(dirname(file), "other.R"), code = file.create(file.path(dirname(file), "other.R")))
  file.symlink(file.path(dirname(file), "other.R"), file.path(dirname(file), "model", "link.R"))
  for (path in c("../other.R", "/etc/passwd", "nosuch.R", "link.R", "../model", ".", "")) {
    writeLines(sprintf('{"name": "a", "dir": "model", "filePath": "%s"}', path), file)
    error <- expect_error(read_definitions(file), class = "faucet_error_definition")
    expect_identical(error$field, "filePath")
    folder <- file.path(dirname(file), "model")
    expect_error(deploy(folder, "a", file = path), class = "faucet_error_option")
  }
})

test_that("an array, or one function alone", {
  expect_identical(definitions("a.json", '[{"name": "a", "command": "cat"}]')[[1]]$command, I("cat"))
  expect_identical(definitions("a.json", '{"name": "a", "url": "http://a"}')[[1]]$url, "http://a")
  expect_identical(definitions("a.yml", c("- name: a", "  command: cat"))[[1]]$name, "a")
})

test_that("a file that cannot be used says why", {
  bad <- function(name, text) expect_error(definitions(name, text), class = "faucet_error_definition")
  bad("a.json", "{")
  bad("a.yaml", "a: [")
  bad("a.json", "3")
  bad("a.json", "{}")
  bad("a.yaml", "functions: []")
  bad("a.yaml", "functions: {a: 3}")
  error <- bad("a.json", '[{"name": "a", "dir": "nosuch"}]')
  expect_identical(error$field, "dir")
  expect_match(conditionMessage(error), "a.json: `a`: There is no folder", fixed = TRUE)
  expect_identical(bad("a.json", '[{"command": "cat"}]')$field, "name")
  expect_identical(bad("a.json", '[{"name": "a", "file": "a", "filePath": "b"}]')$field, "filePath")
  expect_match(
    conditionMessage(bad("a.json", '[{"name": "a", "command": "cat"}, {"name": "a", "command": "cat"}]')),
    "two functions called `a`", fixed = TRUE
  )
  # Nobody's code is run.
  expect_no_error(definitions("a.yaml", c("- name: a", "  command: !expr stop('no')")))
  expect_error(deploy("nosuch.yaml"), class = "faucet_error_option")
  expect_error(deploy("nosuch.yaml", workers = 2), class = "faucet_error_option")
})

test_that("the folder of the file itself is written as a dot", {
  expect_identical(parse_yaml("dir: .\nup: ..\ntimeout: 1.5"), list(dir = ".", up = "..", timeout = 1.5))
})
