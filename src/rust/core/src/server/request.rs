//! What can be asked of a running server.

use std::sync::Arc;
use std::time::Duration;

use super::PoolSettings;
use crate::sources::local::WorkerRange;
use crate::sources::{Failure, Prepared};

/// A pool with all that it needs from the system.
pub struct PreparedPool {
    pub(super) settings: PoolSettings,
    pub(super) source: Prepared,
}

/// What can be asked of a running server. A pool goes by its name; `None` is the only one.
pub enum Request {
    /// Have this many workers.
    Scale(Option<Arc<str>>, WorkerRange),
    /// Replace the workers of one pool, or of all, by some that run the current code.
    Reload(Option<Arc<str>>),
    /// Serve another app, once its first worker is ready.
    AddPool(Box<PreparedPool>),
    /// Take a pool's route away, let it finish what it has for at most this long, and stop its workers.
    RemovePool(Arc<str>, Option<Duration>),
    /// Have these pools and no others: those that are new are added, those that differ are replaced, those that are the same
    /// reload. Those that leave may finish what they have for at most this long.
    Configure(Vec<PreparedPool>, Option<Duration>),
    /// A reload was asked for that cannot begin: whoever waits for its end hears of it.
    RefuseReload,
    /// Take nothing new and finish what is there, for at most this long.
    Drain(Option<Duration>),
    /// Drain, then stop the workers.
    Stop(Option<Duration>),
    /// Stop now; what is in flight is lost.
    Kill,
}

impl Request {
    /// Whether nothing new is served after it.
    pub(super) fn ends(&self) -> bool {
        matches!(self, Self::Drain(_) | Self::Stop(_) | Self::Kill)
    }
}

/// The result of a request when the server is gone; `ends` if that was asked for.
pub(super) fn too_late(ends: bool) -> Result<(), Failure> {
    if ends {
        // Already so.
        return Ok(());
    }
    Err(not_running())
}

/// Why nothing can be changed at a server that ends.
pub(super) fn not_running() -> Failure {
    Failure::new("stopped", "The server is not running.")
}
