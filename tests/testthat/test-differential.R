skip_on_cran()
skip_on_os("windows")
# The requests have bytes of all kinds.
skip_if_not(l10n_info()$`UTF-8`)

# What a client gets from a native worker, whose plain routes are compiled, is what it gets from plumber by itself, byte for byte:
# random requests at random routers, made from seeds. `tools/differential` runs more. A failure says the smallest router and
# request that show it.

requests_each <- 200

for (seed in 1:6) {
  test_that(paste("a router gives the same answers natively as alone: seed", seed), {
    difference <- random_difference(seed, requests_each)
    expect_null(difference, info = paste(difference, collapse = "\n"))
  })
}

test_that("a router gives the same answers compiled, not compiled and alone", {
  difference <- random_difference(7, requests_each, c("plumber", "native", "uncompiled"))
  expect_null(difference, info = paste(difference, collapse = "\n"))
})

test_that("a worker prints the same whether its routes are compiled or not", {
  difference <- output_difference(8, requests_each)
  expect_null(difference, info = paste(difference, collapse = "\n"))
})

for (name in c("02-filters", "05-static", "11-car-inventory")) {
  test_that(paste("the example", name, "gives the same answers natively as alone"), {
    difference <- example_difference(name, 1, 100)
    expect_null(difference, info = paste(difference, collapse = "\n"))
  })
}
