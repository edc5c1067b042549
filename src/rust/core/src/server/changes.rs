//! Pools that come, go and take each other's place while the server runs.

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use super::execute::keep_first;
use super::request::{not_running, PreparedPool};
use super::running::Progress;
use super::task::{named, ServerTask};
use super::{check_max_workers, PoolSettings};
use crate::lock::Refused;
use crate::ops;
use crate::pool::{Membership, Pool};
use crate::sessions::Ending;
use crate::sources::{Command, Failure};

impl ServerTask {
    /// Adds a pool, whose requests find it once its first worker is ready.
    pub(super) async fn add(&self, prepared: PreparedPool) -> Result<(), Failure> {
        let name = prepared.settings.route.name();
        if self.front.pools.named(name).is_some() {
            return Err(Failure::new(
                "option",
                format!("There is a pool \"{name}\" already: remove it first."),
            ));
        }
        self.check_max_workers([], prepared.settings.source.workers().min)?;
        self.join(prepared, None).await.map(drop)
    }

    /// Whether there may be `more` workers, without those of the pools in `but`.
    ///
    /// # Errors
    /// There may not.
    pub(super) fn check_max_workers<const N: usize>(
        &self,
        but: [&Arc<Pool>; N],
        more: u32,
    ) -> Result<(), Failure> {
        let all = self.running.lock();
        let others = all.values().filter(|running| {
            !but.iter().any(|pool| Arc::ptr_eq(pool, &running.pool))
                && !running.pool.roster.is_draining()
        });
        let least = others.map(|running| running.settings.source.workers().min);
        check_max_workers(self.max_workers, least.chain([more]))
    }

    /// Starts a pool, and gives it its route, in place of `before`, once its first worker is ready.
    pub(super) async fn join(
        &self,
        prepared: PreparedPool,
        before: Option<&Arc<Pool>>,
    ) -> Result<Arc<Pool>, Failure> {
        self.join_unless(prepared, before, std::future::pending())
            .await
    }

    /// The same; it is given up, with the class `unwanted`, if `unwanted` ends before.
    pub(super) async fn join_unless(
        &self,
        prepared: PreparedPool,
        before: Option<&Arc<Pool>>,
        unwanted: impl std::future::Future<Output = ()>,
    ) -> Result<Arc<Pool>, Failure> {
        if self.front.lifecycle.draining.load(Ordering::Relaxed) {
            return Err(not_running());
        }
        let pool = prepared
            .settings
            .pool(&self.front.ops, &self.front.metrics)?;
        self.front.pools.add(pool.clone(), Membership::Joining);
        self.start(pool.clone(), prepared);
        let Some(mut progress) = self.running.progress(&pool) else {
            return Err(not_running());
        };
        let settled = progress.wait_for(|progress| !matches!(progress, Progress::Starting));
        let settled = tokio::select! {
            settled = settled => settled.map(|progress| progress.clone()),
            () = unwanted => Ok(Progress::Failed(Failure::unwanted())),
        };
        match settled {
            Ok(Progress::Ready) => {
                self.front.pools.set(&pool, Membership::Routed);
                if let Some(before) = before {
                    self.front.pools.set(before, Membership::Leaving);
                }
                Ok(pool)
            }
            Ok(Progress::Failed(failure)) => {
                if let Some(source) = self.running.source(&pool) {
                    source.send(Command::Kill);
                }
                self.running.ended(&pool).await;
                Err(named(&pool, failure))
            }
            _ => Err(not_running()),
        }
    }

    /// Lets a pool finish what it has, and ends it. Of its sessions, those with an open page are waited for.
    pub(super) async fn remove(&self, pool: Arc<Pool>, patience: Option<Duration>) {
        self.front.pools.set(&pool, Membership::Leaving);
        if let Some(sessions) = &pool.sessions {
            sessions.end(Ending::Pool);
        }
        self.finish(pool, patience).await;
    }

    async fn finish(&self, pool: Arc<Pool>, patience: Option<Duration>) {
        let finished = async {
            pool.deserted().await;
            // Answers whose heads are sent may still come.
            pool.table.idle().await;
        };
        let in_time = match patience {
            Some(patience) => tokio::time::timeout(patience, finished).await.is_ok(),
            None => {
                finished.await;
                true
            }
        };
        if !in_time {
            let _entered = ops::pool_span(pool.name()).entered();
            match &pool.sessions {
                None => {
                    tracing::warn!("requests are still in flight after the deadline: they are cut")
                }
                Some(_) => {
                    tracing::warn!("there are still sessions after the deadline: they are ended")
                }
            }
        }
        pool.roster.set_draining();
        pool.table.refuse(Refused::Closed);
        // Its work ends after that.
        let _ = self.of_source(pool.clone(), Command::Stop).await;
        self.running.ended(&pool).await;
    }

    /// The same when nobody waits for a pool with sessions: it may have them for longer, and goes when they have ended.
    async fn dismiss(self: &Arc<Self>, pool: Arc<Pool>, patience: Option<Duration>) {
        let Some(sessions) = &pool.sessions else {
            return self.remove(pool, patience).await;
        };
        let patience = sessions.drain_timeout().zip(patience);
        let patience = patience.map(|(sessions, requests)| sessions.max(requests));
        self.front.pools.set(&pool, Membership::Leaving);
        let task = self.clone();
        tokio::spawn(async move { task.finish(pool, patience).await });
    }

    /// Has these pools and no others. What fails stays as it was.
    pub(super) async fn configure(
        self: &Arc<Self>,
        pools: Vec<PreparedPool>,
        patience: Option<Duration>,
    ) -> Result<(), Failure> {
        // Those that leave already are none of them.
        let routed = self.front.pools.routed();
        let stays = |pool: &Arc<Pool>| routed.iter().any(|routed| Arc::ptr_eq(routed, pool));
        let known: Vec<(Arc<Pool>, PoolSettings)> = self
            .running
            .lock()
            .values()
            .filter(|running| stays(&running.pool))
            .map(|running| (running.pool.clone(), running.settings.clone()))
            .collect();
        let wanted = |pool: &Arc<Pool>| {
            pools
                .iter()
                .any(|wanted| wanted.settings.route.name() == pool.name())
        };
        let surplus: Vec<Arc<Pool>> = known
            .iter()
            .map(|(pool, _)| pool)
            .filter(|pool| !wanted(pool))
            .cloned()
            .collect();
        let least = pools.iter();
        check_max_workers(
            self.max_workers,
            least.map(|pool| pool.settings.source.workers().min),
        )?;
        let mut outcome = Ok(());
        for prepared in pools {
            let before = known
                .iter()
                .find(|(pool, _)| pool.name() == prepared.settings.route.name());
            let result = match before {
                None => self.join(prepared, None).await.map(drop),
                Some((pool, settings)) if *settings == prepared.settings => {
                    let reloaded = self.reload(pool.clone()).await;
                    reloaded.map_err(|failure| named(pool, failure))
                }
                Some((pool, _)) => {
                    let joined = self.join(prepared, Some(pool)).await;
                    if joined.is_ok() {
                        self.dismiss(pool.clone(), patience).await;
                    }
                    joined.map(drop)
                }
            };
            keep_first(&mut outcome, result);
        }
        for pool in surplus {
            self.dismiss(pool, patience).await;
        }
        outcome
    }
}
