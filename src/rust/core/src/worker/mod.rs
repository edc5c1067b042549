//! One worker as the front sees it: its address, its one connection, its counters.

mod connection;
pub mod native;
mod stream;
mod tunnels;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

pub use connection::{Connection, Outgoing, SendFailed};
pub use native::Native;
pub(crate) use stream::widen;
pub use tunnels::{TunnelGuard, Tunnels};

/// Where a worker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Loopback or remote; for R, usually httpuv.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What the front has to report of a worker to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// No connection could be opened, or the worker broke one off: it is suspended in the lock table
    /// until its source resumes or removes it.
    Unreachable,
    /// It does not give up a request; the lease stays until the worker answers or is gone.
    Stuck(Unwanted),
    /// It has answered a request (between requests now).
    Served,
}

/// Why a worker was to give up a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwanted {
    Deadline,
    ClientLeft,
}

/// How a source learns of its workers: called by the front, must not block.
pub type Reporter = Box<dyn Fn(&Worker, Report) + Send + Sync>;

/// One worker. Its connection belongs to whoever holds its lease, so it is never contended.
pub struct Worker {
    /// The number shown to people: `FAUCET_WORKER_ID`.
    pub id: u32,
    /// Tells this worker from its successors under the same `id`.
    pub generation: u64,
    pub address: Address,
    /// If faucet itself serves in it.
    pub native: Option<Native>,
    /// WebSocket and other upgraded connections through this worker.
    pub tunnels: Tunnels,
    connection: Mutex<Option<Connection>>,
    requests: AtomicU64,
    reporter: Reporter,
}

impl Worker {
    pub fn new(id: u32, generation: u64, address: Address, reporter: Reporter) -> Self {
        Self {
            id,
            generation,
            address,
            native: None,
            tunnels: Tunnels::default(),
            connection: Mutex::new(None),
            requests: AtomicU64::new(0),
            reporter,
        }
    }

    /// The same worker, with a line to faucet in it.
    pub fn with_native(mut self, native: Native) -> Self {
        self.native = Some(native);
        self
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

    /// The kept-alive connection, if there is a live one. For the lease's holder.
    pub fn take_connection(&self) -> Option<Connection> {
        self.slot().take()
    }

    /// Keeps a connection for the next lease.
    pub fn keep_connection(&self, connection: Connection) {
        *self.slot() = Some(connection);
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
