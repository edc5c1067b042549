# A Prometheus text page as a data frame of names, labels and values.
read_metrics <- function(url) {
  lines <- strsplit(request(url, "/metrics")$text, "\n")[[1]]
  lines <- lines[nzchar(lines) & !startsWith(lines, "#")]
  data.frame(
    name = sub("[{ ].*$", "", lines),
    labels = ifelse(grepl("{", lines, fixed = TRUE), sub("^[^{]*\\{(.*)\\}.*$", "\\1", lines), ""),
    value = as.numeric(sub("^.* ", "", lines))
  )
}

metric <- function(metrics, name, label = "") {
  found <- metrics$name == name & grepl(label, metrics$labels, fixed = TRUE)
  sum(metrics$value[found])
}
