help_of <- function(verb) {
  withr::local_options(width = 80)
  verb_help(cli_verbs()[[verb]])
}

test_that("the program tells its verbs and its exit status", {
  withr::local_options(width = 80)
  expect_shown(c(main_help(cli_verbs()), ""))
})

test_that("verbs tell their options", {
  shown <- unlist(lapply(c("routes", "invoke", "deploy", "log", "call", "secret", "init"), function(verb) {
    c(paste("$ faucet", verb, "--help"), help_of(verb), "")
  }))
  expect_shown(shown)
})

test_that("what is in R's words on the help page is in a shell's words here", {
  for (verb in names(cli_verbs())) {
    lines <- help_of(verb)
    expect_true(all(nchar(lines) <= 88))
    expect_no_match(lines, "NULL|c\\(|TRUE`|\\[run|`--|run_[a-z]+\\(", info = verb)
  }
  expect_true(any(grepl("--workers 1:8", help_of("run"), fixed = TRUE)))
})
