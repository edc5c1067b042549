//! The folder that the workers' Unix sockets are in: nobody else's, and gone with the server.

use std::fs::{remove_file, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::worker::native::control_path;

/// What the system takes as the path of a socket on every Unix, in bytes.
const LONGEST: usize = 103;

/// What a path has after the temporary folder: ours, a generation, the name's end.
const REST: usize = "/faucet-123456/12345678901234567890.control".len();

/// A private folder with a name for each process's socket.
pub struct Sockets(TempDir);

impl Sockets {
    /// In a folder for temporary files, unless its path is too long for a socket's.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn make_in(temporary: &Path) -> io::Result<Self> {
        let long = temporary.as_os_str().as_bytes().len() + REST > LONGEST;
        let parent = if long { Path::new("/tmp") } else { temporary };
        tempfile::Builder::new()
            .prefix("faucet-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir_in(parent)
            .map(Self)
    }

    /// Where the process of a generation listens, if it is native.
    pub fn path(&self, generation: u64) -> PathBuf {
        self.0.path().join(generation.to_string())
    }
}

/// Removes what a process that is gone has left.
pub fn clear(socket: &Path) {
    // Those that were never made are as good as gone.
    let _ = remove_file(socket);
    let _ = remove_file(control_path(socket));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_private_and_goes_with_its_owner() {
        let sockets = Sockets::make_in(&std::env::temp_dir()).expect("a folder");
        let folder = sockets.0.path().to_owned();
        let mode = folder.metadata().expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let socket = sockets.path(u64::MAX);
        assert!(control_path(&socket).as_os_str().len() <= LONGEST);
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        drop(listener);
        clear(&socket);
        assert!(!socket.exists());
        drop(sockets);
        assert!(!folder.exists());
    }
}
