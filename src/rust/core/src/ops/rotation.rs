//! A log file that is open, and what becomes of it when it is full: `name` becomes `name.1`, `name.1` becomes `name.2`, and so on.

use std::ffi::OsString;
use std::fs::{hard_link, remove_file, rename, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

/// A file to append to.
pub struct Opened(File);

/// What a rotation led to.
pub enum Rotated {
    /// Another file.
    Anew(Opened),
    /// The same, empty.
    Emptied,
}

impl Opened {
    /// Opens a file, or makes it: for its owner's eyes. Several processes may append to it, and `copytruncate` works.
    ///
    /// # Errors
    /// What the system says. `ENXIO` for a pipe that nobody reads.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.append(true).mode(0o600);
        // Neither to wait for who reads a pipe, nor for room in one.
        options.custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits());
        options.create(true).open(path).map(Self)
    }

    /// Appends some of `bytes`, and says how many.
    ///
    /// # Errors
    /// What the system says.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => Ok(count),
        }
    }

    /// Its size in bytes; none for what is no regular file.
    ///
    /// # Errors
    /// What the system says.
    pub fn size(&self) -> io::Result<Option<u64>> {
        let metadata = self.0.metadata()?;
        Ok(metadata.is_file().then_some(metadata.len()))
    }

    /// Cuts off the last bytes; whether that was possible.
    pub fn take_back(&self, count: usize) -> bool {
        let Ok(Some(size)) = self.size() else {
            return false;
        };
        size.checked_sub(count as u64)
            .is_some_and(|size| self.0.set_len(size).is_ok())
    }

    /// Makes room under the name `path`. Of what was written, the last `keep` files stay.
    ///
    /// # Errors
    /// What the system says. Then this file is still the one to append to, and nothing is lost.
    pub fn rotate(&self, path: &Path, keep: u32) -> io::Result<Rotated> {
        if !self.is_at(path)? {
            // Someone else has moved it.
            return Self::open(path).map(Rotated::Anew);
        }
        if keep == 0 {
            self.0.set_len(0)?;
            return Ok(Rotated::Emptied);
        }
        // Up to the first gap: what is behind it need not move.
        let gap = (1..keep).find(|number| !exists(&numbered(path, *number)));
        for number in (1..gap.unwrap_or(keep)).rev() {
            rename(numbered(path, number), numbered(path, number + 1))?;
        }
        let last = numbered(path, 1);
        rename(path, &last)?;
        Self::open(path).map(Rotated::Anew).map_err(|error| {
            // As it was, unless there is another file by now. If it stays where it is, all is in it all the same.
            if hard_link(&last, path).is_ok() {
                let _ = remove_file(&last);
            }
            error
        })
    }

    /// Whether this is the file of that name.
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let own = self.0.metadata()?;
        let same = |other: Metadata| (own.dev(), own.ino()) == (other.dev(), other.ino());
        match path.metadata() {
            Ok(other) => Ok(same(other)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}
