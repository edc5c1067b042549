# Makes a vendor directory small: Rscript tools/trim-vendor.R DIRECTORY < crates
#
# Standard input names the crates that are compiled ("name version" a line). Of these, tests, benchmarks and
# examples go. All others (for other systems, or for faucet's own tests) cargo only has to find, so that it
# can resolve the lock file: they become stubs.

vendor <- commandArgs(TRUE)[1]
input <- file("stdin")
compiled <- readLines(input)
close(input)

# Cargo verifies the files it finds listed; the crate's own checksum stays, as the lock file has it.
update_checksums <- function(crate) {
  file <- file.path(crate, ".cargo-checksum.json")
  checksums <- jsonlite::fromJSON(file, simplifyVector = FALSE)
  kept <- checksums$files[file.exists(file.path(crate, names(checksums$files)))]
  # An empty R list would become an array.
  checksums$files <- if (length(kept)) kept else structure(list(), names = character())
  writeLines(jsonlite::toJSON(checksums, auto_unbox = TRUE), file)
}

trim <- function(crate) {
  unlink(file.path(crate, c("tests", "benches", "examples", ".github")), recursive = TRUE)
  update_checksums(crate)
}

# What cargo reads of a manifest: features may name dependencies of any kind. Published manifests have one table
# header a line.
stub <- function(crate) {
  lines <- readLines(file.path(crate, "Cargo.toml"))
  header <- ifelse(grepl("^\\[", lines), lines, NA)
  section <- c("", header[!is.na(header)])[cumsum(!is.na(header)) + 1]
  key <- function(name) grep(paste0("^", name, " *="), lines[section == "[package]"], value = TRUE)[1]
  manifest <- c(
    # An edition that cargo 1.75 knows: it reads every manifest in the directory.
    "[package]", key("name"), key("version"), "edition = \"2021\"",
    "[lib]", "path = \"lib.rs\"", if ("proc-macro = true" %in% lines) "proc-macro = true",
    lines[grepl("^\\[(features|(target\\..*\\.)?((build|dev)-)?dependencies)\\b", section)]
  )
  checksums <- file.path(crate, ".cargo-checksum.json")
  others <- setdiff(list.files(crate, all.files = TRUE, full.names = TRUE, no.. = TRUE), checksums)
  unlink(others, recursive = TRUE)
  file.create(file.path(crate, "lib.rs"))
  writeLines(manifest, file.path(crate, "Cargo.toml"))
  update_checksums(crate)
}

for (crate in list.dirs(vendor, recursive = FALSE)) {
  # With --versioned-dirs, name-version.
  if (basename(crate) %in% sub(" ", "-", compiled)) trim(crate) else stub(crate)
}
