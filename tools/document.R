# Writes NAMESPACE and man/ from the comments in R/: `Rscript tools/document.R`. Nothing has to be compiled for it.
# roxygen2's own loader for that drops the source references without which methods of R6 classes cannot be documented.
load_with_source <- function(path) {
  code <- new.env(parent = globalenv())
  methods::setPackageName("faucet", code)
  assign("%||%", rlang::`%||%`, code)
  for (file in list.files(file.path(path, "R"), "[.]R$", full.names = TRUE)) {
    sys.source(file, code, keep.source = TRUE)
  }
  code
}

roxygen2::roxygenise(load_code = load_with_source)
