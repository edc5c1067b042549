//! The temporary file behind a body that outgrew its memory.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::store::Store;
use crate::descriptors::Descriptor;

/// How much is read from the file at a time, in bytes, and how much if the memory for bodies is used up.
const READ_SIZE: u64 = 256 * 1024;
const LITTLE: u64 = 16 * 1024;

struct Open {
    file: File,
    /// After the file: it is counted until it is closed.
    _descriptor: Option<Descriptor>,
}

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
/// store's threads, never on the one that serves.
#[derive(Clone)]
pub(super) struct Backing {
    open: Arc<Open>,
    store: Store,
}

impl Backing {
    /// A new file, under a descriptor that was taken for it.
    pub(super) async fn create(store: &Store, descriptor: Descriptor) -> io::Result<Self> {
        let file = store.run(|| tempfile::tempfile_in(directory())).await?;
        Ok(Self::of(file, Some(descriptor), store))
    }

    /// A file that is open already.
    pub(super) fn of(file: File, descriptor: Option<Descriptor>, store: &Store) -> Self {
        Self {
            open: Arc::new(Open {
                file,
                _descriptor: descriptor,
            }),
            store: store.clone(),
        }
    }

    pub(super) async fn write(&self, chunk: Bytes, at: u64) -> io::Result<()> {
        let open = self.open.clone();
        self.store
            .run(move || open.file.write_all_at(&chunk, at))
            .await
    }

    /// Where another process of this machine finds this file, for as long as it is open here.
    pub(super) fn path_for_others(&self) -> PathBuf {
        let (pid, fd) = (std::process::id(), self.open.file.as_raw_fd());
        format!("/proc/{pid}/fd/{fd}").into()
    }

    /// Fills `buffer` from `at` on, on this thread.
    pub(super) fn read_now(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.open.file.read_exact_at(buffer, at)
    }

    /// Reads some bytes of the range `at..end`; never empty unless the range is.
    pub(super) async fn read(self, at: u64, end: u64) -> io::Result<Bytes> {
        let mut charge = self.store.charge();
        let mut size = (end - at).min(READ_SIZE);
        if !charge.grow(size) {
            size = size.min(LITTLE);
            charge.force(size);
        }
        let Self { open, store } = self;
        let chunk = store.run(move || {
            let mut chunk = vec![0; size as usize];
            open.file.read_exact_at(&mut chunk, at)?;
            Ok(charge.over(chunk))
        });
        chunk.await
    }
}
