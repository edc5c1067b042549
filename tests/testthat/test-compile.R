# Which routes of a router are compiled, and why another is not.

skip_if_not_installed("plumber")

# The reasons, by method and path; "" for what is compiled.
reasons <- function(router) {
  routes <- compile_router(router)$routes
  expect_identical(routes$compiled, is.na(routes$why))
  why <- ifelse(routes$compiled, "", routes$why)
  stats::setNames(as.list(why), paste(routes$method, routes$path))
}

plumbed <- function(...) {
  file <- withr::local_tempfile(fileext = ".R")
  writeLines(c(...), file)
  plumber::pr(file)
}

test_that("plain routes are compiled", {
  router <- plumber::pr()
  router <- plumber::pr_get(router, "/a", function() 1)
  router <- plumber::pr_post(router, "/a.b/<n:int>/<x>", function(req, res, n, x, ...) 1)
  router <- plumber::pr_handle(router, c("GET", "PUT"), "/c", function(req) 1, serializer = plumber::serializer_text())
  router <- plumber::pr_get(router, "/d", function(res) res, serializer = asNamespace("plumber")$serializer_identity())
  expect_identical(reasons(router), list("GET /a" = "", "POST /a.b/<n:int>/<x>" = "", "GET, PUT /c" = "", "GET /d" = ""))
})

test_that("an app that is no router has no routes", {
  expect_null(compile_router(list(call = function(req) NULL)))
})

test_that("a hook of the router concerns all of its routes", {
  router <- plumber::pr_get(plumber::pr(), "/a", function() 1)
  router <- plumber::pr_hook(router, "preroute", function(req) NULL)
  expect_identical(reasons(router), list("GET /a" = "the router has a hook: preroute"))
  leaving <- plumber::pr_get(plumber::pr(), "/a", function() 1)
  leaving <- plumber::pr_hook(leaving, "exit", function() NULL)
  expect_identical(reasons(leaving), list("GET /a" = ""))
})

test_that("a filter concerns what comes after it", {
  router <- plumbed(
    "#* @filter logger", "function(req) plumber::forward()",
    "#* @get /after", "function() 1",
    "#* @preempt logger", "#* @get /before", "function() 1",
    "#* @preempt queryString", "#* @get /first", "function() 1"
  )
  inner <- plumber::pr_get(plumber::pr(), "/x", function() 1)
  router$mount("/in", inner)
  expect_identical(reasons(router), list(
    "GET /first" = "plumber's filter `queryString` does not come before it",
    "GET /before" = "",
    "GET /after" = "filter `logger` comes before it",
    "GET /in/x" = "filter `logger` comes before it"
  ))
})

test_that("a mounted router has its own reasons", {
  inner <- plumber::pr_get(plumber::pr(), "/x", function() 1)
  inner <- plumber::pr_filter(inner, "own", function() plumber::forward())
  bare <- plumber::pr_get(plumber::pr(filters = NULL), "/y", function() 1)
  router <- plumber::pr_mount(plumber::pr_mount(plumber::pr(), "/in", inner), "/bare/", bare)
  router <- plumber::pr_static(router, "/files", withr::local_tempdir())
  expect_identical(reasons(router), list(
    "GET /in/x" = "filter `own` comes before it",
    "GET /bare/y" = "",
    " /files/" = "it serves files, or is a router of another kind"
  ))
  expect_identical(reasons(bare), list("GET /y" = "plumber's filter `queryString` does not come before it"))
})

test_that("handlers, serializers and parsers of other kinds are plumber's", {
  plumber::register_serializer("test-own", function() function(val, req, res, ...) val, verbose = FALSE)
  plumber::register_parser("test-own", function() function(value, ...) value, fixed = "x/y", verbose = FALSE)
  router <- plumbed(
    "#* @get /promise", "function() promises::promise_resolve(1)",
    "#* @get /then", "function() { p %...>% print }",
    "#* @get /forward", "function() forward()",
    "#* @get /primitive", "sum",
    "#* @serializer test-own", "#* @get /own", "function() 1",
    "#* @parser test-own", "#* @post /parser", "function() 1",
    "#* @serializer png", "#* @get /image", "function() plot(1)",
    "#* @get /array/<x:[int]>", "function(x) x",
    "#* @get /pattern+", "function(x) x",
    "#* @compile off", "#* @get /off", "function() 1",
    "#* @get /on", "function() 1"
  )
  router$endpoints[[1]][[11]]$registerHook("preexec", function() NULL)
  expect_identical(unname(unlist(reasons(router))), c(
    "it is asynchronous", "it is asynchronous", "it calls forward()", "its handler is a primitive function",
    "its serializer is the app's own", "a parser is the app's own", "it draws an image, or has a hook around it",
    "only plumber can tell what its path matches", "only plumber can tell what its path matches",
    "@compile off", "it has a hook"
  ))
})

test_that("nothing is compiled where that is turned off, or the router is not plumber's own", {
  router <- plumber::pr_get(plumber::pr(), "/a", function() 1)
  withr::with_envvar(c(FAUCET_COMPILE = "false"), expect_identical(reasons(router), list("GET /a" = "compile = FALSE")))
  withr::with_options(
    list(plumber.sharedSecret = "s"),
    expect_identical(reasons(router), list("GET /a" = "plumber.sharedSecret is set"))
  )
  derived <- R6::R6Class("Derived", inherit = plumber::Plumber)$new()
  derived$handle("GET", "/a", function() 1)
  expect_identical(reasons(derived), list("GET /a" = "the router is of a class of its own, or a method is its own"))
  replaced <- plumber::pr_get(plumber::pr(), "/a", function() 1)
  unlockBinding("serve", replaced)
  replaced$serve <- function(req, res) list(status = 403L, headers = list(), body = "no")
  expect_identical(reasons(replaced), list("GET /a" = "the router is of a class of its own, or a method is its own"))
  hooked <- plumber::pr_get(plumber::pr(), "/a", function() 1)
  hooked$filters[[1]]$registerHook("postexec", function(value) value)
  expect_identical(reasons(hooked), list("GET /a" = "filter `queryString` comes before it"))
})
