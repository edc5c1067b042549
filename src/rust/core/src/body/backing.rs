//! The temporary file behind a body that outgrew its memory.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

/// How much is read from the file at a time, in bytes.
const READ_SIZE: u64 = 256 * 1024;

/// Where temporary files go.
static DIRECTORY: RwLock<Option<PathBuf>> = RwLock::new(None);

/// From now on temporary files go there: to be told by who may [read the environment](crate::environment). Before, it
/// is `/tmp`.
pub fn set_directory(directory: &Path) {
    *DIRECTORY.write().unwrap_or_else(PoisonError::into_inner) = Some(directory.to_owned());
}

fn directory() -> PathBuf {
    let known = DIRECTORY.read().unwrap_or_else(PoisonError::into_inner);
    known.clone().unwrap_or_else(|| "/tmp".into())
}

/// A file, mostly an unnamed temporary one that the system removes with the last handle. All access happens on the
/// runtime's blocking threads, never on the one that serves.
#[derive(Clone)]
pub(super) struct Backing {
    file: Arc<File>,
}

impl Backing {
    pub(super) async fn create() -> io::Result<Self> {
        let file = blocking(|| tempfile::tempfile_in(directory())).await?;
        Ok(Self {
            file: Arc::new(file),
        })
    }

    pub(super) async fn write(&self, chunk: Bytes, at: u64) -> io::Result<()> {
        let file = self.file.clone();
        blocking(move || file.write_all_at(&chunk, at)).await
    }

    /// Where another process of this machine finds this file, for as long as it is open here.
    pub(super) fn path_for_others(&self) -> PathBuf {
        let (pid, fd) = (std::process::id(), self.file.as_raw_fd());
        format!("/proc/{pid}/fd/{fd}").into()
    }

    /// Fills `buffer` from `at` on, on this thread.
    pub(super) fn read_now(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }

    /// Reads some bytes of the range `at..end`; never empty unless the range is.
    pub(super) async fn read(self, at: u64, end: u64) -> io::Result<Bytes> {
        blocking(move || {
            let mut chunk = vec![0; (end - at).min(READ_SIZE) as usize];
            self.file.read_exact_at(&mut chunk, at)?;
            Ok(Bytes::from(chunk))
        })
        .await
    }
}

impl From<File> for Backing {
    fn from(file: File) -> Self {
        Self {
            file: Arc::new(file),
        }
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|gone| Err(io::Error::other(gone)))
}
