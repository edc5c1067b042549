# Gates, but for what they do to offers.

no_link <- function(quiet = FALSE) list(quiet = quiet)

test_that("gates say what they ask for", {
  told <- gate_is_told("cpu") && gate_is_told("memory")
  skip_if_not(told, "the system does not tell")
  gates <- gate_cpu(0.5) & gate_memory("1.5GB") & gate(function() TRUE, strict = TRUE)
  expect_s3_class(gates, "faucet_gate")
  expect_identical(native_gates(gates), list(
    all = list(list(kind = "cpu", idle = 0.5), list(kind = "memory", free = 1.5 * 1024^3), list(kind = "asked")),
    strict = TRUE
  ))
  expect_identical(native_gates(NULL), list(all = list(), strict = FALSE))
  expect_identical(cli::ansi_strip(format(gates)), c(
    "<faucet_gate>",
    "  0.5 idle cores for each offer",
    "& 1.5 GB of free memory for each offer",
    "& function () TRUE says so",
    "strict: else not even one job is allowed"
  ))
  expect_output(print(gate_cpu(1)), "1 idle core for each offer", fixed = TRUE)
  expect_false(gate_cpu(1)$strict)
  expect_true((gate_cpu(1, strict = TRUE) & gate_memory())$strict)
})

test_that("what is no gate is an error that names the argument", {
  refused <- function(call, option) {
    error <- expect_error(call, class = "faucet_error_option")
    expect_identical(error$option, option)
  }
  for (bad in list(0, -1, Inf, NA, "1", NULL, c(1, 2))) refused(gate_cpu(bad), "idle")
  for (bad in list(0, -1, NA, "much", NULL, Inf)) refused(gate_memory(bad), "free")
  for (bad in list(TRUE, "f", NULL)) refused(gate(bad), "condition")
  refused(gate(), "condition")
  refused(gate(function() TRUE, strict = NA), "strict")
  refused(gate_cpu(1, strict = "yes"), "strict")
  refused(gate_cpu(1) & TRUE, "&")
  refused(identity & gate_cpu(1), "&")
  expect_error(faucet::run_worker("hub", gate = function() TRUE), "gate(f)", fixed = TRUE, class = "faucet_error_option")
})

test_that("a gate for more cores than there are says so", {
  expect_warning(gate_cpu(10000), "never opens", class = "faucet_warning_gate")
  expect_warning(gate_cpu(10000, strict = TRUE), "No request", class = "faucet_warning_gate")
})

test_that("conditions in R are asked about once a second, in turn", {
  now <- 100
  open <- TRUE
  told <- list()
  gates <- gate(function() open) & gate_memory(1) & gate(function() !open)
  ask_gates <- gatekeeper(no_link(), gates, function(number, open) told[[length(told) + 1]] <<- list(number, open))
  ask_gates()
  expect_identical(told, list(list(1L, TRUE), list(3L, FALSE)))
  open <- FALSE
  ask_gates()
  expect_length(told, 2)
  ask_gates(seconds_now() + 1.1)
  expect_identical(told[3:4], list(list(1L, FALSE), list(3L, TRUE)))
  # Nothing to ask.
  expect_silent(gatekeeper(no_link(), gate_memory(1))())
  expect_silent(gatekeeper(no_link(), NULL)())
})

test_that("a condition that fails closes its gate, and is told once per change", {
  answer <- function() stop("no\nluck")
  told <- NULL
  ask_gates <- gatekeeper(no_link(), gate(function() answer()), function(number, open) told <<- open)
  now <- seconds_now()
  said <- NULL
  again <- function() said <<- messages_of(ask_gates(now <<- now + 1000))
  again()
  expect_match(said, "The gate is closed: no luck", fixed = TRUE)
  expect_false(told)
  again()
  expect_length(said, 0)
  answer <- function() NA
  again()
  expect_match(said, "it must be TRUE or FALSE, not NA", fixed = TRUE)
  expect_false(told)
  answer <- function() TRUE
  again()
  expect_match(said, "works again", fixed = TRUE)
  expect_true(told)
  again()
  expect_length(said, 0)
  answer <- function() invisible(NULL)
  again()
  expect_match(said, "not NULL", fixed = TRUE)
  expect_false(told)
})

test_that("a condition that does not end is broken off", {
  answer <- ask(function() repeat Sys.sleep(0.01), patience = 0.1)
  expect_false(answer$open)
  expect_match(answer$trouble, "time limit")
  # It was only for that.
  expect_silent(Sys.sleep(0.2))
})

test_that("a condition that runs R's event loop is not asked within itself", {
  asked <- 0
  ask_gates <- NULL
  ask_gates <- gatekeeper(no_link(), gate(function() {
    asked <<- asked + 1
    ask_gates(Inf)
    TRUE
  }), function(number, open) NULL)
  ask_gates()
  expect_identical(asked, 1)
})
