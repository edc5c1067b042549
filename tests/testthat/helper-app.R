# Directories with an API. Each test gets its own copy, which it may change, and whose files it may read.

local_app <- function(name, env = parent.frame()) {
  dir <- withr::local_tempdir(pattern = paste0(name, "-"), .local_envir = env)
  from <- test_path("apps", name)
  stopifnot(dir.exists(from))
  file.copy(list.files(from, all.files = TRUE, no.. = TRUE, full.names = TRUE), dir, recursive = TRUE)
  normalizePath(dir)
}

# An app given as text: `local_code("plumber.R" = "...")`.
local_code <- function(..., env = parent.frame()) {
  dir <- withr::local_tempdir(pattern = "app-", .local_envir = env)
  files <- list(...)
  for (name in names(files)) {
    write_code(dir, name, files[[name]])
  }
  normalizePath(dir)
}

# For apps with `/hold`: a request that R works on until it is released.
hold <- function(clients, server, dir, id) {
  clients$add(server, paste0("/hold?id=", id), key = id)
  wait_until(clients$step() && file.exists(file.path(dir, paste0("begun-", id))), what = "the request to be held")
}

release <- function(dir, id) {
  file.create(file.path(dir, paste0("released-", id)))
}

write_code <- function(dir, name, code) {
  # At once, as a worker may be reading.
  file <- file.path(dir, name)
  writeLines(code, paste0(file, ".new"))
  file.rename(paste0(file, ".new"), file)
}
