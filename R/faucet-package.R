#' @keywords internal
#' @importFrom R6 R6Class
#' @importFrom rlang %||%
#' @useDynLib faucet, .registration = TRUE
"_PACKAGE"

# faucet's workers are plumber's host, though the R session that starts them never loads it: whoever installs faucet can
# serve. R CMD check wants to see a use of it.
plumber_for_workers <- function() plumber::plumb
