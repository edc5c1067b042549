# Waits until `condition` holds and returns its value. Tests wait for what they need and never for a fixed time; the
# limit only ends a test that has failed. What it assigns, it assigns with `<<-`.
wait_until <- function(condition, timeout = 60, what = rlang::as_label(rlang::enquo(condition))) {
  condition <- rlang::enquo(condition)
  deadline <- Sys.time() + timeout
  repeat {
    value <- rlang::eval_tidy(condition)
    if (is.logical(value) && length(value) != 1L) {
      stop("`", what, "` has ", length(value), " values; `all()` or `any()` of them is a condition.", call. = FALSE)
    }
    if (!is.null(value) && !identical(value, FALSE) && !identical(value, NA)) {
      return(invisible(value))
    }
    if (Sys.time() > deadline) {
      testthat::fail(paste0("Waited ", timeout, " s in vain for: ", what))
      stop("Waited in vain.", call. = FALSE)
    }
    Sys.sleep(0.02)
  }
}
