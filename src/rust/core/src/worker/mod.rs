//! One worker as the front sees it: its address, its connections, its counters.

mod callers;
mod connection;
mod dialled;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod interim;
mod methods;
pub mod native;
pub mod remote;
mod service;
mod silence;
mod stream;
mod tunnels;
mod unacknowledged;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use self::stream::Handle;
use crate::ops::status::Kind;

pub use callers::Callers;
pub use connection::{Connection, Outgoing, SendFailed, Silent};
pub use dialled::Dialled;
pub use methods::is_known_to_http_workers;
pub use native::Native;
pub use remote::Remote;
pub use service::{CallBody, CallSender, Service};
pub(crate) use stream::{watch_slot, widen};
pub use tunnels::{TunnelGuard, Tunnels};

/// After how long without use a connection to another machine is not used again: its other side may be about to close
/// it.
const REST: Duration = Duration::from_secs(30);

/// Of the connections to a worker that takes several requests at a time, so many are kept when they are not in use.
const MOST_KEPT: usize = 8;

/// Where a worker listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// Loopback or remote; for R, usually httpuv.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
    /// Nowhere: it has dialled from there.
    Dialled(SocketAddr),
    /// Nowhere: it dials whenever one of its connections is taken.
    Callers(Callers),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) | Self::Dialled(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
            Self::Callers(callers) => callers.fmt(f),
        }
    }
}

/// What the front has to report of a worker to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// No connection could be opened, or the worker broke one off: it is suspended in the lock table
    /// until its source resumes or removes it.
    Unreachable,
    /// It does not give up the request with this number; the lease stays until the worker answers or is gone. What comes
    /// after an answer is none of its business: see [`Worker::is_over`].
    Stuck(Unwanted, u64),
    /// Its answer was none, or did not come to its end. It is suspended in the lock table until its source has seen
    /// that it answers, and resumes or removes it.
    Doubtful,
    /// It has answered a request (between requests now).
    Served,
    /// A faucet whose workers are all busy: it is suspended in the lock table until its source has a turn
    /// there, or resumes it otherwise.
    Occupied,
    /// The same, though it had a turn there: asking at once would be asking for ever.
    TurnRefused,
    /// A faucet that has this many workers now.
    Slots(u32),
    /// It had been a faucet, and is none any more.
    NoFaucet,
}

/// Why a worker was to give up a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwanted {
    Deadline,
    ClientLeft,
    /// It says nothing any more.
    Silent,
}

/// How a source learns of its workers: called by the front, must not block.
pub type Reporter = Box<dyn Fn(&Worker, Report) + Send + Sync>;

/// Whether a worker's process runs; None where that cannot be told at once.
pub type Pulse = Box<dyn Fn() -> Option<bool> + Send + Sync>;

/// One worker. Its connections belong to those who hold its leases, so they are never contended.
pub struct Worker {
    /// The number shown to people: `FAUCET_WORKER_ID`.
    pub id: u32,
    /// Tells this worker from its successors under the same `id`.
    pub generation: u64,
    pub address: Address,
    /// If faucet itself serves in it.
    pub native: Option<Native>,
    /// If it is reached over a network.
    pub remote: Option<Remote>,
    /// If it has dialled in.
    pub dialled: Option<Arc<Dialled>>,
    /// Whether several requests at a time may be sent to it, though it is no faucet.
    concurrent: bool,
    /// WebSocket and other upgraded connections through this worker.
    pub tunnels: Tunnels,
    /// If it is a service of gRPC, or an agent that has one.
    pub service: Service,
    /// Kept alive, at most one for each slot.
    connections: Mutex<Vec<Connection>>,
    lines: Mutex<Lines>,
    /// The number of the last request that was begun.
    begun: AtomicU64,
    /// The number of the last one whose answer was complete.
    answered: AtomicU64,
    requests: AtomicU64,
    reporter: Reporter,
    pulse: Option<Pulse>,
}

/// Every connection that there may be, kept or in use.
#[derive(Default)]
struct Lines {
    open: Vec<Weak<Handle>>,
    /// The worker is gone: there are no more.
    cut: bool,
}

impl Worker {
    pub fn new(id: u32, generation: u64, address: Address, reporter: Reporter) -> Self {
        Self {
            id,
            generation,
            address,
            native: None,
            remote: None,
            dialled: None,
            concurrent: false,
            tunnels: Tunnels::default(),
            service: Service::default(),
            connections: Mutex::default(),
            lines: Mutex::default(),
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            reporter,
            pulse: None,
        }
    }

    /// The same worker, with a line to faucet in it.
    pub fn with_native(mut self, native: Native) -> Self {
        self.native = Some(native);
        self
    }

    /// The same worker, whose requests have numbers above this one: for workers that share a control socket.
    #[must_use]
    pub fn with_numbers_above(mut self, number: u64) -> Self {
        self.begun = AtomicU64::new(number);
        self
    }

    /// The same worker, whose process can be looked at.
    pub fn with_pulse(mut self, pulse: Pulse) -> Self {
        self.pulse = Some(pulse);
        self
    }

    /// The same worker, reached over a network.
    pub fn with_remote(mut self, remote: Remote) -> Self {
        self.remote = Some(remote);
        self
    }

    /// The same worker, which is one slot that was dialled in with.
    pub fn with_dialled(mut self, dialled: Arc<Dialled>) -> Self {
        self.dialled = Some(dialled);
        self
    }

    /// Whether nothing can be sent to it any more.
    pub fn is_gone(&self) -> bool {
        let dialled = self.dialled.as_ref();
        dialled.is_some_and(|dialled| dialled.is_gone())
    }

    /// The same worker, to which several requests at a time may be sent.
    pub fn with_concurrency(mut self) -> Self {
        self.concurrent = true;
        self
    }

    /// Whether several requests at a time are sent to it: it has as many connections then.
    pub fn is_concurrent(&self) -> bool {
        self.concurrent
    }

    /// Who serves HTTP in it, once that is known.
    pub fn kind(&self) -> Option<Kind> {
        match (&self.native, &self.remote) {
            (Some(_), _) => Some(Kind::Native),
            (None, None) => Some(Kind::Http),
            (None, Some(remote)) if remote.is_faucet() => Some(Kind::Faucet),
            // Its first answer tells.
            (None, Some(_)) => (self.requests() > 0).then_some(Kind::Http),
        }
    }

    /// Whether a faucet of its own runs in it.
    pub fn is_faucet(&self) -> bool {
        self.remote.as_ref().is_some_and(Remote::is_faucet)
    }

    /// Whether its process is known to run.
    pub fn lives(&self) -> bool {
        self.pulse.as_ref().and_then(|look| look()) == Some(true)
    }

    /// A request is about to be sent; returns its number.
    pub fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The answer to that request was complete.
    pub fn answered(&self, number: u64) {
        self.answered.store(number, Ordering::Relaxed);
        self.report(Report::Served);
    }

    /// Whether that request is known not to be at work any more: it was answered, or another was begun. For workers
    /// that are sent one at a time.
    pub fn is_over(&self, number: u64) -> bool {
        self.begun.load(Ordering::Relaxed) != number
            || self.answered.load(Ordering::Relaxed) == number
    }

    /// Requests answered.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Tells the source.
    pub fn report(&self, report: Report) {
        if report == Report::Served {
            self.requests.fetch_add(1, Ordering::Relaxed);
        }
        (self.reporter)(self, report);
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// What the system says.
    pub async fn connect(&self) -> io::Result<Connection> {
        let connection = match &self.dialled {
            None => self.open().await?,
            Some(dialled) => dialled.open().await?,
        };
        let mut lines = self.lines();
        if lines.cut {
            return Err(io::ErrorKind::NotConnected.into());
        }
        lines.open.retain(|handle| handle.strong_count() > 0);
        lines.open.push(Arc::downgrade(connection.handle()));
        drop(lines);
        // A slot is watched from its beginning.
        if self.remote.is_some() && self.dialled.is_none() {
            connection.watch_other_side();
        }
        Ok(connection)
    }

    /// A connection of its own, for whoever looks at the worker. Not counted, and not cut with the others.
    ///
    /// # Errors
    /// What the system says, or why hands could not be shaken.
    pub(crate) async fn open(&self) -> io::Result<Connection> {
        let peer = self.remote.as_ref().and_then(Remote::peer);
        Connection::open_to(&self.address, peer).await
    }

    /// A kept-alive connection, the one used last, if there is one. For a lease's holder.
    pub fn take_connection(&self) -> Option<Connection> {
        if let Some(dialled) = &self.dialled {
            return dialled.take();
        }
        let connection = self.kept().pop()?;
        if self.remote.is_some() && connection.has_rested(REST) {
            // And so have the others. Who is near tells when it closes one; from far that may take too long.
            self.close_connections();
            return None;
        }
        Some(connection)
    }

    /// Keeps a connection for the next lease.
    pub fn keep_connection(&self, mut connection: Connection) {
        if let Some(dialled) = &self.dialled {
            return dialled.keep(connection);
        }
        if self.remote.is_some() {
            connection.rests();
        }
        let mut kept = self.kept();
        if self.concurrent && kept.len() >= MOST_KEPT {
            return;
        }
        kept.push(connection);
    }

    /// Closes all kept-alive connections: for a worker that nothing new is sent to.
    pub fn close_connections(&self) {
        if let Some(dialled) = &self.dialled {
            dialled.close();
        }
        let kept = std::mem::take(&mut *self.kept());
        drop(kept);
    }

    /// Ends all connections, those in use, too: the worker is gone. Whoever else holds their other side, a process that
    /// it has forked, does not answer.
    pub fn cut(&self) {
        let mut lines = self.lines();
        lines.cut = true;
        for handle in lines.open.drain(..).filter_map(|handle| handle.upgrade()) {
            handle.cut();
        }
    }

    /// Whether the worker is known to be gone.
    pub fn is_cut(&self) -> bool {
        self.lines().cut
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_to_another_machine_is_not_used_again_after_a_rest() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = Address::Tcp(listener.local_addr().expect("bound"));
        let near = Worker::new(1, 1, address.clone(), Box::new(|_, _| {}));
        let far = Worker::new(2, 2, address, Box::new(|_, _| {})).with_remote(Remote::new(true));
        for (worker, after_a_rest) in [(&near, true), (&far, false)] {
            for _ in 0..2 {
                let connection = worker.connect().await.expect("a listener");
                worker.keep_connection(connection);
            }
            let connection = worker.take_connection().expect("just kept");
            worker.keep_connection(connection);
            for connection in worker.kept().iter_mut() {
                connection.rested(REST);
            }
            assert_eq!(worker.take_connection().is_some(), after_a_rest);
            // The others have rested for as long.
            assert_eq!(worker.kept().is_empty(), !after_a_rest);
        }
    }
}
