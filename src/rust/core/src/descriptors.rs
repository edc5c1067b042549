//! The file descriptors that this process may have: who takes one counts it here, for as long as it is open.
//!
//! R cannot live without any (it opens files to print a message), and neither can new workers: they have a reserve that
//! clients never touch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use nix::sys::resource::{getrlimit, setrlimit, Resource};

/// For R's own files, logs, operators, lookups, clients that are being turned away, and what the runtime itself needs.
const OTHERS: usize = 160;

/// A worker's standard streams, its connection (and a second handle of it), a word on its control socket, the file that its app
/// counts in; the same for the one that replaces it.
const PER_WORKER: usize = 14;

/// A client's connection, and a file each for its request and its response.
const PER_CLIENT: usize = 3;

/// Part of the descriptors (1 / n) that files and tunnels leave to new connections.
const SPARED: usize = 8;

#[derive(Default)]
struct Pool {
    /// What was free when the server started.
    free: AtomicUsize,
    /// Of that, for workers.
    reserved: AtomicUsize,
    taken: AtomicUsize,
}

impl Pool {
    fn limit(&self) -> usize {
        let free = self.free.load(Ordering::Relaxed);
        let reserved = self.reserved.load(Ordering::Relaxed);
        // However many workers there are to be, clients have some.
        free.saturating_sub(reserved).max(free / 4)
    }

    fn take(&self, leaving: usize) -> bool {
        let limit = self.limit().saturating_sub(leaving);
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < limit).then_some(taken + 1)
            })
            .is_ok()
    }
}

/// What one server reserves for its workers.
struct Reserve {
    pool: Arc<Pool>,
    count: AtomicUsize,
}

impl Drop for Reserve {
    fn drop(&mut self) {
        let count = self.count.load(Ordering::Relaxed);
        self.pool.reserved.fetch_sub(count, Ordering::Relaxed);
    }
}

/// The descriptors that a server's clients may have. Cheap to clone.
#[derive(Clone)]
pub struct Descriptors {
    pool: Arc<Pool>,
    reserve: Arc<Reserve>,
}

impl Descriptors {
    /// Those of this process, all servers of which share them: the soft limit is raised, as far as the hard one allows,
    /// to what `clients` may need. What is open now is somebody else's.
    pub fn of_process(clients: usize, workers: usize) -> Self {
        static PROCESS: OnceLock<Arc<Pool>> = OnceLock::new();
        let pool = PROCESS.get_or_init(Arc::default).clone();
        let others = open_now().saturating_sub(pool.taken.load(Ordering::Relaxed)) + OTHERS;
        let wanted = clients
            .saturating_mul(PER_CLIENT)
            .saturating_add(workers.saturating_mul(PER_WORKER))
            .saturating_add(others);
        // Without any limit there is as much as is wanted.
        let limit = raise(wanted as u64)
            .map_or(wanted, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let free = limit.saturating_sub(others).max(limit / 4);
        pool.free.store(free, Ordering::Relaxed);
        let descriptors = Self::over(pool);
        descriptors.reserve_for(workers);
        descriptors
    }

    /// So many, whatever the process may have.
    pub fn new(count: usize) -> Self {
        Self::over(Arc::new(Pool {
            free: count.into(),
            ..Pool::default()
        }))
    }

    fn over(pool: Arc<Pool>) -> Self {
        let reserve = Arc::new(Reserve {
            pool: pool.clone(),
            count: AtomicUsize::new(0),
        });
        Self { pool, reserve }
    }

    /// Keeps enough for so many workers, instead of for as many as before.
    pub fn reserve_for(&self, workers: usize) {
        let count = workers.saturating_mul(PER_WORKER).min(usize::MAX / 64);
        let before = self.reserve.count.swap(count, Ordering::Relaxed);
        if count > before {
            let more = count - before;
            self.pool.reserved.fetch_add(more, Ordering::Relaxed);
        } else {
            let less = before - count;
            self.pool.reserved.fetch_sub(less, Ordering::Relaxed);
        }
    }

    /// Of `wanted` connections, how many there can be, with something left for their bodies.
    pub fn room_for_connections(&self, wanted: usize) -> usize {
        let limit = self.pool.limit();
        wanted.min(limit - limit / 4).max(1)
    }

    /// One for a connection, if there is one left.
    pub fn take(&self) -> Option<Descriptor> {
        self.pool.take(0).then(|| self.taken())
    }

    /// One for something that is not needed as much as room for the next connection: a file, a tunnel.
    pub fn take_spare(&self) -> Option<Descriptor> {
        let spared = self.pool.limit() / SPARED;
        self.pool.take(spared).then(|| self.taken())
    }

    /// One that is open already, or cannot be done without. Others have to go for it.
    pub fn take_anyway(&self) -> Descriptor {
        self.pool.taken.fetch_add(1, Ordering::Relaxed);
        self.taken()
    }

    fn taken(&self) -> Descriptor {
        Descriptor(self.pool.clone())
    }

    /// How many are in use.
    pub fn in_use(&self) -> usize {
        self.pool.taken.load(Ordering::Relaxed)
    }

    /// How many more are in use than there should be: since something was reserved, or closes only now.
    pub fn overdrawn(&self) -> usize {
        self.in_use().saturating_sub(self.pool.limit())
    }
}

/// One descriptor that is open, or about to be.
pub struct Descriptor(Arc<Pool>);

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many this process has open.
fn open_now() -> usize {
    /// Where the system does not tell.
    const GUESS: usize = 64;
    ["/proc/self/fd", "/dev/fd"]
        .iter()
        .find_map(|folder| Some(std::fs::read_dir(folder).ok()?.count()))
        .unwrap_or(GUESS)
}

/// Raises the soft limit to `wanted`, or as near as the hard one allows; returns what it is then.
fn raise(wanted: u64) -> Option<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let target = hard.min(wanted).max(soft);
    let raised = target == soft || setrlimit(Resource::RLIMIT_NOFILE, target, hard).is_ok();
    Some(if raised { target } else { soft })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_given_back_and_files_leave_some_to_connections() {
        let descriptors = Descriptors::new(16);
        let files: Vec<_> = (0..20).map_while(|_| descriptors.take_spare()).collect();
        assert_eq!(files.len(), 14);
        let connections: Vec<_> = (0..20).map_while(|_| descriptors.take()).collect();
        assert_eq!(connections.len(), 2);
        assert!(descriptors.take_spare().is_none());
        let closing = descriptors.take_anyway();
        assert_eq!(descriptors.overdrawn(), 1);
        drop((files, connections, closing));
        assert_eq!((descriptors.in_use(), descriptors.overdrawn()), (0, 0));
    }

    #[test]
    fn workers_have_a_reserve_that_follows_their_number() {
        let descriptors = Descriptors::new(100);
        descriptors.reserve_for(2);
        assert_eq!(descriptors.pool.limit(), 100 - 2 * PER_WORKER);
        let taken: Vec<_> = (0..100).map_while(|_| descriptors.take()).collect();
        assert_eq!(taken.len(), 100 - 2 * PER_WORKER);
        descriptors.reserve_for(4);
        assert_eq!(descriptors.overdrawn(), 2 * PER_WORKER);
        // Never without any.
        descriptors.reserve_for(1000);
        assert_eq!(descriptors.pool.limit(), 25);
        descriptors.reserve_for(0);
        assert_eq!(descriptors.overdrawn(), 0);
    }

    #[test]
    fn servers_of_one_process_share_its_descriptors() {
        let (first, second) = (
            Descriptors::of_process(10, 1),
            Descriptors::of_process(10, 1),
        );
        assert!(Arc::ptr_eq(&first.pool, &second.pool));
        let reserved = first.pool.reserved.load(Ordering::Relaxed);
        drop(second);
        assert_eq!(
            first.pool.reserved.load(Ordering::Relaxed),
            reserved - PER_WORKER
        );
    }
}
