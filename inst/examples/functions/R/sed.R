# The command `s` of sed, in R: `e = "s/hate/love/"` replaces the first match in each line, with `g` behind it each match.
# With `n`, in the first `n` lines only.
sed <- function(text, e, n = Inf) {
  separator <- substr(e, 2, 2)
  parts <- strsplit(paste0(e, separator, "."), separator, fixed = TRUE)[[1]]
  if (length(parts) != 5 || parts[[1]] != "s" || !parts[[4]] %in% c("", "g")) {
    stop("`e` must be like s/hate/love/ or s/hate/love/g, not ", e)
  }
  replace <- if (parts[[4]] == "g") gsub else sub
  lines <- strsplit(text, "\n", fixed = TRUE)[[1]]
  chosen <- seq_along(lines) <= n
  lines[chosen] <- replace(parts[[2]], parts[[3]], lines[chosen])
  # The last line may have no end, as with sed.
  paste0(paste(lines, collapse = "\n"), if (endsWith(text, "\n")) "\n")
}
