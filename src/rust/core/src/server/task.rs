//! The task of a server: what happens on its thread, from the first worker to the last.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use super::request::Request;
use super::shared::{Phase, Shared};
use super::system;
use crate::front::{self, Front, Shutdown};
use crate::lock::Refused;
use crate::ops::{self, Hosts};
use crate::sources::{Command, Failure, SourceEvent, SourceHandle, SourceTask};

/// How long a stopped server may take to reap its workers after they were killed.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// How long those who may be sending a request when a drain begins have for it: fronts, which keep their connections,
/// and clients that have just connected.
const PARTING: Duration = Duration::from_secs(1);

/// Between two looks at the connections while they end.
const LOOK: Duration = Duration::from_millis(5);

/// What runs on the server's thread.
pub(super) struct ServerTask {
    pub(super) shared: Arc<Shared>,
    pub(super) front: Arc<Front>,
    pub(super) source: SourceHandle,
}

impl ServerTask {
    /// Serves until every worker is gone.
    pub(super) async fn run(
        self,
        source: SourceTask,
        mut events: mpsc::UnboundedReceiver<SourceEvent>,
        mut asked: mpsc::UnboundedReceiver<(u64, Request)>,
        listener: std::net::TcpListener,
        admin: Option<(std::net::TcpListener, Hosts)>,
    ) {
        let (listener, admin) = match (
            TcpListener::from_std(listener),
            admin
                .map(|(listener, hosts)| Ok((TcpListener::from_std(listener)?, hosts)))
                .transpose(),
        ) {
            (Ok(listener), Ok(admin)) => (listener, admin),
            (Err(error), _) | (_, Err(error)) => {
                self.shared.set_phase(Phase::Failed(system(error)));
                return;
            }
        };
        tokio::spawn(front::expire(self.front.clone()));
        tokio::spawn(front::accept(self.front.clone(), listener));
        if let Some((admin, hosts)) = admin {
            tokio::spawn(ops::serve_admin(admin, hosts, self.front.clone()));
        }
        let mut source = tokio::spawn(source);
        let task = Arc::new(self);
        let mut events_open = true;
        loop {
            tokio::select! {
                ended = &mut source => {
                    if let Err(panic) = ended {
                        task.shared.set_phase(Phase::Failed(Failure {
                            class: "internal",
                            message: format!("The source of workers failed: {panic}"),
                            lines: Vec::new(),
                        }));
                    }
                    return;
                }
                event = events.recv(), if events_open => match event {
                    Some(SourceEvent::Ready) => task.shared.set_phase(Phase::Ready),
                    Some(SourceEvent::BootFailed(failure)) => {
                        task.shared.set_phase(Phase::Failed(failure));
                        task.source.send(Command::Kill);
                    }
                    None => events_open = false,
                },
                asked = asked.recv() => {
                    // The handle was dropped: so is the server.
                    let (id, request) = asked.unwrap_or((u64::MAX, Request::Kill));
                    if request.ends() {
                        task.front.roster.set_draining();
                        task.front.connections.close_door();
                    }
                    if matches!(request, Request::Kill) {
                        task.source.send(Command::Kill);
                        // Bounded, also against a process that cannot be killed.
                        let _ = tokio::time::timeout(KILL_GRACE, &mut source).await;
                        return;
                    }
                    let task = task.clone();
                    tokio::spawn(async move {
                        let result = task.execute(request).await;
                        // A stop is done when the server is gone, and with it the port.
                        if !matches!(request, Request::Stop(_)) {
                            task.shared.settle(id, result);
                        }
                    });
                }
            }
        }
    }

    async fn execute(&self, request: Request) -> Result<(), Failure> {
        match request {
            Request::Scale(count) => {
                let descriptors = self.front.store.descriptors();
                descriptors.reserve_for(count as usize);
                // Clients may have what the new workers need.
                let lacking = descriptors.overdrawn();
                if lacking > 0 {
                    self.front.connections.evict(lacking);
                }
                self.of_source(|reply| Command::Scale(count, reply)).await
            }
            Request::Reload => self.of_source(Command::Reload).await,
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
                self.front.table.refuse(Refused::Closed);
                let stopped = self.of_source(Command::Stop).await;
                self.front.connections.shut_down_all(Shutdown::Immediate);
                stopped
            }
            Request::Kill => Ok(()),
        }
    }

    /// Waits until nothing is in flight; whether that was reached in time.
    async fn drain(&self, patience: Option<Duration>) -> bool {
        self.shared.set_phase(Phase::Draining);
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
        let idle = async {
            tokio::join!(self.front.table.idle(), parting);
            // The last answers still travel to their clients.
            while connections.any_busy() {
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

    async fn of_source(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), Failure>>) -> Command,
    ) -> Result<(), Failure> {
        let (reply, result) = oneshot::channel();
        self.source.send(command(reply));
        // A source that is gone has dropped it.
        result.await.unwrap_or_else(|_| Request::Reload.too_late())
    }
}
