//! Records on disk: plain files that are either as they were or as they are now, whenever the machine stops.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What a file is called while it is written. No record begins with a dot.
const UNFINISHED: &str = ".unfinished-";

/// What is behind the name of a record that cannot be read.
const BROKEN: &str = ".broken";

/// A folder of records of one kind: `NAME.EXTENSION` each, for this user alone. One process at a time may have it; its owner
/// sees to that.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    extension: &'static str,
}

/// A record that was set aside.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken {
    pub name: String,
    /// Where it is now, for whoever wants to mend it.
    pub path: PathBuf,
    pub why: String,
}

impl Records {
    /// Makes the folder if it is not there, and removes what was not finished.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: PathBuf, extension: &'static str) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Err(_) => {}
            // So that it is there for those that come into it.
            Ok(()) => sync(folder.parent().unwrap_or(Path::new("/")))?,
        }
        let records = Self { folder, extension };
        for name in records.entries()? {
            if name.starts_with(UNFINISHED) {
                // What cannot be removed is in nobody's way until that record is written, which says so.
                let _ = fs::remove_file(records.folder.join(name));
            }
        }
        Ok(records)
    }

    /// Whether there is no record.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn is_empty(&self) -> io::Result<bool> {
        Ok(self.files()?.is_empty())
    }

    /// Has this record from now on, in place of one of that name. When this returns, it stays.
    ///
    /// # Errors
    /// It cannot be written: all is as before. Or it cannot be made sure that it stays: it may be as before when the machine
    /// stops.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        write_whole(&self.path(name), content)
    }

    /// Has no record of that name from now on.
    ///
    /// # Errors
    /// It cannot be removed, or it cannot be made sure that it stays so.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => sync(&self.folder),
        }
    }

    /// All records, by name. Those of which `read` makes nothing are set aside: they are no records any more.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn read<T>(
        &self,
        mut read: impl FnMut(&str, Vec<u8>) -> Result<T, String>,
    ) -> io::Result<(Vec<T>, Vec<Broken>)> {
        let (mut records, mut broken) = (Vec::new(), Vec::new());
        for (name, file) in self.files()? {
            let content = fs::read(self.folder.join(&file));
            match content
                .map_err(|error| error.to_string())
                .and_then(|content| read(&name, content))
            {
                Ok(record) => records.push(record),
                Err(why) => broken.push(self.set_aside(name, &file, why)?),
            }
        }
        Ok((records, broken))
    }

    fn set_aside(&self, name: String, file: &str, why: String) -> io::Result<Broken> {
        let candidate = |number: u32| match number {
            1 => self.folder.join(format!("{file}{BROKEN}")),
            _ => self.folder.join(format!("{file}{BROKEN}-{number}")),
        };
        // None that was set aside before is overwritten.
        let mut free = (1..).map(candidate).filter(|path| !path.exists());
        let path = free.next().unwrap_or_else(|| candidate(0));
        fs::rename(self.folder.join(file), &path)?;
        sync(&self.folder)?;
        Ok(Broken { name, path, why })
    }

    /// Whether this is so of some record, of those that can be read.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn any(&self, mut is_so: impl FnMut(&str, Vec<u8>) -> bool) -> io::Result<bool> {
        let mut files = self.files()?.into_iter();
        Ok(files.any(|(name, file)| {
            let content = fs::read(self.folder.join(file));
            content.is_ok_and(|content| is_so(&name, content))
        }))
    }

    /// The name of each record, and of its file, sorted.
    fn files(&self) -> io::Result<Vec<(String, String)>> {
        let suffix = format!(".{}", self.extension);
        let record = |file: String| {
            let name = file.strip_suffix(&suffix)?.to_owned();
            (!file.starts_with('.')).then_some((name, file))
        };
        let mut files: Vec<_> = self.entries()?.into_iter().filter_map(record).collect();
        files.sort_unstable();
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.{}", self.extension))
    }

    /// The names of all files. What is no text is none of ours.
    fn entries(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }
}

/// Has `content` in the file `path`, in place of what was there: when this returns, it stays.
///
/// # Errors
/// As of [`Records::write`].
pub(super) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = folder.join(format!("{UNFINISHED}{name}"));
    let written = write_new(&unfinished, content).and_then(|()| fs::rename(&unfinished, path));
    if let Err(error) = written {
        // What is left here is removed at the next start.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    sync(folder)
}

/// What is there already is of no use: a link there would lead elsewhere.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// The names in a folder stay as they are now.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn folder() -> TempDir {
        tempfile::tempdir().expect("a folder")
    }

    fn open(folder: &TempDir) -> Records {
        Records::open(folder.path().join("records"), "json").expect("records")
    }

    /// A record is good if it ends with a full stop.
    fn all(records: &Records) -> (Vec<(String, String)>, Vec<Broken>) {
        let read = |name: &str, content: Vec<u8>| {
            let text = String::from_utf8(content).map_err(|error| error.to_string())?;
            match text.ends_with('.') {
                true => Ok((name.to_owned(), text)),
                false => Err("it is cut off".to_owned()),
            }
        };
        records.read(read).expect("a folder that can be read")
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = pairs
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        owned.collect()
    }

    #[test]
    fn records_come_and_go() {
        let folder = folder();
        let records = open(&folder);
        records.write("b", b"first.").expect("written");
        records.write("a", b"one.").expect("written");
        records.write("b", b"second.").expect("written");
        records.write("a.json", b"two.").expect("written");
        let expected = pairs(&[("a.json", "two."), ("a", "one."), ("b", "second.")]);
        let (mut found, broken) = all(&open(&folder));
        found.sort_by(|one, other| other.0.len().cmp(&one.0.len()).then(one.cmp(other)));
        assert_eq!((found, broken), (expected, vec![]));
        records.remove("a.json").expect("removed");
        records.remove("b").expect("removed");
        records.remove("b").expect("gone already");
        assert_eq!(all(&open(&folder)).0, pairs(&[("a", "one.")]));
    }

    #[test]
    fn they_are_their_owners_alone() {
        let folder = folder();
        open(&folder).write("a", b"one.").expect("written");
        let mode = |path: &str| {
            let metadata = folder.path().join(path).metadata().expect("it exists");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!((mode("records"), mode("records/a.json")), (0o700, 0o600));
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_and_the_others_are_read() {
        let folder = folder();
        let records = open(&folder);
        records.write("good", b"one.").expect("written");
        let path = folder.path().join("records");
        for round in ["bad.json.broken", "bad.json.broken-2"] {
            fs::write(path.join("bad.json"), "cut of").expect("written");
            fs::write(path.join("dark.json"), [0xff, b'.']).expect("written");
            fs::create_dir(path.join("folder.json")).expect("made");
            let (found, broken) = all(&records);
            assert_eq!(found, pairs(&[("good", "one.")]));
            let names: Vec<_> = broken.iter().map(|broken| &*broken.name).collect();
            assert_eq!(names, ["bad", "dark", "folder"]);
            assert_eq!(broken[0].path, path.join(round));
            assert_eq!(fs::read(&broken[0].path).expect("kept"), b"cut of");
            assert!(broken.iter().all(|broken| !broken.why.is_empty()));
            assert_eq!(all(&records), (pairs(&[("good", "one.")]), vec![]));
        }
    }

    /// What lies there under the name of a file that is not finished is not written to.
    #[test]
    fn a_link_leads_nowhere() {
        let folder = folder();
        let records = open(&folder);
        let victim = folder.path().join("victim");
        fs::write(&victim, "untouched").expect("written");
        let link = folder.path().join("records/.unfinished-a.json");
        std::os::unix::fs::symlink(&victim, link).expect("linked");
        records.write("a", b"one.").expect("written");
        assert_eq!(fs::read(&victim).expect("there"), b"untouched");
        assert_eq!(all(&records).0, pairs(&[("a", "one.")]));
    }

    #[test]
    fn what_cannot_be_written_changes_nothing() {
        let folder = folder();
        let records = open(&folder);
        records.write("a", b"one.").expect("written");
        // Not even root writes a file in its place.
        fs::create_dir_all(folder.path().join("records/.unfinished-a.json/full")).expect("made");
        records.write("a", b"two.").expect_err("no room");
        assert_eq!(all(&records).0, pairs(&[("a", "one.")]));
    }

    proptest! {
        /// The machine stops in the middle of writing: every state that the folder goes through leads to the one before or
        /// the one after.
        #[test]
        fn every_cut_leaves_the_one_before_or_the_one_after(
            before in prop::option::of("[a-z]{0,9}[.]"),
            after in "[a-z]{0,9}[.]",
            written in 0..=10_usize,
        ) {
            let folder = folder();
            if let Some(before) = &before {
                open(&folder).write("a", before.as_bytes()).expect("written");
            }
            let written = &after[..written.min(after.len())];
            let unfinished = folder.path().join("records/.unfinished-a.json");
            drop(open(&folder));
            fs::write(&unfinished, written).expect("written");
            let records = open(&folder);
            let expected: Vec<_> = before.iter().map(|text| ("a".to_owned(), text.clone())).collect();
            prop_assert_eq!(all(&records), (expected, vec![]));
            prop_assert!(!unfinished.exists());
            records.write("a", after.as_bytes()).expect("written");
            prop_assert_eq!(all(&open(&folder)), (vec![("a".to_owned(), after)], vec![]));
        }
    }
}
