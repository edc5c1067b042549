//! Archives of functions' folders, unpacked: whatever they hold, nothing is written outside, and not more than allowed.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType};

/// What an archive may come to.
#[derive(Clone, Copy, Debug)]
pub struct UnpackLimits {
    /// Files and folders.
    pub entries: u64,
    /// Bytes of all files together.
    pub bytes: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self {
            entries: 10_000,
            bytes: 1 << 30,
        }
    }
}

/// So long may a path in an archive be, in bytes, so that with the folder before it it is one that the system takes.
const LONGEST_PATH: usize = 1024;

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum BadBundle {
    #[error("it is no gzip-compressed tar archive, or not a whole one: {0}")]
    Archive(io::Error),
    #[error("`{path}` in it would be written outside of its folder")]
    Outside { path: String },
    #[error("`{path}` in it is {what}: there may be files and folders only")]
    Kind { path: String, what: &'static str },
    #[error("`{path}` is in it twice")]
    Twice { path: String },
    #[error("`{path}...` in it is too long a path")]
    Long { path: String },
    #[error("it holds more than {0} files and folders")]
    Entries(u64),
    #[error("it holds more than {0} bytes, unpacked")]
    Bytes(u64),
    #[error("it cannot be unpacked: {0}")]
    System(io::Error),
}

/// Unpacks a gzip-compressed tar archive into `folder`, which must be there, be empty, and belong to nobody else meanwhile. Of
/// the files' modes, only whether they are programs is kept. After an error, what was written so far is still there.
///
/// # Errors
/// It is none, or holds what it must not; or the system refuses.
pub fn unpack(archive: impl Read, folder: &Path, limits: UnpackLimits) -> Result<(), BadBundle> {
    // Beside the files there are heads, and padding: what is decompressed is bounded, too. What is cut here is not whole.
    let most = limits
        .bytes
        .saturating_add(limits.entries.saturating_mul(4 * 1024));
    let mut archive = Archive::new(GzDecoder::new(archive).take(most));
    let mut left = limits.bytes;
    let mut entries = 0;
    for entry in archive.entries().map_err(BadBundle::Archive)? {
        let mut entry = entry.map_err(BadBundle::Archive)?;
        entries += 1;
        if entries > limits.entries {
            return Err(BadBundle::Entries(limits.entries));
        }
        let (shown, path) = path_of(&entry)?;
        match entry.header().entry_type() {
            EntryType::Directory => make_folder(&folder.join(path))?,
            EntryType::Regular | EntryType::Continuous => {
                let written = write_file(&mut entry, &shown, &folder.join(path), left, limits)?;
                left -= written;
            }
            // What all the others have in common.
            EntryType::XGlobalHeader => {}
            other => {
                let what = kind(other);
                return Err(BadBundle::Kind { path: shown, what });
            }
        }
    }
    Ok(())
}

/// A path in an archive: to be shown, and as it is below the archive's folder.
fn path_of<R: Read>(entry: &Entry<'_, R>) -> Result<(String, PathBuf), BadBundle> {
    let bytes = entry.path_bytes();
    let text = String::from_utf8_lossy(&bytes);
    if text.len() > LONGEST_PATH {
        let path = text.chars().take(64).collect();
        return Err(BadBundle::Long { path });
    }
    let shown = crate::ops::printable::one_line(text.into_owned());
    let path = entry.path().map_err(BadBundle::Archive)?;
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(BadBundle::Outside { path: shown });
            }
        }
    }
    Ok((shown, inside))
}

fn kind(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink | EntryType::Link => "a link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        _ => "something else",
    }
}

/// With all that it is in. What is there already must be a folder: there are no links.
fn make_folder(path: &Path) -> Result<(), BadBundle> {
    fs::create_dir_all(path).map_err(BadBundle::System)
}

/// Bytes that were written, of `left`.
fn write_file<R: Read>(
    entry: &mut Entry<'_, R>,
    shown: &str,
    path: &Path,
    left: u64,
    limits: UnpackLimits,
) -> Result<u64, BadBundle> {
    // Before anything is written.
    if entry.size() > left {
        return Err(BadBundle::Bytes(limits.bytes));
    }
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    let is_program = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
    let mut options = OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .mode(if is_program { 0o755 } else { 0o644 });
    let mut file = options.open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BadBundle::Twice { path: shown.into() },
        _ => BadBundle::System(error),
    })?;
    let size = entry.size();
    let mut buffer = vec![0; 64 * 1024];
    let mut written = 0;
    while written < size {
        // Apart from each other: whose fault it is tells what to do.
        let count = entry.read(&mut buffer).map_err(BadBundle::Archive)?;
        if count == 0 {
            let cut = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(BadBundle::Archive(cut));
        }
        io::Write::write_all(&mut file, &buffer[..count]).map_err(BadBundle::System)?;
        written += count as u64;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use flate2::write::GzEncoder;
    use flate2::Compression;
    use tar::{Builder, Header};
    use tempfile::TempDir;

    use super::*;

    const LIMITS: UnpackLimits = UnpackLimits {
        entries: 10,
        bytes: 100_000,
    };

    /// An archive of entries with these names, as they are, and of these kinds.
    fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, kind, content) in entries {
            let mut header = Header::new_ustar();
            // What the crate itself refuses to write.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(if name.ends_with(".sh") { 0o4777 } else { 0o600 });
            header.set_cksum();
            builder.append(&header, *content).expect("memory");
        }
        builder
            .into_inner()
            .and_then(GzEncoder::finish)
            .expect("memory")
    }

    fn file<'a>(name: &'a str, content: &'a [u8]) -> (&'a str, EntryType, &'a [u8]) {
        (name, EntryType::Regular, content)
    }

    /// Unpacks it into `inside` of a folder, in which there is nothing else afterwards.
    fn unpacked(archive: &[u8]) -> (TempDir, Result<(), BadBundle>) {
        let around = tempfile::tempdir().expect("a folder");
        let inside = around.path().join("inside");
        fs::create_dir(&inside).expect("a folder");
        let result = unpack(archive, &inside, LIMITS);
        let names: Vec<_> = fs::read_dir(around.path()).expect("a folder").collect();
        assert_eq!(names.len(), 1, "{names:?}");
        (around, result)
    }

    fn refused(entries: &[(&str, EntryType, &[u8])]) -> BadBundle {
        unpacked(&archive(entries)).1.expect_err("refused")
    }

    #[test]
    fn files_and_folders() {
        let archive = archive(&[
            ("./", EntryType::Directory, b""),
            ("./data/", EntryType::Directory, b""),
            file("./data/a.csv", b"x,y\n1,2\n"),
            file("run.sh", b"#!/bin/sh\n"),
            file("deep/er/plumber.R", b""),
        ]);
        let (around, result) = unpacked(&archive);
        result.expect("unpacked");
        let path = |path: &str| around.path().join("inside").join(path);
        assert_eq!(fs::read(path("data/a.csv")).expect("a file"), b"x,y\n1,2\n");
        assert_eq!(fs::read(path("deep/er/plumber.R")).expect("a file"), b"");
        let mode = |name: &str| path(name).metadata().expect("a file").permissions().mode();
        // Nobody becomes another user by it.
        assert_eq!(mode("run.sh") & 0o7700, 0o700);
        assert_eq!(mode("data/a.csv") & 0o7700, 0o600);
    }

    #[test]
    fn nothing_is_written_outside() {
        for name in [
            "../escaped",
            "a/../../escaped",
            "/tmp/faucet-escaped",
            "a/b/../c",
            "..",
        ] {
            let error = refused(&[file(name, b"x")]);
            assert!(
                matches!(error, BadBundle::Outside { .. }),
                "{name}: {error}"
            );
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(!Path::new("/tmp/faucet-escaped").exists());
    }

    #[test]
    fn there_are_neither_links_nor_devices() {
        for (kind, what) in [
            (EntryType::Symlink, "a link"),
            (EntryType::Link, "a link"),
            (EntryType::Char, "a device"),
            (EntryType::Block, "a device"),
            (EntryType::Fifo, "a pipe"),
            (EntryType::new(b'Z'), "something else"),
        ] {
            let error = refused(&[("inner", kind, b""), file("inner/x", b"x")]);
            let expected = format!("`inner` in it is {what}: there may be files and folders only");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let error = refused(&[file("a", b"1"), file("./a", b"2")]);
        assert!(matches!(error, BadBundle::Twice { .. }), "{error}");
        let error = refused(&[file("a", b"1"), file("a/b", b"2")]);
        assert!(matches!(error, BadBundle::System(_)), "{error}");
    }

    #[test]
    fn bombs_do_not_go_off() {
        let zeros = vec![0; 200_000];
        let error = refused(&[file("a", &zeros)]);
        assert!(matches!(error, BadBundle::Bytes(100_000)), "{error}");
        let error = refused(&[file("a", &zeros[..60_000]), file("b", &zeros[..60_000])]);
        assert!(matches!(error, BadBundle::Bytes(100_000)), "{error}");
        let names: Vec<String> = (0..11).map(|number| number.to_string()).collect();
        let many: Vec<_> = names.iter().map(|name| file(name, b"")).collect();
        assert!(matches!(refused(&many), BadBundle::Entries(10)));
        unpacked(&archive(&many[..10])).1.expect("unpacked");
        // A head that has no end: its content is no file's.
        let endless = vec![b'a'; 1_000_000];
        let error = refused(&[
            ("././@LongLink", EntryType::GNULongName, &endless),
            file("a", b""),
        ]);
        assert!(matches!(error, BadBundle::Archive(_)), "{error}");
        let long = vec![b'a'; 2_000];
        let error = refused(&[
            ("././@LongLink", EntryType::GNULongName, &long),
            file("a", b""),
        ]);
        assert!(matches!(error, BadBundle::Long { .. }), "{error}");
    }

    #[test]
    fn what_is_none_or_cut_off() {
        let whole = archive(&[file("a", &[7; 5000]), file("b", b"x")]);
        for bytes in [&b""[..], b"no archive", &whole[..whole.len() / 2]] {
            let error = unpacked(bytes).1.expect_err("refused");
            assert!(matches!(error, BadBundle::Archive(_)), "{error}");
        }
        let mut broken = whole;
        let middle = broken.len() / 2;
        broken[middle] ^= 0xff;
        assert!(unpacked(&broken).1.is_err());
    }
}
