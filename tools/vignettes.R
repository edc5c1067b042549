# Makes the vignettes and puts them into an installed faucet: `Rscript tools/vignettes.R LIBRARY TREE`, where TREE is a copy
# of the source tree that may be written to. R CMD INSTALL does not make vignettes of a checkout, and R CMD build would compile
# faucet a second time for them. Without rmarkdown or pandoc it does nothing but say so.
arguments <- commandArgs(TRUE)
library <- arguments[[1]]
tree <- arguments[[2]]

absent <- c(
  Filter(function(package) !requireNamespace(package, quietly = TRUE), c("knitr", "rmarkdown")),
  if (!nzchar(Sys.which("pandoc"))) "pandoc"
)
if (length(absent) > 0) {
  message("Installed without vignettes, as there is no ", paste(absent, collapse = " and no "), ".")
  quit()
}

# They read files of the faucet that is installed.
.libPaths(c(library, .libPaths()))
made <- tools::buildVignettes(dir = tree, quiet = TRUE, clean = FALSE)
installed <- file.path(library, "faucet")
doc <- file.path(installed, "doc")
dir.create(doc, showWarnings = FALSE)
outputs <- file.path(made$dir, basename(made$outputs))
stopifnot(file.copy(c(made$docs, outputs), doc, overwrite = TRUE))

# What vignette() and browseVignettes() look up, in the form that R CMD build gives it.
info <- lapply(made$docs, tools::vignetteInfo)
index <- data.frame(
  File = basename(made$docs),
  Title = vapply(info, function(one) one$title, ""),
  PDF = basename(outputs),
  R = ""
)
index$Depends <- lapply(info, function(one) one$depends)
index$Keywords <- lapply(info, function(one) one$keywords)
saveRDS(index, file.path(installed, "Meta", "vignette.rds"), version = 2)
