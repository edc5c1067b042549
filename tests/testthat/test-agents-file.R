# Two functions at two agents of a proxy, as one answers.
local_details <- function(env = parent.frame()) {
  local_answers(function(req) {
    list(status = 200L, headers = list("Content-Type" = "application/json"), body = paste0(
      '[{"name": "a", "status": "deployed", "atAgent": "localhost:9000"},',
      '{"name": "b", "status": "deployed", "atAgent": "localhost:9001"}]'
    ))
  }, env)
}

test_that("what there is to say of a function that is deployed is no failure", {
  skip_on_cran()
  local_answers(function(req) {
    list(status = 200L, headers = list("Content-Type" = "application/json"), body = paste0(
      '[{"name": "a", "status": "deployed", "version": 1, "note": "it is on 1 of 2 agents: there are no more"}]'
    ))
  })
  shown <- messages_of(deployed <- deploy(command = "cat", name = "a", replicas = 2))
  expect_identical(deployed$status, "deployed")
  expect_match(shown, "`a`: it is on 1 of 2 agents: there are no more", fixed = TRUE, all = FALSE)
})

test_that("a file names the agents whose functions are listed, as RYO-FaaS's list.json does", {
  skip_on_cran()
  local_details()
  file <- file.path(withr::local_tempdir(), "list.json")
  listed <- function(text) {
    writeLines(text, file)
    functions(at_agent = file)$name
  }
  expect_identical(listed('{"list": {"agentAddr": ["http://localhost:9000"]}}'), "a")
  expect_identical(listed('{"list": {"agentAddr": ["localhost:9000", "localhost:9001"]}}'), c("a", "b"))
  expect_identical(functions(at_agent = "localhost:9001")$name, "b")
  for (text in c("{", "[]", "3", '{"list": {}}', '{"list": {"agentAddr": []}}', '{"list": {"agentAddr": [1]}}')) {
    error <- expect_error(listed(text), class = "faucet_error_definition")
    expect_identical(error$file, file)
  }
  expect_error(functions(at_agent = "nosuch.json"), class = "faucet_error_option")
  expect_error(functions(at_agent = character()), class = "faucet_error_option")
})
