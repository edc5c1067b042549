test_that("what polls leave is collected now and then", {
  link <- list2env(list(collected = 100))
  gone <- FALSE
  leave <- function() {
    reg.finalizer(new.env(), function(environment) gone <<- TRUE)
    invisible()
  }
  collect_garbage(link, now = 100 + pause_between_collections - 1)
  expect_identical(link$collected, 100)
  leave()
  collect_garbage(link, now = 100 + pause_between_collections)
  expect_true(gone)
  expect_identical(link$collected, 100 + pause_between_collections)
})
