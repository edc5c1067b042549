//! What bodies may take of this process: memory, descriptors, and threads.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use bytes::Bytes;

use super::threads::FileThreads;
use crate::descriptors::{Descriptor, Descriptors};

/// What may be on its way to and from files, at least, in bytes, however little may be kept.
const SLACK: u64 = 16 * 1024 * 1024;

struct Inner {
    /// All bodies together, in bytes.
    total: u64,
    used: AtomicU64,
    descriptors: Descriptors,
    threads: FileThreads,
}

/// Where the bodies of one server are kept. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

impl Store {
    /// Threads of a server that has many clients: one that waits for a slow disk does not keep the others.
    pub const THREADS: usize = 8;

    /// A store that keeps `total` bytes in memory. What comes beyond goes to files at once.
    ///
    /// # Errors
    /// There is no thread for files.
    pub fn new(total: u64, descriptors: Descriptors, threads: usize) -> io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            total,
            used: AtomicU64::new(0),
            descriptors,
            threads: FileThreads::start(threads)?,
        })))
    }

    pub fn descriptors(&self) -> &Descriptors {
        &self.0.descriptors
    }

    /// Bytes of memory that bodies take now.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Whether nothing more should be kept in memory.
    pub fn is_full(&self) -> bool {
        self.used() >= self.0.total
    }

    /// Whether not even what every request needs can be had: the little that is on its way to or from a file is taken
    /// though the store is full, but not without an end.
    pub fn is_exhausted(&self) -> bool {
        self.used() >= self.0.total.saturating_add(self.0.total.max(SLACK))
    }

    /// A part of the memory, nothing yet.
    pub(crate) fn charge(&self) -> Charge {
        Charge {
            store: self.clone(),
            bytes: 0,
        }
    }

    /// A descriptor for a file.
    ///
    /// # Errors
    /// `EMFILE`: there is none left.
    pub(crate) fn descriptor(&self) -> io::Result<Descriptor> {
        let none = || io::Error::from_raw_os_error(nix::errno::Errno::EMFILE as i32);
        self.0.descriptors.take_spare().ok_or_else(none)
    }

    /// Does something that may wait for a disk.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.0.threads.run(work).await
    }
}

/// Bytes of a [`Store`]'s memory, given back when this is dropped.
pub(crate) struct Charge {
    store: Store,
    bytes: u64,
}

impl Charge {
    /// Takes so many more, if there are.
    pub(crate) fn grow(&mut self, more: u64) -> bool {
        let inner = &self.store.0;
        let grown = inner.used.fetch_add(more, Ordering::Relaxed);
        let fits = grown
            .checked_add(more)
            .is_some_and(|used| used <= inner.total);
        if fits {
            self.bytes += more;
        } else {
            inner.used.fetch_sub(more, Ordering::Relaxed);
        }
        fits
    }

    /// Takes so many more: they are there already, or cannot be done without.
    pub(crate) fn force(&mut self, more: u64) {
        self.store.0.used.fetch_add(more, Ordering::Relaxed);
        self.bytes += more;
    }

    /// Bytes that are charged for as long as anything of them is kept.
    pub(crate) fn over(self, bytes: impl AsRef<[u8]> + Send + 'static) -> Bytes {
        struct Charged<T>(T, #[allow(dead_code)] Charge);
        impl<T: AsRef<[u8]>> AsRef<[u8]> for Charged<T> {
            fn as_ref(&self) -> &[u8] {
                self.0.as_ref()
            }
        }
        Bytes::from_owner(Charged(bytes, self))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.store.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Whether an error says that the process has too much open, not that the disk is full.
pub fn is_shortage(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        let io = error.downcast_ref::<io::Error>();
        if let Some(code) = io.and_then(io::Error::raw_os_error) {
            return [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EAGAIN]
                .iter()
                .any(|shortage| *shortage as i32 == code);
        }
        // Whoever adds a path to an error keeps the error itself inside.
        source = match io.and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as _),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
impl Default for Store {
    fn default() -> Self {
        Self::new(u64::MAX, Descriptors::new(1000), 2).expect("threads")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Store {
        Store::new(100, Descriptors::new(8), 1).expect("a thread")
    }

    #[test]
    fn what_is_charged_is_given_back() {
        let store = small();
        let mut charge = store.charge();
        assert!(charge.grow(60));
        assert!(!charge.grow(60));
        charge.force(60);
        assert!(store.is_full() && !store.is_exhausted());
        let bytes = charge.over(vec![1; 3]);
        let part = bytes.slice(1..);
        drop(bytes);
        assert_eq!(store.used(), 120);
        drop(part);
        assert_eq!(store.used(), 0);
    }

    #[test]
    fn a_shortage_is_told_from_a_full_disk() {
        let store = small();
        let taken: Vec<_> = (0..8).map_while(|_| store.descriptor().ok()).collect();
        assert_eq!(taken.len(), 7);
        let error = store.descriptor().err().expect("none is left");
        assert!(is_shortage(&error));
        assert!(is_shortage(&io::Error::other(error)));
        let full = io::Error::from_raw_os_error(nix::errno::Errno::ENOSPC as i32);
        assert!(!is_shortage(&full));
        assert!(!is_shortage(&io::Error::other("anything else")));
    }
}
