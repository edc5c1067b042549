//! A look at the files that are watched: which there are, and by what one is told from its next version.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::patterns::{is_code, is_skipped};
use super::Scope;

/// Directories that are looked at, and files that are known, at most: someone may have named `/` or a home.
pub const MOST_DIRECTORIES: usize = 5_000;
pub const MOST_FILES: usize = 50_000;

/// A file's version. A new file that takes its name has another inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    seconds: i64,
    nanoseconds: i64,
    length: u64,
    inode: u64,
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self {
            seconds: file.mtime(),
            nanoseconds: file.mtime_nsec(),
            length: file.len(),
            inode: file.ino(),
        }
    }
}

/// Something whose changes are to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The directory that holds what is watched.
    Parent,
    Directory,
    /// A file that a link leads to, maybe elsewhere.
    Linked,
}

/// What is there.
pub struct Seen {
    pub files: BTreeMap<PathBuf, Stamp>,
    /// There is more than may be.
    pub is_cut: bool,
}

/// Looks. `enter` hears of each directory before its entries are read, so that no change is between the two.
///
/// # Errors
/// The directory as a whole cannot be read. What cannot be read in it is passed over, and so is a single file.
pub fn look(scope: &Scope, enter: &mut dyn FnMut(&Path, What)) -> io::Result<Seen> {
    let root = scope.root();
    if let Some(parent) = root.parent() {
        enter(parent, What::Parent);
    }
    let mut seen = Seen {
        files: BTreeMap::new(),
        is_cut: false,
    };
    let (dir, except) = match scope {
        Scope::App { dir, except } => (dir, except),
        Scope::File(path) => {
            if fs::symlink_metadata(path).is_ok_and(|file| file.is_symlink()) {
                enter(path, What::Linked);
            }
            if let Ok(file) = fs::metadata(path) {
                seen.files.insert(path.clone(), Stamp::of(&file));
            }
            return Ok(seen);
        }
    };
    // By device and inode: links may lead in circles.
    let mut visited = HashSet::new();
    let mut left = vec![dir.clone()];
    while let Some(dir) = left.pop() {
        if visited.len() >= MOST_DIRECTORIES {
            seen.is_cut = true;
            break;
        }
        let is_root = visited.is_empty();
        let entries = fs::metadata(&dir).and_then(|found| {
            if !visited.insert((found.dev(), found.ino())) {
                return Ok(None);
            }
            enter(&dir, What::Directory);
            fs::read_dir(&dir).map(Some)
        });
        match entries {
            Ok(Some(entries)) => {
                for entry in entries.flatten() {
                    let path = entry.path();
                    if except.as_ref() != Some(&path) {
                        note(&entry, path, &mut left, &mut seen, enter);
                    }
                }
            }
            Err(error) if is_root => return Err(error),
            Ok(None) | Err(_) => {}
        }
    }
    Ok(seen)
}

/// An entry of a directory: a file to know, or a directory that is left to look at.
fn note(
    entry: &fs::DirEntry,
    path: PathBuf,
    left: &mut Vec<PathBuf>,
    seen: &mut Seen,
    enter: &mut dyn FnMut(&Path, What),
) {
    let name = entry.file_name();
    // No code of R's has a name that is no text.
    let Some(name) = name.to_str() else {
        return;
    };
    let (code, skipped) = (is_code(name), is_skipped(name));
    if !code && skipped {
        return;
    }
    let Ok(kind) = entry.file_type() else {
        return;
    };
    if kind.is_dir() || (kind.is_symlink() && path.is_dir()) {
        if !skipped {
            left.push(path);
        }
        return;
    }
    if !code {
        return;
    }
    if kind.is_symlink() {
        enter(&path, What::Linked);
    }
    let Ok(file) = fs::metadata(&path) else {
        return;
    };
    if !file.is_file() {
        return;
    }
    if seen.files.len() >= MOST_FILES {
        seen.is_cut = true;
        return;
    }
    seen.files.insert(path, Stamp::of(&file));
}
