//! The folder that the workers' Unix sockets are in: nobody else's, and gone with the server.

use std::fs::{remove_dir_all, remove_file};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::confinement::Identity;
use super::folder::{Folder, NAME};
use crate::worker::native::control_path;

/// What the system takes as the path of a socket on every Unix, in bytes.
const LONGEST: usize = 103;

/// What a path has after the folder's: a generation, the name's end.
const REST: usize = "/12345678901234567890/s.control".len();

/// The name of a socket in a folder of its own.
const ALONE: &str = "s";

/// Where the folder is if the path of the system's own temporary folder is too long.
const SHORT: &str = "/tmp";

/// A private folder with a name for each process's socket.
pub struct Sockets(Folder);

impl Sockets {
    /// Names in `parent`, if they are short enough there.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn make(parent: &Path) -> io::Result<Self> {
        Folder::make(Self::parent(parent)).map(Self)
    }

    /// Where such folders are, if temporary files go to `parent`.
    pub fn parent(parent: &Path) -> &Path {
        let length = parent.as_os_str().as_bytes().len() + NAME.len() + REST;
        if length > LONGEST {
            Path::new(SHORT)
        } else {
            parent
        }
    }

    /// Where the process of a generation listens, if it is native: one of another user (`owner`) in a folder of its own.
    ///
    /// # Errors
    /// The folder is gone, and there can be no other.
    pub fn path(&mut self, generation: u64, owner: Option<&Identity>) -> io::Result<PathBuf> {
        let name = generation.to_string();
        if owner.is_some() {
            return Ok(self.0.inner(&name, owner)?.join(ALONE));
        }
        self.0.ensure()?;
        Ok(self.0.path().join(name))
    }
}

/// Lets another process listen there.
pub fn unbind(socket: &Path) {
    // Those that were never made are as good as gone.
    let _ = remove_file(socket);
    let _ = remove_file(control_path(socket));
}

/// Removes what a process that is gone has left.
pub fn clear(socket: &Path) {
    unbind(socket);
    if socket.file_name().is_some_and(|name| name == ALONE) {
        let _ = socket.parent().map(remove_dir_all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_short_enough_for_a_socket_and_cleared() {
        let deep = tempfile::tempdir().expect("a folder");
        let deep = deep.path().join("a-name-of-many-characters".repeat(4));
        std::fs::create_dir(&deep).expect("made");
        let mut sockets = Sockets::make(&deep).expect("a folder");
        let socket = sockets.path(u64::MAX, None).expect("a path");
        assert!(control_path(&socket).as_os_str().len() <= LONGEST);
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        drop(listener);
        clear(&socket);
        assert!(!socket.exists());
    }
}
