#' The value of a secret
#'
#' Called in a deployed function that has declared the secret: `deploy(..., secrets = "db")`. Its value is in a file that only
#' this function's workers may read, and neither in the environment nor in the function's code.
#'
#' Asking for one that was not declared is a line in the agent's audit log, with who has called the function then.
#'
#' @param name The secret's name.
#' @return Its value, a string in UTF-8. A line's end after the last line is not part of it.
#'
#' @section Error conditions:
#' - `faucet_error_secret`: the function has not declared this secret, it cannot be read, or it is no text. Field `secret`:
#'   its name.
#' - `faucet_error_option`: `name` is not a string.
#'
#' @export
#' @examples
#' \dontrun{
#' deploy(
#'   function(customer) {
#'     connection <- DBI::dbConnect(RPostgres::Postgres(), password = faucet::secret("db"))
#'     on.exit(DBI::dbDisconnect(connection))
#'     DBI::dbGetQuery(connection, "SELECT * FROM orders WHERE customer = $1", list(customer))
#'   },
#'   name = "orders", secrets = "db"
#' )
#' }
secret <- function(name) {
  call <- rlang::current_env()
  if (!rlang::is_string(name) || is.na(name)) {
    got <- describe_value(name)
    abort("option", "{.arg name} must be a secret's name, not {got}.", option = "name", call = call)
  }
  folder <- Sys.getenv("FAUCET_SECRETS")
  is_name <- grepl("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", name)
  file <- file.path(folder, name)
  if (!nzchar(folder) || !is_name || !file.exists(file)) {
    note_refusal("secret", name)
    abort("secret", c(
      "This function has no secret {.val {name}}.",
      i = "A function has those that it was deployed with: {.code deploy(..., secrets = )}."
    ), secret = name, call = call)
  }
  value <- tryCatch(
    suppressWarnings(readBin(file, "raw", file.size(file))),
    error = function(error) {
      why <- conditionMessage(error)
      abort("secret", "Secret {.val {name}} cannot be read: {why}", secret = name, call = call)
    }
  )
  text <- if (!any(value == as.raw(0L))) rawToChar(value)
  if (is.null(text) || !validUTF8(text)) {
    abort("secret", "Secret {.val {name}} is no text in UTF-8.", secret = name, call = call)
  }
  Encoding(text) <- "UTF-8"
  sub("\r?\n$", "", text)
}
