//! Which files are an app's code: those that R, or a page that R makes, reads when the app starts.
//!
//! Data (`.rds`, `.csv`, `.sqlite`, logs) are none: apps write them, and a reload for each of these would end a worker's work
//! in the middle of it, again and again.

/// Endings of files, in lower case.
const ENDINGS: [&str; 29] = [
    // Of R, and of what R compiles or calls.
    "r", "rmd", "qmd", "rnw", "rprofile", "c", "cc", "cpp", "h", "hpp", "stan", "py", "sql",
    // Settings.
    "yml", "yaml", "toml", "json", "ini", "conf", "cfg", "env", "renviron",
    // Pages, and templates of them.
    "html", "htm", "css", "scss", "sass", "js", "mjs",
];

/// Names of files without such an ending, in lower case.
const NAMES: [&str; 3] = ["description", "namespace", "renv.lock"];

/// Hidden files that are code all the same, in lower case.
const HIDDEN: [&str; 3] = [".env", ".renviron", ".rprofile"];

/// Directories of packages, of other languages, and of what is made from documents.
const SKIPPED: [&str; 9] = [
    "renv",
    "packrat",
    "node_modules",
    "__pycache__",
    "rsconnect",
    "_site",
    "_book",
    "_freeze",
    "shiny_bookmarks",
];

/// Of directories that knitr and Quarto make beside a document.
const MADE: [&str; 2] = ["_cache", "_files"];

/// The link by which Kubernetes replaces all files of a mounted ConfigMap at once.
const CONFIG_MAP: &str = "..data";

/// Whether a file of this name is code. Files that editors write meanwhile (`.x.R.swp`, `x.R~`, `.#x.R`, `#x.R#`) are not.
pub fn is_code(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    if HIDDEN.contains(&name.as_str()) || name.starts_with(".env.") {
        return true;
    }
    if name.starts_with(['.', '#']) {
        return false;
    }
    NAMES.contains(&name.as_str())
        || name
            .rsplit_once('.')
            .is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

/// Whether nothing in a directory of this name is looked at.
pub fn is_skipped(name: &str) -> bool {
    name.starts_with('.')
        || SKIPPED.contains(&name)
        || MADE.iter().any(|ending| name.ends_with(ending))
}

/// Whether the coming or going of this name may change files of others.
pub fn is_switch(name: &str) -> bool {
    name == CONFIG_MAP
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_told_from_data_and_from_what_editors_write() {
        for code in [
            "plumber.R",
            "app.r",
            "report.Rmd",
            "_server.yml",
            "config.JSON",
            ".Renviron",
            ".env",
            ".env.local",
            ".Rprofile",
            "DESCRIPTION",
            "renv.lock",
            "styles.css",
            "model.stan",
            "a b.R",
        ] {
            assert!(is_code(code), "{code}");
        }
        for other in [
            "",
            "R",
            ".R",
            ".plumber.R.swp",
            "plumber.R~",
            "#plumber.R#",
            ".#plumber.R",
            "4913",
            "plumber.R.tmp",
            "data.rds",
            "rows.csv",
            "api.log",
            "db.sqlite",
            ".RData",
            ".Rhistory",
            "README",
            ".gitignore",
        ] {
            assert!(!is_code(other), "{other}");
        }
        for skipped in [
            ".git",
            ".Rproj.user",
            "renv",
            "packrat",
            "node_modules",
            "report_files",
            "a_cache",
        ] {
            assert!(is_skipped(skipped), "{skipped}");
        }
        for looked_at in ["R", "www", "routes", "data", "files"] {
            assert!(!is_skipped(looked_at), "{looked_at}");
        }
    }
}
