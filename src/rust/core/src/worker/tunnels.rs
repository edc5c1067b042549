//! Upgraded connections through one worker: counted, and told when the worker drains.

use std::sync::Arc;

use tokio::sync::watch;

/// The tunnels of one worker. They hold no lease.
pub struct Tunnels {
    draining: watch::Sender<bool>,
    alive: Arc<()>,
}

impl Default for Tunnels {
    fn default() -> Self {
        Self {
            draining: watch::channel(false).0,
            alive: Arc::new(()),
        }
    }
}

impl Tunnels {
    /// How many are open.
    pub fn count(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }

    /// Counts one more, for as long as the guard lives.
    pub fn enter(&self) -> TunnelGuard {
        TunnelGuard {
            draining: self.draining.subscribe(),
            _alive: self.alive.clone(),
        }
    }

    /// Tells every tunnel, present and future, to close properly.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Resolves when the last tunnel has closed.
    pub async fn closed(&self) {
        self.draining.closed().await;
    }
}

/// One open tunnel.
pub struct TunnelGuard {
    draining: watch::Receiver<bool>,
    _alive: Arc<()>,
}

impl TunnelGuard {
    /// Resolves when the worker drains, or is gone.
    pub async fn drained(&mut self) {
        // An error means that the worker has been dropped: no tunnel outlives it.
        let _ = self.draining.wait_for(|draining| *draining).await;
    }
}
