# What users write is not in a package, as tests are.
home <- new.env(parent = globalenv())
at_home <- function(fun) {
  if (!is.primitive(fun) && isNamespace(topenv(environment(fun))) &&
    identical(getNamespaceName(topenv(environment(fun)))[[1]], "faucet")) {
    environment(fun) <- home
  }
  fun
}
home$helper <- at_home(function(x) deeper(x) + 1)
home$deeper <- at_home(function(x) x * 2)

# The folder, read again.
packed <- function(fun, name = "f", packages = character(), globals = list(), stream = FALSE, rds = FALSE) {
  fun <- at_home(fun)
  folder <- write_function(fun, name, packages, globals, stream, rds)
  withr::defer(unlink(folder, recursive = TRUE))
  list(about = jsonlite::read_json(file.path(folder, "function.json")), saved = readRDS(file.path(folder, "function.rds")))
}

digest_of <- function(fun, ...) {
  folder <- write_function(at_home(fun), "f", character(), list(...), FALSE, FALSE)
  archive <- tempfile()
  withr::defer(unlink(c(folder, archive), recursive = TRUE))
  check_result(bundle_pack(folder, archive))$digest
}

lacking <- function(fun, ...) {
  expect_error(packed(fun, ...), class = "faucet_error_function")
}

test_that("a function takes along what is said, and nothing else", {
  made <- packed(function(x) helper(x), globals = c("helper", "deeper"), rds = TRUE)
  expect_identical(names(made$saved$globals), c("deeper", "helper"))
  expect_identical(environment(made$saved$globals$helper), globalenv())
  expect_null(attr(made$saved$fun, "srcref"))
  expect_identical(made$about$r, as.character(getRversion()))
  expect_identical(made$about[c("format", "stream", "rds")], list(format = 1L, stream = FALSE, rds = TRUE))
  make <- at_home(function(k) function(x) x * k)
  expect_identical(packed(make(3), globals = "k")$saved$globals, list(k = 3))
})

test_that("packages go with their versions, those that code names among them", {
  made <- packed(function(x) jsonlite::toJSON(mle(x)), packages = "stats4")
  version <- as.character(utils::packageVersion("jsonlite"))
  # What comes with R has R's version.
  expect_identical(made$about$packages, list(jsonlite = version))
  expect_identical(made$about$attached, list("stats4"))
  within_code <- packed(function(x) {
    library(stats4)
    mle(x)
  })
  expect_identical(within_code$about$attached, list())
  folder <- write_function(at_home(function(x) x), "f", character(), list(), FALSE, FALSE)
  withr::defer(unlink(folder, recursive = TRUE))
  text <- readLines(file.path(folder, "function.json"))
  expect_match(text, '"packages":{}', fixed = TRUE)
  # A function of a package's is called there.
  expect_identical(names(packed(jsonlite::toJSON)$about$packages), "jsonlite")
})

test_that("what is lacking is named, with its line, wherever it is used", {
  error <- lacking(function(x) {
    y <- helper(x)
    y + konst %+% y$field
  })
  expect_setequal(error$name, c("helper", "konst", "%+%"))
  expect_identical(error$line[match(c("helper", "konst"), error$name)], 2:3)
  expect_match(conditionMessage(error), "`helper()` is used in line 2", fixed = TRUE)
  expect_match(conditionMessage(error), "is neither in `globals` nor in", fixed = TRUE)
  error <- lacking(function(x) helper(x), globals = "helper")
  expect_identical(error[c("name", "function", "line")], list(name = "deeper", `function` = "helper", line = 1L))
  # A default is code, too.
  expect_identical(lacking(function(x, y = konst) x)$name, "konst")
  expect_identical(lacking(function(x) mle(x))$name, "mle")
})

test_that("the file and the line in it are told", {
  file <- withr::local_tempfile(fileext = ".R")
  writeLines(c("# A comment", "", "f <- function(x) {", "  nosuch(x)", "}"), file)
  here <- new.env(parent = globalenv())
  source(file, local = here, keep.source = TRUE)
  expect_match(conditionMessage(lacking(here$f)), paste0("line 2 (", basename(file), ":4) of `f`"), fixed = TRUE)
})

test_that("what is there is not lacking", {
  expect_no_error(packed(function(x, n = 2) {
    inner <- function(y) if (y > 0) inner(y - 1) else n
    z <- with(mtcars, mpg + wt)
    w <- subset(x, some_column > 1)
    w <- subset(some_column > 1, x = base::transform(w, other = some_column), select = c(some_column, other))
    w <- within(data = w, rm(some_column))
    head(iris, inner(n)) + median(z) + LETTERS[[1]] + pi
  }))
  # Itself, by the name that it is deployed by.
  expect_no_error(packed(function(n) if (n < 2) 1 else n * f(n - 1)))
  expect_no_error(packed(function(x) x[1, ], globals = list()))
  expect_no_error(packed(function(x) lm(mpg ~ wt, data = x)))
})

test_that("a name that is no variable can be let be", {
  # Its data are a variable.
  expect_identical(lacking(function(x) subset(nosuch, some_column > 1))$name, "nosuch")
  expect_identical(lacking(function(x) base::with(some_column, data = nosuch))$name, "nosuch")
  error <- lacking(function(x) x[some_column > 1])
  expect_match(conditionMessage(error), "or let the name be by `globals = list(some_column = NULL)`", fixed = TRUE)
  made <- packed(function(x) x[some_column > 1], globals = list(some_column = NULL))
  expect_identical(made$saved$globals, list(some_column = NULL))
})

test_that("what cannot be taken along is refused", {
  expect_error(packed(sum), class = "faucet_error_function")
  expect_error(packed(identity, globals = "nosuch"), class = "faucet_error_function")
  expect_error(packed(identity, packages = "nosuch"), class = "faucet_error_function")
  expect_error(packed(identity, globals = list(input = stdin())), class = "faucet_error_function")
  expect_error(packed(identity, globals = list(1)), class = "faucet_error_option")
  expect_error(packed(identity, globals = 3), class = "faucet_error_option")
  expect_error(packed(identity, packages = 3), class = "faucet_error_option")
  expect_error(packed(function(x) 1, stream = TRUE), class = "faucet_error_function")
  expect_no_error(packed(function(input, output, n = 1) 1, stream = TRUE))
  error <- lacking(function(x) nosuchpackage::f(x))
  expect_identical(error[c("name", "line")], list(name = "nosuchpackage", line = 1L))
})

test_that("the same function makes the same bundle, however it is written and however often it ran", {
  f <- at_home(function(x) {
    g <- function(y) y + 1
    g(x)
  })
  first <- digest_of(f)
  for (i in 1:5) f(i)
  expect_identical(digest_of(f), first)
  # The same with spaces elsewhere.
  other <- function(x)   {
    g <- function(y)    y + 1
    g(x)

  }
  expect_identical(digest_of(other), first)
  expect_identical(digest_of(f, a = 1, b = 2), digest_of(f, b = 2, a = 1))
  expect_false(identical(digest_of(function(x) x), first))
})

test_that("errors show what to do", {
  withr::local_options(keep.source = FALSE)
  f <- eval(parse(text = "function(x) helper(x)", keep.source = FALSE))
  expect_snapshot_errors({
    packed(f)
    packed(sum)
    packed(identity, globals = 3)
  })
})
