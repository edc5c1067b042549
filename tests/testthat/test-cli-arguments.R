parse <- function(verb, ...) parse_arguments(c(...), cli_verbs()[[verb]])

usage_error <- function(code) {
  error <- expect_error(code, class = "faucet_error_usage")
  conditionMessage(error)
}

test_that("flags have values of their settings' types", {
  given <- parse(
    "run", "api", "--workers", "1:8", "--port=0", "--preload", "--no-cancel", "--timeout", "1.5", "--max-body=16MB",
    "--trusted-proxies", "10.0.0.1,10.0.0.2", "--trusted-proxies", "unix:", "--worker-type", "native", "--queue-timeout", "Inf"
  )
  expect_identical(given$operands, "api")
  expect_null(given$rest)
  expect_identical(given$values[c("workers", "port", "preload", "cancel", "timeout")], list(
    workers = c(1, 8), port = 0, preload = TRUE, cancel = FALSE, timeout = 1.5
  ))
  expect_identical(given$values$max_body, "16MB")
  expect_identical(given$values$trusted_proxies, c("10.0.0.1", "10.0.0.2", "unix:"))
  expect_identical(given$values$queue_timeout, Inf)
  # As run() takes them.
  expect_silent(resolve_settings(given$values, "run"))
  expect_identical(parse("run", "--preload=no")$values, list(preload = FALSE))
  expect_identical(parse("run", "--no-preload=false")$values, list(preload = TRUE))
  expect_identical(parse("deploy", "--env", "A=1=2", "--env", "B=")$values$env, c(A = "1=2", B = ""))
  expect_identical(parse("log", "sed", "-n", "5", "-f")$values, list(n = 5, follow = TRUE))
})

test_that("each setting of a verb is a flag of it", {
  verbs <- c(run = "run", k8s = "run_k8s", hub = "run_hub", worker = "run_worker", agent = "run_agent", proxy = "run_proxy")
  for (verb in names(verbs)) {
    flags <- cli_verbs()[[verb]]$flags()
    own <- c("dir", "service_url", "gate_cpu", "gate_memory")
    expect_setequal(setdiff(vapply(flags, `[[`, "", "name"), own), names(settings_of(verbs[[verb]])))
    names <- vapply(flags, `[[`, "", "flag")
    expect_identical(anyDuplicated(names), 0L)
    expect_match(names, "^--[a-z][a-z0-9-]+$")
  }
})

test_that("each argument of deploy() and invoke() that a shell can give is a flag", {
  flags <- function(verb) vapply(cli_verbs()[[verb]]$flags(), `[[`, "", "name")
  expect_setequal(
    setdiff(names(formals(deploy)), c("fn", "command", "packages", "globals", "rds")),
    setdiff(flags("deploy"), c("ca", "insecure", "json"))
  )
  expect_setequal(
    setdiff(names(formals(invoke)), c("name", "...", "rds", "method", "options")),
    setdiff(flags("invoke"), c("ca", "insecure", "json", "accept", "call_id"))
  )
})

test_that("what another program gets is behind two dashes", {
  given <- parse("deploy", "--name", "sed", "--", "sed", "-n", "--posix", "--")
  expect_identical(given$values, list(name = "sed"))
  expect_identical(given$rest, c("sed", "-n", "--posix", "--"))
  expect_identical(given$operands, character())
  expect_match(usage_error(parse("list", "--", "x")), "takes nothing behind", fixed = TRUE)
  expect_true(asks_for_help(c("x", "--help")))
  expect_false(asks_for_help(c("--name", "x", "--", "tr", "--help")))
})

test_that("the files of tls are parts of one setting", {
  file <- withr::local_tempfile(lines = "x")
  given <- parse("run", "--tls-cert", file, "--tls-key", file)
  expect_identical(given$values, list(tls = list(cert = file, key = file)))
  expect_match(usage_error(parse("run", "--tls-cert", "nosuch.pem")), "--tls-cert: there is no file nosuch.pem", fixed = TRUE)
})

test_that("tokens are read from files, and are no arguments", {
  file <- withr::local_tempfile(lines = c("secret", "more"))
  expect_identical(parse("list", "--token-file", file)$values, list(token = "secret"))
  message <- usage_error(parse("list", "--token", "secret"))
  expect_match(message, "--token-file FILE, or in the environment as FAUCET_TOKEN", fixed = TRUE)
  expect_no_match(message, "secret", fixed = TRUE)
  expect_match(usage_error(parse("agent", "--call-token=x")), "FAUCET_CALL_TOKEN", fixed = TRUE)
  empty <- withr::local_tempfile(lines = "")
  expect_match(usage_error(parse("list", "--token-file", empty)), "is no token", fixed = TRUE)
  expect_match(usage_error(parse("list", "--token-file", "/nonexistent/x")), "cannot be read", fixed = TRUE)
})

test_that("what is wrong is named, with what may have been meant", {
  shown <- unlist(lapply(list(
    c("run", "--worker", "4"), c("run", "--workers", "x"), c("run", "--workers"), c("run", "--workers", "--port"),
    c("run", "--port", "70000"), c("run", "--port", "1", "--port", "2"), c("run", "--preload=maybe"), c("run", "-x"),
    c("run", "--timeout", "soon"), c("run", "--max-body", "big"), c("worker", "--gate-cpu", "none"), c("worker", "a", "b", "c"),
    c("log"), c("list", "x"), c("k8s", "a", "b"), c("deploy", "--env", "x")
  ), function(arguments) {
    c(paste("$ faucet", paste(arguments, collapse = " ")), usage_error(parse(arguments[[1]], arguments[-1])), "")
  }))
  expect_shown(shown)
})

test_that("a verb that there is not is named, with what may have been meant", {
  expect_match(usage_error(find_verb("invok", cli_verbs())), "Did you mean `invoke`?", fixed = TRUE)
  expect_match(usage_error(find_verb("--workers", cli_verbs())), "Options follow a verb", fixed = TRUE)
  expect_identical(find_verb("local", cli_verbs())$name, "run")
})

test_that("further operands of invoke are options, which are quoted where a chain needs it", {
  expect_identical(chain_of("sed e=x | to-upper"), "sed e=x | to-upper")
  expect_identical(chain_of(c("sed", "e=s/a b/'c'/", "n=3")), "sed e='s/a b/\\'c\\'/' n='3'")
  expect_identical(chain_of(c("a", "|", "b")), "a | b")
})
