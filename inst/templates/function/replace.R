# The function `replace`: the first parameter is the input of a call, the others are options.
replace <- function(text, pattern, by = "", ignore_case = FALSE) {
  gsub(pattern, by, text, ignore.case = ignore_case)
}
