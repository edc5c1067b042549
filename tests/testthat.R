library(testthat)
library(faucet)

test_check("faucet")
