# The two kinds of workers.

kinds <- c("native", "http")

type_of <- function(server) {
  wait_for_workers(server)$worker_type
}

# Of apps/eval: the response that `code` makes of the request, `req`.
rook <- function(server, code, path = "/", ..., headers = list()) {
  request(server, path, headers = c(as_code(substitute(code)), headers), ...)
}

# The value of `code` in the worker.
rook_value <- function(server, code, path = "/", ..., headers = list()) {
  code <- bquote(list(
    status = 200L, headers = list(`Content-Type` = "application/octet-stream"), body = serialize(.(substitute(code)), NULL)
  ))
  answer <- request(server, path, headers = c(as_code(code), headers), ...)
  if (answer$status != 200) stop("Answered ", answer$status, ": ", answer$text)
  unserialize(answer$body)
}

as_code <- function(code) {
  list(`X-Code` = gsub("\n", "", jsonlite::base64_enc(serialize(utils::removeSource(code), NULL))))
}

# Files that an app in `dir` makes, to tell how far it is.
wait_for_file <- function(dir, name, clients = NULL) {
  wait_until(
    {
      if (!is.null(clients)) clients$step()
      file.exists(file.path(dir, name))
    },
    what = paste("the file", name)
  )
}
