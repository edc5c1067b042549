test_that("no snapshot holds a condition in a form that changes with testthat's version", {
  files <- list.files(test_path("_snaps"), "[.]md$", full.names = TRUE)
  expect_gt(length(files), 0)
  for (file in files) {
    # Above a condition's text, in expect_snapshot()'s own words.
    own <- grep("^    (Condition|Error|Warning|Message)( <.*>)?$", readLines(file), value = TRUE)
    expect_identical(own, character(), info = basename(file))
  }
})
