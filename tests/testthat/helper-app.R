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

write_code <- function(dir, name, code) {
  # At once, as a worker may be reading.
  file <- file.path(dir, name)
  writeLines(code, paste0(file, ".new"))
  file.rename(paste0(file, ".new"), file)
}
