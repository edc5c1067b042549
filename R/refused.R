# What a function's caller, or the function itself, was refused in a worker, for the agent's audit log: the next answer carries
# it in a header, which the agent takes off.

# So many are told with one answer, of names that are so long.
most_refusals <- 4
longest_refusal <- 64

refused <- new.env(parent = emptyenv())
refused$what <- character()

# `what` is "rds", or "secret" with the `name` that was asked for.
note_refusal <- function(what, name = NULL) {
  if (nzchar(Sys.getenv("FAUCET_FUNCTION")) && length(refused$what) < most_refusals) {
    if (!is.null(name)) {
      name <- substr(iconv(name, to = "UTF-8", sub = "byte"), 1, longest_refusal)
      what <- paste0(what, "=", utils::URLencode(name, reserved = TRUE))
    }
    refused$what <- unique(c(refused$what, what))
  }
}

# What is left of an answer before this one, whose head was sent already: whoever calls now has nothing to do with it.
refusals_are_past <- function() {
  if (length(refused$what) > 0) refused$what <- paste0("past:", sub("^past:", "", refused$what))
}

# The headers of an answer, with what was refused until now.
with_refusals <- function(headers) {
  if (length(refused$what) > 0) {
    headers <- c(as.list(headers), "Faucet-Refused" = paste(refused$what, collapse = ","))
    refused$what <- character()
  }
  headers
}
