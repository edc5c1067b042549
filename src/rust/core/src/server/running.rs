//! The pools that a server runs, as its task sees them: what their sources said, and who waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::watching::Watching;
use super::PoolSettings;
use crate::pool::Pool;
use crate::sources::{Failure, SourceHandle};

/// How far a pool's source has come.
#[derive(Clone, Debug)]
pub(super) enum Progress {
    Starting,
    /// It had a worker.
    Ready,
    /// No first worker came up.
    Failed(Failure),
    /// Nothing of it is left.
    Ended,
}

/// One pool.
pub(super) struct Running {
    pub(super) pool: Arc<Pool>,
    pub(super) settings: PoolSettings,
    pub(super) source: Arc<SourceHandle>,
    pub(super) progress: watch::Sender<Progress>,
    /// Refuses those who wait too long.
    pub(super) expiry: AbortHandle,
    /// Held by a reload for a change of the app's files.
    pub(super) reloading: Arc<tokio::sync::Mutex<()>>,
    pub(super) _watching: Option<Watching>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.expiry.abort();
    }
}

/// All pools, by a number that is never used twice.
#[derive(Default)]
pub(super) struct AllRunning(Mutex<BTreeMap<u64, Running>>);

impl AllRunning {
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source of a pool.
    pub(super) fn source(&self, pool: &Arc<Pool>) -> Option<Arc<SourceHandle>> {
        let all = self.lock();
        let running = all
            .values()
            .find(|running| Arc::ptr_eq(&running.pool, pool))?;
        Some(running.source.clone())
    }

    /// Waits for the end of a reload that a change of the app's files has led to.
    pub(super) async fn reloaded(&self, pool: &Arc<Pool>) {
        let reloading = {
            let all = self.lock();
            let running = all
                .values()
                .find(|running| Arc::ptr_eq(&running.pool, pool));
            running.map(|running| running.reloading.clone())
        };
        if let Some(reloading) = reloading {
            drop(reloading.lock().await);
        }
    }

    pub(super) fn sources(&self) -> Vec<Arc<SourceHandle>> {
        let all = self.lock();
        all.values().map(|running| running.source.clone()).collect()
    }

    /// News of a pool's source from now on.
    pub(super) fn progress(&self, pool: &Arc<Pool>) -> Option<watch::Receiver<Progress>> {
        let all = self.lock();
        let running = all
            .values()
            .find(|running| Arc::ptr_eq(&running.pool, pool))?;
        Some(running.progress.subscribe())
    }

    /// Resolves when nothing of a pool is left.
    pub(super) async fn ended(&self, pool: &Arc<Pool>) {
        if let Some(mut progress) = self.progress(pool) {
            // A pool that is forgotten has ended.
            let _ = progress
                .wait_for(|progress| matches!(progress, Progress::Ended))
                .await;
        }
    }

    /// The same for all that there are now.
    pub(super) async fn all_ended(&self) {
        let pools: Vec<_> = self
            .lock()
            .values()
            .map(|running| running.pool.clone())
            .collect();
        for pool in pools {
            self.ended(&pool).await;
        }
    }
}
