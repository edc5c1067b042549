//! What can be asked of a running server.

use std::time::Duration;

use crate::sources::Failure;

/// What can be asked of a running server.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    Scale(u32),
    Reload,
    /// Take nothing new and finish what is there, for at most this long.
    Drain(Option<Duration>),
    /// Drain, then stop the workers.
    Stop(Option<Duration>),
    /// Stop now; what is in flight is lost.
    Kill,
}

impl Request {
    /// Whether nothing new is served after it.
    pub(super) fn ends(self) -> bool {
        matches!(self, Self::Drain(_) | Self::Stop(_) | Self::Kill)
    }

    /// Its result when the server is gone.
    pub(super) fn too_late(self) -> Result<(), Failure> {
        if self.ends() {
            // Already so.
            return Ok(());
        }
        Err(Failure {
            class: "stopped",
            message: "The server is not running.".into(),
            lines: Vec::new(),
        })
    }
}
