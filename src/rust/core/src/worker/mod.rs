//! One worker as the front sees it: its address, its connections, its counters.

mod connection;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod native;
pub mod remote;
mod stream;
mod tunnels;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::ops::status::Kind;

pub use connection::{Connection, Outgoing, SendFailed};
pub use native::Native;
pub use remote::Remote;
pub(crate) use stream::widen;
pub use tunnels::{TunnelGuard, Tunnels};

/// After how long without use a connection to another machine is not used again: its other side may be about to close
/// it.
const REST: Duration = Duration::from_secs(30);

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
}

/// How a source learns of its workers: called by the front, must not block.
pub type Reporter = Box<dyn Fn(&Worker, Report) + Send + Sync>;

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
    /// WebSocket and other upgraded connections through this worker.
    pub tunnels: Tunnels,
    /// Kept alive, at most one for each slot.
    connections: Mutex<Vec<Connection>>,
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
            remote: None,
            tunnels: Tunnels::default(),
            connections: Mutex::default(),
            requests: AtomicU64::new(0),
            reporter,
        }
    }

    /// The same worker, with a line to faucet in it.
    pub fn with_native(mut self, native: Native) -> Self {
        self.native = Some(native);
        self
    }

    /// The same worker, reached over a network.
    pub fn with_remote(mut self, remote: Remote) -> Self {
        self.remote = Some(remote);
        self
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
        let connection = Connection::open(&self.address).await?;
        if self.remote.is_some() {
            connection.watch_other_side();
        }
        Ok(connection)
    }

    /// A kept-alive connection, the one used last, if there is one. For a lease's holder.
    pub fn take_connection(&self) -> Option<Connection> {
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
        if self.remote.is_some() {
            connection.rests();
        }
        self.kept().push(connection);
    }

    /// Closes all kept-alive connections: for a worker that nothing new is sent to.
    pub fn close_connections(&self) {
        let kept = std::mem::take(&mut *self.kept());
        drop(kept);
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
