//! What a server is asked to do, and does.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::request::{too_late, Request};
use super::task::{named, ServerTask};
use crate::front::Shutdown;
use crate::lock::Refused;
use crate::pool::Pool;
use crate::sources::local::WorkerRange;
use crate::sources::{Command, Failure};

impl ServerTask {
    pub(super) async fn execute(self: &Arc<Self>, request: Request) -> Result<(), Failure> {
        match request {
            Request::Scale(name, workers) => self.scale(name.as_deref(), workers).await,
            Request::Reload(None) => {
                let _reloading = self.notify.reloading();
                let mut outcome = self.reload_tls();
                for pool in self.front.pools.routed() {
                    let reloaded = self.reload(pool.clone()).await;
                    keep_first(
                        &mut outcome,
                        reloaded.map_err(|failure| named(&pool, failure)),
                    );
                }
                outcome
            }
            Request::Reload(Some(name)) => {
                let pool = self.pool(Some(&name))?;
                self.reload(pool).await
            }
            Request::AddPool(prepared) => {
                let _change = self.changing.lock().await;
                self.add(*prepared).await
            }
            Request::RemovePool(name, patience) => {
                let _change = self.changing.lock().await;
                let pool = self.pool(Some(&name))?;
                self.remove(pool, patience).await;
                Ok(())
            }
            Request::Configure(pools, patience) => {
                let _reloading = self.notify.reloading();
                let _change = self.changing.lock().await;
                let mut outcome = self.reload_tls();
                keep_first(&mut outcome, self.configure(pools, patience).await);
                outcome
            }
            Request::RefuseReload => {
                drop(self.notify.reloading());
                Ok(())
            }
            Request::Drain(patience) => {
                if self.drain(patience).await {
                    Ok(())
                } else {
                    Err(Failure {
                        class: "timeout",
                        message: "Requests are still in flight after the drain's deadline.".into(),
                        lines: Vec::new(),
                    })
                }
            }
            Request::Stop(patience) => {
                if !self.drain(patience).await {
                    tracing::warn!("requests are still in flight after the deadline: they are cut");
                }
                self.cut();
                for pool in self.front.pools.all() {
                    pool.table.refuse(Refused::Closed);
                }
                for source in self.running.sources() {
                    // It is awaited below, with the end of its work.
                    source.send(Command::Stop(oneshot::channel().0));
                }
                self.running.all_ended().await;
                self.front.connections.shut_down_all(Shutdown::Immediate);
                Ok(())
            }
            Request::Kill => Ok(()),
        }
    }

    /// Reads certificates and keys again, if there are any, and tells the log. What fails changes nothing, and is the reload's
    /// failure: class `reload`.
    fn reload_tls(&self) -> Result<(), Failure> {
        let Some(tls) = &self.front.tls else {
            return Ok(());
        };
        let other = self.other_tls.get().map(|tls| tls.reload());
        let outcome = tls.reload().and(other.unwrap_or(Ok(())));
        outcome.map_err(|failure| {
            let kept = "What was read before stays in use.";
            Failure::new("reload", format!("{} {kept}", failure.message))
        })?;
        tracing::info!("the certificate was read again, for connections from now on");
        tls.warn_if_out_of_time();
        Ok(())
    }

    /// The pool with this name, or the only one.
    fn pool(&self, name: Option<&str>) -> Result<Arc<Pool>, Failure> {
        let all = self.front.pools.all();
        let names = || {
            let names: Vec<_> = all
                .iter()
                .map(|pool| format!("\"{}\"", pool.name()))
                .collect();
            names.join(", ")
        };
        match (name, &all[..]) {
            (None, [pool]) => Ok(pool.clone()),
            (None, _) => Err(Failure::new(
                "option",
                format!("`pool` must say which one: {}.", names()),
            )),
            (Some(name), _) => self.front.pools.named(name).ok_or_else(|| {
                Failure::new(
                    "option",
                    format!("There is no pool \"{name}\": there are {}.", names()),
                )
            }),
        }
    }

    async fn scale(&self, name: Option<&str>, workers: WorkerRange) -> Result<(), Failure> {
        let pool = self.pool(name)?;
        self.check_max_workers([&pool], workers.min)?;
        if let Some(running) = self
            .running
            .lock()
            .values_mut()
            .find(|running| Arc::ptr_eq(&running.pool, &pool))
        {
            running.settings.source.set_workers(workers);
        }
        self.reserve_descriptors();
        self.of_source(pool, |reply| Command::Scale(workers, reply))
            .await
    }

    /// Reloads a pool, after a reload for a change that is under way: that may have begun with other code.
    pub(super) async fn reload(&self, pool: Arc<Pool>) -> Result<(), Failure> {
        self.running.reloaded(&pool).await;
        self.of_source(pool, Command::Reload).await
    }

    pub(super) async fn of_source(
        &self,
        pool: Arc<Pool>,
        command: impl FnOnce(oneshot::Sender<Result<(), Failure>>) -> Command,
    ) -> Result<(), Failure> {
        let (reply, result) = oneshot::channel();
        if let Some(source) = self.running.source(&pool) {
            source.send(command(reply));
        }
        // A source that is gone has dropped it.
        result.await.unwrap_or_else(|_| too_late(false))
    }
}

/// What went wrong first, of several: only one can be returned, and the others are said in the log.
pub(super) fn keep_first(outcome: &mut Result<(), Failure>, result: Result<(), Failure>) {
    match result {
        Err(failure) if outcome.is_err() => tracing::error!("{}", failure.message),
        Err(failure) => *outcome = Err(failure),
        Ok(()) => {}
    }
}
