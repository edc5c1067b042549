# `faucet init`: the files that something new begins with.

init_verb <- function() {
  new_verb(
    "init", "Start", "Write the files that an API, or a function, begins with.", cli_init,
    usage = "api | function [DIR]", operands = c(1, 2),
    about = paste(
      "`init api` writes a plumber.R, `init function` a function with its definition file functions.yaml, both with a README.md",
      "that says how they are run. DIR is the working directory unless it is given, and made if it is not there. No file is",
      "overwritten."
    ),
    examples = c("faucet init api hello && faucet run hello", "faucet init function tools && faucet deploy tools/functions.yaml")
  )
}

cli_init <- function(given) {
  what <- given$operands[[1]]
  if (!what %in% c("api", "function")) {
    near <- nearest_name(what, c("api", "function"))
    meant <- if (!is.null(near)) paste0(" Did you mean ", near, "?")
    refuse_usage(paste0("`faucet init` has no `", what, "`."), paste0("It has api and function.", meant))
  }
  dir <- if (length(given$operands) == 2) given$operands[[2]] else "."
  written <- write_templates(what, dir)
  write_out(c(paste("Wrote", written), paste0("See ", file.path(dir, "README.md"), ".")))
}

# Returns the paths of what was written: all of the template, or nothing.
write_templates <- function(what, dir) {
  from <- system.file("templates", what, package = "faucet", mustWork = TRUE)
  files <- list.files(from)
  # Names that begin with a dot are not for packages.
  targets <- file.path(dir, sub("^gitignore$", ".gitignore", files))
  there <- targets[file.exists(targets) | !is.na(Sys.readlink(targets)) & nzchar(Sys.readlink(targets))]
  if (length(there) > 0) {
    refuse_usage(
      paste0(paste(there, collapse = ", "), if (length(there) == 1) " is" else " are", " there already: nothing was written."),
      paste0("Such as in a new directory: `faucet init ", what, " ", if (dir == ".") what else paste0(dir, "-2"), "`.")
    )
  }
  if (!dir.exists(dir) && !dir.create(dir, showWarnings = FALSE, recursive = TRUE)) {
    refuse_usage(paste0("The directory ", dir, " cannot be made."))
  }
  copied <- suppressWarnings(file.copy(file.path(from, files), targets, overwrite = FALSE, copy.mode = FALSE))
  if (!all(copied)) {
    unlink(targets[copied])
    refuse_usage(paste0(dir, " cannot be written."))
  }
  targets
}
