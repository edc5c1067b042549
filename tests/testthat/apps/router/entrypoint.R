library(plumber)

greeting <- "from a router"

pr("routes/api.R") %>%
  pr_get("/greeting", function() greeting, serializer = serializer_text())
