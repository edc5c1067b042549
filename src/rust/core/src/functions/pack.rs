//! Folders of functions, packed: the same files make the same archive, byte for byte, whoever packs them, and wherever.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use flate2::Compression;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::UnpackLimits;
use crate::environment::SystemError;

/// What tools keep beside code, and no function needs.
const LEFT_OUT: [&str; 7] = [
    ".git",
    ".svn",
    ".hg",
    ".Rproj.user",
    ".Rhistory",
    ".DS_Store",
    ".quarto",
];

/// Why a folder is not packed.
#[derive(Debug, thiserror::Error)]
pub enum Unpackable {
    #[error("{}: {}", path.display(), SystemError(error))]
    System { path: PathBuf, error: io::Error },
    #[error("{} is {what}: there may be files and folders only, and links to files", path.display())]
    Kind { path: PathBuf, what: &'static str },
    #[error("there are more than {0} files and folders in it")]
    Entries(u64),
    #[error("it holds more than {0} bytes")]
    Bytes(u64),
    /// Whoever packs has been interrupted.
    #[error("interrupted")]
    Interrupted,
}

impl Unpackable {
    fn system(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        Self::System { path, error }
    }

    fn kind(path: &Path, what: &'static str) -> Self {
        let path = path.to_owned();
        Self::Kind { path, what }
    }
}

/// Packs `folder` into the new file `archive`, gzip-compressed, and returns the SHA-256 of that file in hexadecimal digits. Links to
/// files are followed; of the files' modes, only whether they are programs is kept. `go_on` is asked again and again.
///
/// # Errors
/// The folder holds what no bundle may, or the system refuses. Then the archive is not whole.
pub fn pack(
    folder: &Path,
    archive: &Path,
    limits: UnpackLimits,
    go_on: &dyn Fn() -> bool,
) -> Result<String, Unpackable> {
    let at = |error| Unpackable::system(archive, error);
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(archive)
        .map_err(at)?;
    let hashed = Hashed {
        file: BufWriter::new(file),
        hash: Sha256::new(),
    };
    let mut packer = Packer {
        builder: Builder::new(GzEncoder::new(hashed, Compression::default())),
        entries: 0,
        bytes: 0,
        limits,
        go_on,
    };
    packer.folder(folder, Path::new(""))?;
    let mut hashed = packer
        .builder
        .into_inner()
        .and_then(GzEncoder::finish)
        .map_err(at)?;
    hashed.file.flush().map_err(at)?;
    let digest = hashed.hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A file, and the hash of what was written.
struct Hashed {
    file: BufWriter<File>,
    hash: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Packer<'a> {
    builder: Builder<GzEncoder<Hashed>>,
    entries: u64,
    bytes: u64,
    limits: UnpackLimits,
    go_on: &'a dyn Fn() -> bool,
}

impl Packer<'_> {
    /// What is in `folder`, which is called `inside` in the archive, in the order of names.
    fn folder(&mut self, folder: &Path, inside: &Path) -> Result<(), Unpackable> {
        let at = |error| Unpackable::system(folder, error);
        let entries: io::Result<Vec<_>> = fs::read_dir(folder).map_err(at)?.collect();
        let mut names: Vec<_> = entries.map_err(at)?.iter().map(|e| e.file_name()).collect();
        names.sort();
        for name in names {
            if LEFT_OUT.iter().any(|other| name == *other) {
                continue;
            }
            if !(self.go_on)() {
                return Err(Unpackable::Interrupted);
            }
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(Unpackable::Entries(self.limits.entries));
            }
            self.entry(&folder.join(&name), &inside.join(&name))?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, inside: &Path) -> Result<(), Unpackable> {
        let at = |error| Unpackable::system(path, error);
        let is_link = fs::symlink_metadata(path).map_err(at)?.is_symlink();
        let metadata = fs::metadata(path).map_err(at)?;
        if metadata.is_dir() && is_link {
            // It could lead back to where it is.
            let what = "a link to a folder";
            return Err(Unpackable::kind(path, what));
        }
        let mut header = Header::new_gnu();
        header.set_mtime(0);
        if metadata.is_dir() {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            header.set_size(0);
            let appended = self.builder.append_data(&mut header, inside, io::empty());
            appended.map_err(at)?;
            return self.folder(path, inside);
        }
        if !metadata.is_file() {
            let what = "neither a file nor a folder";
            return Err(Unpackable::kind(path, what));
        }
        self.bytes = self.bytes.saturating_add(metadata.len());
        if self.bytes > self.limits.bytes {
            return Err(Unpackable::Bytes(self.limits.bytes));
        }
        let is_program = metadata.permissions().mode() & 0o100 != 0;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(if is_program { 0o755 } else { 0o644 });
        header.set_size(metadata.len());
        let file = File::open(path).map_err(at)?;
        let reader = Whole {
            file,
            left: metadata.len(),
            go_on: self.go_on,
        };
        let appended = self.builder.append_data(&mut header, inside, reader);
        match appended {
            Err(_) if !(self.go_on)() => Err(Unpackable::Interrupted),
            appended => appended.map_err(at),
        }
    }
}

/// As much of a file as was announced: it may be written to meanwhile.
struct Whole<'a> {
    file: File,
    left: u64,
    go_on: &'a dyn Fn() -> bool,
}

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Ok(0);
        }
        if !(self.go_on)() {
            return Err(io::Error::other("interrupted"));
        }
        let most = usize::try_from(self.left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = self.file.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::Error::other("the file has become shorter meanwhile"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, SystemTime};

    use tempfile::TempDir;

    use super::*;
    use crate::functions::unpack;

    const LIMITS: UnpackLimits = UnpackLimits {
        entries: 10,
        bytes: 1000,
    };

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, content).expect("a file");
        }
        folder
    }

    fn packed(folder: &Path) -> Result<(String, Vec<u8>), Unpackable> {
        let elsewhere = tempfile::tempdir().expect("a folder");
        let archive = elsewhere.path().join("bundle");
        let digest = pack(folder, &archive, LIMITS, &|| true)?;
        Ok((digest, fs::read(archive).expect("an archive")))
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let long = format!("data/{}/{}.csv", "a".repeat(120), "b".repeat(120));
        let files = [
            ("plumber.R", "#* @get /\n"),
            (&*long, "x\n1\n"),
            ("run.sh", ""),
        ];
        let from = folder(&files);
        fs::create_dir(from.path().join("empty")).expect("a folder");
        fs::create_dir(from.path().join(".git")).expect("a folder");
        let program = fs::Permissions::from_mode(0o700);
        fs::set_permissions(from.path().join("run.sh"), program).expect("its own");
        symlink("plumber.R", from.path().join("link.R")).expect("a link");
        let (digest, archive) = packed(from.path()).expect("packed");
        assert_eq!(digest.len(), 64);
        let to = tempfile::tempdir().expect("a folder");
        unpack(&*archive, to.path(), LIMITS).expect("unpacked");
        for (name, content) in files {
            let read = fs::read_to_string(to.path().join(name));
            assert_eq!(read.expect("a file"), content);
        }
        let link = to.path().join("link.R");
        assert!(fs::symlink_metadata(&link).expect("a file").is_file());
        assert!(to.path().join("empty").is_dir());
        assert!(!to.path().join(".git").exists());
        let mode = |name: &str| {
            fs::metadata(to.path().join(name))
                .expect("a file")
                .permissions()
                .mode()
        };
        assert_eq!(mode("run.sh") & 0o700, 0o700);
        assert_eq!(mode("plumber.R") & 0o100, 0);
    }

    #[test]
    fn the_same_files_make_the_same_archive() {
        let (one, other) = (
            folder(&[("a", "1"), ("b/c", "2")]),
            folder(&[("b/c", "2"), ("a", "1")]),
        );
        let file = File::open(one.path().join("a")).expect("a file");
        let before = SystemTime::now() - Duration::from_secs(1_000_000);
        file.set_modified(before).expect("its own");
        let mine = fs::Permissions::from_mode(0o600);
        fs::set_permissions(one.path().join("a"), mine).expect("its own");
        assert_eq!(
            packed(one.path()).expect("packed"),
            packed(other.path()).expect("packed")
        );
        let third = folder(&[("a", "1"), ("b/c", "3")]);
        assert_ne!(
            packed(one.path()).expect("packed").0,
            packed(third.path()).expect("packed").0
        );
    }

    #[test]
    fn what_no_bundle_may_hold() {
        let from = folder(&[("a", "")]);
        symlink("..", from.path().join("up")).expect("a link");
        let error = packed(from.path()).expect_err("a loop").to_string();
        assert!(error.contains("/up is a link to a folder"), "{error}");
        let from = folder(&[]);
        let _socket = UnixListener::bind(from.path().join("s")).expect("a socket");
        let error = packed(from.path()).expect_err("a socket").to_string();
        assert!(
            error.contains("/s is neither a file nor a folder"),
            "{error}"
        );
        let from = folder(&[]);
        symlink("nowhere", from.path().join("broken")).expect("a link");
        assert!(matches!(
            packed(from.path()),
            Err(Unpackable::System { .. })
        ));
    }

    #[test]
    fn limits_and_interrupts() {
        let names: Vec<String> = (0..11).map(|number| number.to_string()).collect();
        let files: Vec<_> = names.iter().map(|name| (&**name, "")).collect();
        assert!(matches!(
            packed(folder(&files).path()),
            Err(Unpackable::Entries(10))
        ));
        let large = "x".repeat(600);
        let from = folder(&[("a", &large), ("b", &large)]);
        assert!(matches!(packed(from.path()), Err(Unpackable::Bytes(1000))));
        let archive = from.path().with_extension("bundle");
        let outcome = pack(from.path(), &archive, LIMITS, &|| false);
        assert!(matches!(outcome, Err(Unpackable::Interrupted)));
        fs::remove_file(archive).expect("there");
    }
}
