test_that("citation() tells authors, year and version, and warns of nothing", {
  expect_no_warning(entry <- utils::citation("faucet"))
  expect_length(entry, 1)
  expect_match(entry$year, "^[0-9]{4}$")
  expect_match(entry$note, as.character(utils::packageVersion("faucet")), fixed = TRUE)
  expect_identical(format(entry$author), "The faucet authors")
})
