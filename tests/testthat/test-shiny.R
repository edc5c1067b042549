# What Shiny's own client says first.
init <- function(websocket, n = 1) {
  data <- paste0("\"n:shiny.number\":", n, ",\".clientdata_output_where_hidden\":false,\".clientdata_url_pathname\":\"/p/\"")
  send_text(websocket, paste0("{\"method\":\"init\",\"data\":{", data, "}}"))
  where(websocket)
}

update <- function(websocket, n) {
  send_text(websocket, paste0("{\"method\":\"update\",\"data\":{\"n:shiny.number\":", n, "}}"))
  where(websocket, n)
}

# The process that a session is in.
where <- function(websocket, n = "[0-9]+") {
  text <- read_until(websocket, paste0("pid [0-9]+ n ", n, "\\b"))
  as.integer(sub("^.*pid ([0-9]+) n.*$", "\\1", text))
}

# A browser that has opened the page.
visit <- function(server, path = "/", env = parent.frame()) {
  page <- request(server, path, headers = list(Accept = "text/html"))
  expect_identical(page$status, 200L)
  cookie <- session_cookie(page$headers)
  websocket <- open_websocket(server, paste0(path, "websocket/"), cookie, env = env)
  c(websocket, list(cookie = cookie, pid = init(websocket)))
}

test_that("what Shiny's is, is found, and has sessions", {
  dir <- local_app("shiny")
  settings <- only_pool(list(dir = dir), list())[[1]]
  expect_identical(settings[c("sticky", "slots")], list(sticky = TRUE, slots = 50L))
  expect_false(only_pool(list(dir = dir), list(sticky = FALSE))[[1]]$sticky)
  expect_identical(only_pool(list(dir = dir), list(slots = 1))[[1]]$slots, 1L)
  expect_error(only_pool(list(dir = dir), list(preload = TRUE)), "cannot be preloaded", class = "faucet_error_option")
  expect_error(use_k8s(dir, name = "hello"), "sessionAffinity", class = "faucet_error_unsupported")
  expect_null(find_shiny(local_app("basic")))
  # An API goes first.
  both <- local_code("plumber.R" = "", "app.R" = "")
  expect_null(find_shiny(both))
  expect_identical(find_shiny(local_code("ui.R" = "", "Server.r" = "")), list(document = NULL))
})

test_that("one file is a Shiny app if it makes one, and no API", {
  dir <- local_code(
    "app.R" = c("ui <- 1", "shiny::shinyApp(ui, server)"),
    "api.R" = c("#* @get /", "function() 1", "# shinyApp(ui, server)"),
    "both.R" = c("#* @get /", "function() shinyApp(1, 2)"),
    "other.R" = "myshinyApp(1)"
  )
  shiny <- function(file) find_app(file.path(dir, file))$shiny
  expect_identical(shiny("app.R"), list(document = "app.R"))
  expect_null(find_app(file.path(dir, "app.R"))$file)
  for (file in c("api.R", "both.R", "other.R")) expect_null(shiny(file), info = file)
  expect_identical(find_app(file.path(dir, "api.R"))$file, file.path(dir, "api.R"))
})

test_that("documents that need Shiny are found", {
  document <- function(...) c("---", "title: A", ..., "---", "text")
  expect_identical(find_shiny(local_code("a.Rmd" = document("runtime: shiny"))), list(document = "a.Rmd"))
  expect_identical(find_shiny(local_code("a.Rmd" = document("runtime: shinyrmd"))), list(document = "a.Rmd"))
  expect_identical(find_shiny(local_code("a.qmd" = document("server: shiny"))), list(document = "a.qmd"))
  expect_identical(find_shiny(local_code("a.qmd" = document("server:", "  type: shiny"))), list(document = "a.qmd"))
  for (other in list("runtime: static", "output: html_document", "server: other", "x: [", character())) {
    expect_null(find_shiny(local_code("a.Rmd" = document(other))))
  }
  expect_null(find_shiny(local_code("a.Rmd" = "no header", "b.Rmd" = c("text", "---", "runtime: shiny", "---"))))
  two <- list("a.Rmd" = document("runtime: shiny"), "b.Rmd" = document("runtime: shiny"))
  expect_error(find_shiny(do.call(local_code, two)), "index.Rmd", class = "faucet_error_dir")
  three <- c(two, list("index.qmd" = document("server: shiny")))
  expect_identical(find_shiny(do.call(local_code, three)), list(document = "index.qmd"))
})

test_that("what a worker lacks for Shiny is said", {
  dir <- local_app("shiny")
  library <- withr::local_tempdir()
  # A package that cannot be loaded hides the one behind it.
  dir.create(file.path(library, "shiny"))
  writeLines(c("Package: shiny", "Version: 0.0.1"), file.path(library, "shiny", "DESCRIPTION"))
  withr::local_libpaths(library, action = "prefix")
  error <- expect_error(local_server(dir, workers = 1), class = "faucet_error_boot")
  expect_match(error$lines, "A Shiny app needs package shiny, which is not installed here", all = FALSE)

  dir <- local_code("a.qmd" = c("---", "server: shiny", "---"))
  withr::local_path(withr::local_tempdir(), action = "replace")
  withr::local_envvar(PATH = "/nowhere")
  error <- expect_error(local_server(dir, workers = 1), class = "faucet_error_boot")
  expect_match(error$lines, "needs the program quarto, which is not installed here", all = FALSE)
})

test_that("sessions of Shiny are spread, stay over a reload of another pool, and end with their worker", {
  skip_if_not_installed("shiny")
  pools <- list("/p" = pool(local_app("shiny"), workers = 2), "/other" = pool(local_app("basic"), workers = 1))
  server <- local_server(pools, workers = NULL, quiet = FALSE)
  wait_for_workers(server, 3)
  tabs <- lapply(1:3, function(i) visit(server, "/p/", env = parent.frame(2)))
  pids <- vapply(tabs, `[[`, 1L, "pid")
  expect_length(unique(pids), 2)
  status <- server$status()
  expect_identical(sort(status$sessions[status$pool == "/p"]), c(1L, 2L))
  expect_setequal(status$pid[status$pool == "/p"], pids)
  expect_identical(status$worker_type[status$pool == "/p"], c("http", "http"))

  server$reload(pool = "/other")
  for (i in 1:3) expect_identical(update(tabs[[i]], 10 + i), pids[[i]])
  # Where its page's own requests go.
  for (tab in tabs) {
    page <- request(server, "/p/", headers = list(Cookie = tab$cookie))
    expect_null(page$headers[["set-cookie"]])
  }

  server$reload(pool = "/p")
  for (i in 1:3) expect_identical(update(tabs[[i]], 20 + i), pids[[i]])
  anew <- visit(server, "/p/")
  expect_false(anew$pid %in% pids)

  tools::pskill(pids[[1]], tools::SIGKILL)
  expect_identical(read_close(tabs[[1]]), 1001)
  seen <- messages_until(server, any(grepl("ends [12] sessions?: its process was killed by signal 9", seen)))
  expect_gt(length(seen), 0)
  page <- request(server, "/p/", headers = list(Cookie = tabs[[1]]$cookie))
  expect_identical(page$status, 200L)
  expect_length(session_cookie(page$headers), 1)

  server$stop()
  expect_identical(read_close(anew), 1001)
})

test_that("a Shiny app in two files is served, one session a process if it is to be", {
  skip_if_not_installed("shiny")
  dir <- local_code(
    "ui.R" = "fluidPage(textOutput(\"where\"), numericInput(\"n\", \"n\", 0))",
    "server.R" = "function(input, output) output$where <- renderText(paste(\"pid\", Sys.getpid(), \"n\", input$n))"
  )
  server <- local_server(dir, workers = 2, slots = 1, queue_timeout = 0.5)
  wait_for_workers(server, 2)
  tabs <- list(visit(server), visit(server))
  expect_false(tabs[[1]]$pid == tabs[[2]]$pid)
  expect_identical(request(server, "/")$status, 503L)
  close(tabs[[1]]$socket)
  # Its own page, loaded anew.
  expect_identical(request(server, "/", headers = list(Cookie = tabs[[1]]$cookie))$status, 200L)
  expect_identical(server$status()$sessions, c(1L, 1L))
})

test_that("an R Markdown document with Shiny is served", {
  skip_if_not_installed("shiny")
  skip_if_not_installed("rmarkdown")
  skip_if_not(rmarkdown::pandoc_available())
  code <- c("```{r, echo=FALSE}", "numericInput(\"n\", \"n\", 1)", "textOutput(\"where\")", "```")
  server_code <- c(
    "```{r, context=\"server\", echo=FALSE}", "output$where <- renderText(paste(\"pid\", Sys.getpid(), \"n\", input$n))", "```"
  )
  dir <- local_code(
    "index.Rmd" = c("---", "title: A", "output: html_document", "runtime: shiny", "---", "", code),
    "other.Rmd" = c("---", "title: B", "output: html_document", "runtime: shiny", "---")
  )
  server <- local_server(dir, workers = 1)
  page <- request(server, "/")
  expect_identical(page$status, 200L)
  expect_match(page$text, "shiny")
  expect_identical(server$status()$sessions, 1L)
  server$stop()

  header <- c("---", "title: A", "output: html_document", "server: shiny", "---", "")
  prerendered <- local_code("a.Rmd" = c(header, code, "", server_code))
  server <- local_server(prerendered, workers = 1)
  visitor <- visit(server)
  expect_identical(visitor$pid, server$status()$pid)
})

test_that("a Quarto document is served by quarto, which ends with its worker", {
  skip_if_not_installed("shiny")
  skip_if_not(nzchar(Sys.which("python3")))
  bin <- withr::local_tempdir()
  dir <- local_code("report.qmd" = c("---", "server: shiny", "---"))
  # It stands in for the program: what it was told is in a file.
  writeLines(c(
    "#!/bin/sh", paste0("echo \"$$ $*\" >", dir, "/told"),
    "exec python3 -m http.server \"$4\" --bind \"$6\" 2>/dev/null"
  ), file.path(bin, "quarto"))
  Sys.chmod(file.path(bin, "quarto"), "755")
  withr::local_path(bin)
  server <- local_server(dir, workers = 1)
  expect_match(request(server, "/")$text, "report.qmd")
  told <- readLines(file.path(dir, "told"))
  expect_match(told, "^[0-9]+ serve report.qmd --port [0-9]+ --host 127.0.0.1 --no-browser$")
  server$stop()
  pid <- as.integer(sub(" .*$", "", told))
  wait_until(!is_alive(pid), what = "the program to end")
})
