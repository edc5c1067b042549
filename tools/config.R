# Run by configure: checks for cargo and rustc, and writes src/Makevars (src/Makevars.win on Windows).
#
# What it makes of the environment:
#   FAUCET_PROFILE     the cargo profile: "release" unless set ("dev" if DEBUG is set, as pkgbuild does)
#   FAUCET_TARGET_DIR  where cargo builds (also: CARGO_TARGET_DIR); src/rust/target unless set
#   FAUCET_VENDOR      "true" or "false": build from src/rust/vendor.tar.xz, without the network? Unless
#                      set: yes if that archive is there, but no in a checkout, which has cargo's own cache
#   NOT_CRAN           in a checkout, regenerate R/extendr-wrappers.R as part of the build (so that
#                      devtools::document() and devtools::load_all() see new functions)
#
# The target directory is removed after linking, as static libraries are large and R CMD check reads
# them; it is kept in a checkout and wherever the environment named it, where the next build profits.

windows <- .Platform$OS.type == "windows"
checkout <- file.exists(".git")
env <- function(name, unset = "") {
  value <- Sys.getenv(name)
  if (nzchar(value)) value else unset
}
fail <- function(...) {
  message(paste0(c("", ..., ""), collapse = "\n"))
  quit(status = 1)
}

# cargo and rustc ---------------------------------------------------------------------------------

required <- sub(
  ".*rustc *\\(>= *([0-9.]+)\\).*", "\\1",
  gsub("\\s+", " ", read.dcf("DESCRIPTION", "SystemRequirements"))
)

# rustup installs here, and not every login puts it on the PATH.
rustup <- file.path(Sys.getenv(if (windows) "USERPROFILE" else "HOME"), ".cargo", "bin")
Sys.setenv(PATH = paste(Sys.getenv("PATH"), rustup, sep = .Platform$path.sep))

version_of <- function(tool) {
  found <- nzchar(Sys.which(tool))
  line <- if (found) suppressWarnings(tryCatch(
    system2(tool, "--version", stdout = TRUE, stderr = FALSE),
    error = function(e) character()
  ))
  if (length(line)) line[[1]] else fail(
    sprintf("'%s' was not found, and faucet's Rust core is compiled from source.", tool),
    sprintf("Install cargo and rustc %s or later:", required),
    "  - any system:    https://www.rust-lang.org/tools/install",
    "  - Debian 12:     apt-get install cargo-web rustc-web",
    "  - Ubuntu, 24.04: apt-get install cargo rustc",
    "  - Fedora:        dnf install cargo rust",
    "  - macOS:         brew install rust"
  )
}

cargo <- version_of("cargo")
rustc <- version_of("rustc")
message("Using ", cargo)
message("Using ", rustc)

installed <- sub("^rustc ([0-9.]+).*", "\\1", rustc)
if (utils::compareVersion(installed, required) < 0) {
  fail(
    sprintf("faucet needs rustc %s or later; this is %s.", required, installed),
    "rustup: 'rustup update'. Debian 12: 'apt-get install cargo-web rustc-web'."
  )
}

# How to build ------------------------------------------------------------------------------------

profile <- env("FAUCET_PROFILE", if (nzchar(env("DEBUG"))) "dev" else "release")

target_dir <- env("FAUCET_TARGET_DIR", env("CARGO_TARGET_DIR"))
keep_target <- checkout || nzchar(target_dir)
if (!nzchar(target_dir)) {
  target_dir <- "rust/target"
} else if (!grepl("^(/|[A-Za-z]:)", target_dir)) {
  target_dir <- file.path(getwd(), target_dir) # make runs in src/
}

# cargo puts the library into a folder named after the profile, below the target if one is named.
triple <- if (windows) {
  if (grepl("aarch64", R.version$arch)) "aarch64-pc-windows-gnullvm" else "x86_64-pc-windows-gnu"
} else {
  env("CARGO_BUILD_TARGET")
}
lib_dir <- paste(
  c(target_dir, triple[nzchar(triple)], if (profile == "dev") "debug" else profile),
  collapse = "/"
)

archive <- file.exists("src/rust/vendor.tar.xz")
vendored <- switch(env("FAUCET_VENDOR", "default"),
  true = TRUE,
  false = FALSE,
  archive && !checkout
)
if (vendored && !archive) {
  fail("FAUCET_VENDOR is true, but src/rust/vendor.tar.xz is missing: 'make vendor' makes it.")
}
document <- checkout && nzchar(env("NOT_CRAN")) && !windows

# -j 2: CRAN's limit for what it builds from source. A checkout may move its lock file on; a package may not.
flags <- c(
  "--profile", profile,
  if (vendored) c("--offline", "-j 2"),
  if (!checkout) "--locked",
  if (nzchar(triple)) c("--target", triple)
)

# Debugging sections of Rust's standard library would double the size of the shared library. Both the
# GNU linker and Apple's know -S.
link_flags <- if (profile != "dev") "-Wl,-S"

# Makevars ----------------------------------------------------------------------------------------

values <- c(
  PROFILE = profile,
  TARGET_DIR = target_dir,
  LIB_DIR = lib_dir,
  CARGO_FLAGS = paste(flags, collapse = " "),
  LINK_FLAGS = paste(link_flags, collapse = " "),
  VENDORED = if (vendored) "true" else "false",
  DOCUMENT = if (document) "true" else "false",
  REMOVE = if (keep_target) "" else target_dir
)

makevars <- if (windows) "src/Makevars.win" else "src/Makevars"
text <- readLines(paste0(makevars, ".in"))
for (name in names(values)) {
  text <- gsub(paste0("@", name, "@"), values[[name]], text, fixed = TRUE)
}
output <- file(makevars, open = "wb") # no carriage returns, also on Windows
writeLines(text, output)
close(output)

message(
  "Profile ", profile, ", ",
  if (vendored) "vendored crates" else "crates from cargo's registry",
  if (keep_target) paste0(", keeping ", target_dir)
)
