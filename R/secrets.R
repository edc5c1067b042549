#' What functions may know and nobody may read
#'
#' `secret_set()` gives an agent or a proxy a secret, such as a password, which functions that declare it (`deploy(secrets = )`) read
#' by `secret()`. It is kept encrypted, and never shown again. A secret that changes restarts the workers of those functions.
#'
#' The secret itself is no argument, which could end in a script, a log or R's history: it is asked for, or read from a file.
#'
#' @inheritParams deploy
#' @param name What it is called: up to 64 letters, digits, `.`, `_` and `-`.
#' @param file File that holds it, or `"-"` for standard input. One line end at its end, as `echo` writes it, is left out. With `NULL`
#'   it is asked for.
#'
#' @return `secret_set()` and `secret_delete()`: invisibly, the name. `secrets()`: the names of those that are there.
#'
#' @section Error conditions:
#' All inherit from `faucet_error`.
#'
#' - `faucet_error_option`: an argument has a value that it does not take, there is nobody to ask, or the token could be
#'   overheard. Field `option`.
#' - `faucet_error_secret`: what was given is empty, or the file cannot be read.
#' - `faucet_error_connect`, `faucet_error_timeout`, `faucet_error_answer`: the server cannot be reached, has not answered in time,
#'   or is no agent or proxy. Field `server`.
#' - `faucet_error_refused`: it refuses, as without the right token, or for a secret that it does not have. Fields `status`, `cause`.
#'
#' @seealso [deploy()]
#' @export
#' @examples
#' \dontrun{
#' secret_set("db")
#' secret_set("key", file = "key.pem")
#' deploy(function(id) DBI::dbConnect(..., password = faucet::secret("db")), "user", secrets = "db")
#' secrets()
#' secret_delete("key")
#' }
secret_set <- function(name, file = NULL, to = NULL, token = NULL) {
  call <- rlang::current_env()
  name <- check_function_name(name, call = call)
  server <- resolve_server(to, token, call = call)
  value <- if (is.null(file)) ask_secret(name, call = call) else read_secret(file, call = call)
  if (length(value) == 0) abort("secret", "The secret {.val {name}} would be empty.", name = name, call = call)
  headers <- list("content-type" = "application/octet-stream")
  answer <- send_request(server, "PUT", paste0("/secrets/", name), body = value, headers = headers, call = call)
  read_answer(answer, server, call = call)
  invisible(name)
}

#' @rdname secret_set
#' @export
secrets <- function(to = NULL, token = NULL) {
  call <- rlang::current_env()
  server <- resolve_server(to, token, call = call)
  as.character(unlist(ask_json(server, "GET", "/secrets", call = call)))
}

#' @rdname secret_set
#' @export
secret_delete <- function(name, to = NULL, token = NULL) {
  call <- rlang::current_env()
  name <- check_function_name(name, call = call)
  server <- resolve_server(to, token, call = call)
  answer <- send_request(server, "DELETE", paste0("/secrets/", name), call = call)
  # There may be nothing to tell.
  if (answer$status != 204) read_answer(answer, server, call = call)
  invisible(name)
}

read_secret <- function(file, call = NULL) {
  file <- check_text(file, "file", call = call)
  bytes <- tryCatch(
    suppressWarnings(if (file == "-") read_input() else readBin(path.expand(file), "raw", file.size(path.expand(file)))),
    error = function(error) {
      abort("secret", "{.path {file}} cannot be read.", file = file, parent = error, call = call)
    }
  )
  without_line_end(bytes)
}

# All of standard input, which R's own stdin() may not be.
read_input <- function() {
  input <- file("stdin", open = "rb")
  on.exit(close(input))
  pieces <- list()
  while (length(piece <- readBin(input, "raw", 65536)) > 0) pieces[[length(pieces) + 1]] <- piece
  do.call(c, pieces)
}

without_line_end <- function(bytes) {
  n <- length(bytes)
  if (n > 0 && bytes[[n]] == as.raw(10L)) n <- n - 1L
  if (n > 0 && n < length(bytes) && bytes[[n]] == as.raw(13L)) n <- n - 1L
  bytes[seq_len(n)]
}

# Front ends of R have a way of their own to ask (`options(askpass = )`); in a terminal, nothing of what is typed is shown.
ask_secret <- function(name, call = NULL) {
  prompt <- paste0("Secret ", name, ": ")
  ask <- getOption("askpass")
  value <- if (is.function(ask)) {
    ask(prompt)
  } else if (rlang::is_interactive() && isatty(stdin()) && nzchar(Sys.which("stty"))) {
    read_hidden(prompt)
  } else {
    abort("option", c(
      "Nobody can be asked for the secret {.val {name}} here.",
      i = "{.arg file} names a file that holds it; {.code file = \"-\"} is standard input."
    ), option = "file", call = call)
  }
  # Whoever is asked may say nothing.
  if (rlang::is_string(value)) charToRaw(enc2utf8(value)) else raw()
}

read_hidden <- function(prompt) {
  system2("stty", "-echo")
  on.exit({
    system2("stty", "echo")
    cat("\n")
  })
  readline(prompt)
}
