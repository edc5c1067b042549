//! The end of serving: nothing new is taken, and what is there may finish.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::shared::Phase;
use super::task::ServerTask;
use crate::front::Shutdown;
use crate::sessions::Ending;

/// How long those who may be sending a request when a drain begins have for it: fronts, which keep their connections,
/// and clients that have just connected.
const PARTING: Duration = Duration::from_secs(1);

/// Between two looks at the connections while they end.
const LOOK: Duration = Duration::from_millis(5);

impl ServerTask {
    pub(super) fn set_draining(&self) {
        self.front.lifecycle.draining.store(true, Ordering::Relaxed);
        for pool in self.front.pools.all() {
            pool.roster.set_draining();
        }
        self.front.connections.close_door();
        if let Some(management) = self.front.management.get() {
            management.close();
        }
        if let Some(rpc) = self.front.rpc.get() {
            rpc.close();
        }
    }

    /// Waits until nothing is in flight; whether that was reached in time.
    pub(super) async fn drain(&self, patience: Option<Duration>) -> bool {
        self.shared.set_phase(Phase::Draining);
        for pool in self.front.pools.all() {
            if let Some(sessions) = &pool.sessions {
                sessions.end(Ending::Server);
            }
        }
        let connections = &self.front.connections;
        connections.shut_down_all(Shutdown::Lenient);
        let parting = async {
            let waited = async {
                while connections.any_awaited(PARTING) {
                    tokio::time::sleep(LOOK).await;
                }
            };
            // Whoever has not noticed by then is to be gone.
            let _ = tokio::time::timeout(PARTING, waited).await;
            connections.shut_down_all(Shutdown::Graceful);
        };
        let tables = async {
            for pool in self.front.pools.all() {
                pool.table.idle().await;
            }
        };
        let unawaited = async {
            if let Some(management) = self.front.management.get() {
                management.idle().await;
            }
        };
        let idle = async {
            tokio::join!(tables, parting, unawaited);
            // A slot is gone only when its hub knows that.
            let known = async {
                while connections.any_parting() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            let _ = tokio::time::timeout(PARTING, known).await;
            // The last answers still travel to their clients, or wait for them.
            while connections.any_busy() || self.is_fetched_from() {
                tokio::time::sleep(LOOK).await;
            }
        };
        match patience {
            None => {
                idle.await;
                true
            }
            Some(patience) => tokio::time::timeout(patience, idle).await.is_ok(),
        }
    }
}
