# An API of which most of the start is loading packages.

library(data.table)
library(dplyr)
library(ggplot2)

#* @get /fast
#* @serializer text
function() {
  "fast"
}

#* Which R process answers.
#* @get /pid
#* @serializer text
function() {
  as.character(Sys.getpid())
}
