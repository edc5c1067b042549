# What the app's code can ask about where it runs.

#' Where and for whom code runs
#'
#' For code of an API: which worker it runs in, for which request, and whether anybody still waits for the
#' answer. Outside of faucet these work too, and say that there is nothing to know.
#'
#' @param req The request, as plumber or another Rook framework passes it to handlers. Without it, as in functions that are
#'   [deployed][deploy()], which get none, it is the one that is being handled.
#' @return
#' - `worker_id()`: the worker's number, from 1 on; 0 while a template loads the app (`preload`); `NA` elsewhere.
#' - `request_id()`: the request's id, a string, as in the access log and in the header `X-Request-Id` that the
#'   client gets; `NA` if the request did not come through faucet. In a deployed function, whether it streams or not, that is
#'   the call's id, which all stages of a chain share. Workers of type `"http"` must give `req`.
#' - `is_cancelled()`: `TRUE` if the client of the request that is being handled has left, or its time is
#'   over (`timeout`). Where requests are interrupted in that case, only code in [shield()] gets to see it. Always
#'   `FALSE` in workers of type `"http"`.
#' @name facts
#' @seealso [shield()]
#' @examples
#' worker_id()
#' is_cancelled()
NULL

#' @rdname facts
#' @export
worker_id <- function() {
  suppressWarnings(as.integer(Sys.getenv("FAUCET_WORKER_ID", NA)))
}

#' @rdname facts
#' @export
request_id <- function(req = NULL) {
  fields <- if (is.null(req)) current_fields() else req
  as.character(fields[["HTTP_X_REQUEST_ID"]] %||% NA)
}

#' @rdname facts
#' @export
is_cancelled <- function() {
  serve_is_cancelled()
}

#' Finish something though the client has left
#'
#' When a client leaves before it is answered, what its handler does is interrupted, as by Ctrl-C, and the worker is free
#' for the next request (unless the server runs with `cancel = FALSE`). What must not be left half done, such as
#' two writes that belong together, goes into `shield()`: the interrupt waits until that is done.
#'
#' A deadline (the setting `timeout`) is not waited for: it interrupts shielded code too.
#' In workers of type `"http"`, and outside of faucet, nothing is interrupted anyway, and `expr` is just evaluated.
#'
#' @param expr Code to evaluate. It can ask [is_cancelled()].
#' @return The value of `expr`.
#' @export
#' @examples
#' shield({
#'   file <- tempfile()
#'   writeLines("both", file)
#'   writeLines("or neither", paste0(file, ".done"))
#' })
shield <- function(expr) {
  serve_shield(TRUE)
  on.exit(serve_shield(FALSE))
  expr
}
