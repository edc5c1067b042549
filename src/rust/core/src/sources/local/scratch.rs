//! Temporary folders for the processes of a server: one for each, removed when the process is gone.
//!
//! A process finds its own in `TMPDIR`, and so R's `tempdir()` is in it, and what its libraries and its children leave there
//! goes with it, too, however it ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::confinement::Identity;
use super::folder::{sweep, Folder};
use crate::signals;

/// How long the end of a server waits until all is removed.
const END: Duration = Duration::from_secs(5);

/// The folder of all of them, and the thread that removes them: there may be much in one.
pub struct Scratch {
    folder: Folder,
    removal: mpsc::Sender<PathBuf>,
    ended: oneshot::Receiver<()>,
}

impl Scratch {
    /// Folders in `parent`. What killed servers have left there, or in `others`, is removed.
    ///
    /// # Errors
    /// There can be no folder, or no thread.
    pub fn make(parent: &Path, others: Vec<PathBuf>) -> io::Result<Self> {
        let folder = Folder::make(parent)?;
        let (removal, removals) = mpsc::channel::<PathBuf>();
        let (sender, ended) = oneshot::channel();
        let mut parents = vec![parent.to_owned()];
        parents.extend(others);
        signals::start_thread("faucet-sweep", signals::STACK, move || {
            for parent in parents {
                sweep(&parent);
            }
            while let Ok(path) = removals.recv() {
                // What an orphan still writes is removed with the folder of all.
                let _ = fs::remove_dir_all(path);
            }
            // Nobody waits any more if the server was killed.
            let _ = sender.send(());
        })?;
        Ok(Self {
            folder,
            removal,
            ended,
        })
    }

    /// A folder for the process of a generation, which is `owner`'s if it is another user's.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn take(&mut self, generation: u64, owner: Option<&Identity>) -> io::Result<Temporary> {
        let path = self.folder.inner(&generation.to_string(), owner)?;
        Ok(Temporary {
            path,
            removal: self.removal.clone(),
        })
    }

    /// Waits until all folders that were given up are removed, but not for ever.
    pub async fn end(self) {
        drop(self.removal);
        let _ = tokio::time::timeout(END, self.ended).await;
    }
}

/// One process's folder: dropped, it is removed.
pub struct Temporary {
    path: PathBuf,
    removal: mpsc::Sender<PathBuf>,
}

impl Temporary {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where a process is to have its temporary files.
    pub fn variable(&self) -> Option<(String, String)> {
        let path = self.path.to_str()?;
        Some(("TMPDIR".into(), path.into()))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Fails only when the thread is gone: then it goes with the folder of all.
        let _ = self.removal.send(std::mem::take(&mut self.path));
    }
}
