#' Have the command `faucet` in a shell
#'
#' `install_cli()` links the program `faucet` of this package into a folder, so that a shell finds it: `faucet run`,
#' `faucet deploy`, `faucet invoke` and more, each with every setting as a flag. `faucet --help` tells the verbs, and
#' `faucet VERB --help` all of one.
#'
#' ```sh
#' faucet run api --workers 4
#' echo "I hate this" | faucet invoke "sed e=s/hate/love/ | to-upper"
#' faucet list --json
#' ```
#'
#' The program ends with a status that says what has become of what was asked for: 0 well, 1 failed, 2 wrong arguments, 3 no
#' such function or call, 4 refused, 5 the server cannot be reached, 6 the function has failed, 124 not in time, 130 interrupted,
#' 141 nobody reads what it writes. With `--json` it writes JSON, and so are its errors.
#'
#' The link leads to the package where it is now, with the R that `Rscript` is in the shell. After an update of the package in
#' the same place it leads to the new one.
#'
#' @param dir Folder for the link. It is made if it is not there.
#'
#' @return Invisibly, the path of the link. A message tells if `dir` is not one of the folders on the `PATH`.
#'
#' @section Error conditions:
#' - `faucet_error_install`: there is something called `faucet` in `dir` that is not a link to this program, which is left as it
#'   is, or the link cannot be made. Field `file`: where.
#' - `faucet_error_option`: `dir` is not the path of a folder.
#'
#' @seealso [run()], [deploy()], [invoke()]
#' @export
#' @examples
#' \dontrun{
#' install_cli()
#' install_cli("/usr/local/bin")
#' }
install_cli <- function(dir = "~/.local/bin") {
  call <- rlang::current_env()
  dir <- path.expand(check_text(dir, "dir", call = call))
  program <- system.file("exec", "faucet", package = "faucet", mustWork = TRUE)
  link <- file.path(dir, "faucet")
  if (is_taken(link, program)) {
    abort("install", c(
      "There is a {.path {link}} that is not this package's: it is left as it is.",
      i = "Remove it, or choose another folder by {.arg dir}."
    ), file = link, call = call)
  }
  made <- (dir.exists(dir) || dir.create(dir, showWarnings = FALSE, recursive = TRUE)) && place_link(program, link)
  if (!made) abort("install", "{.path {link}} cannot be made.", file = link, call = call)
  say("Linked ", link, " to ", program)
  if (!is_on_path(dir)) {
    add <- paste0("export PATH=\"", dir, ":$PATH\"")
    say("A shell does not find it there yet: ", dir, " is not on the PATH. Add `", add, "` to your profile.")
  }
  invisible(link)
}

# Whether there is something else. A link that leads to no file any more was to a faucet of before.
is_taken <- function(link, program) {
  to <- Sys.readlink(link)
  if (is.na(to) || !nzchar(to)) {
    return(file.exists(link))
  }
  !identical(normalizePath(link, mustWork = FALSE), normalizePath(program)) && !endsWith(to, "/faucet/exec/faucet")
}

# In the place of what is there, at once.
place_link <- function(program, link) {
  new <- tempfile(".faucet-", dirname(link))
  made <- suppressWarnings(file.symlink(program, new) && file.rename(new, link))
  if (!made) unlink(new)
  made
}

is_on_path <- function(dir) {
  folders <- strsplit(Sys.getenv("PATH"), .Platform$path.sep, fixed = TRUE)[[1]]
  normalizePath(dir) %in% suppressWarnings(normalizePath(folders[nzchar(folders)], mustWork = FALSE))
}
