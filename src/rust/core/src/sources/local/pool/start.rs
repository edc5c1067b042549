//! How processes come: started, awaited, taken into service.

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::oneshot;

use super::member::{BootProblem, Member, Reason};
use super::{Event, Pool, PoolEvent};
use crate::ops::status::State;
use crate::sources::local::boot::{accepts, ReservedPort, LOOK};
use crate::sources::local::position::{Place, Position};
use crate::sources::local::process::Process;
use crate::sources::local::spawn::Launch;
use crate::sources::local::{Failure, Sockets};
use crate::worker::{Address, Native, Report, Worker};

impl Pool {
    /// Starts a process for `id`. What becomes of the position after a failure is seen to already.
    pub(super) async fn start(
        &mut self,
        id: u32,
        replaces: Option<(u64, Reason)>,
    ) -> Result<u64, Failure> {
        let generation = self.next_generation;
        self.next_generation += 1;
        if let Some(position) = self.positions.get_mut(&id) {
            position.place = Place::Filled;
        }
        match self.launch(id, generation, replaces).await {
            Ok(member) => {
                self.members.insert(generation, member);
                Ok(generation)
            }
            Err(error) => {
                let failure = Failure {
                    class: "boot",
                    message: format!("Worker {id} could not be started: {error}"),
                    lines: Vec::new(),
                };
                self.start_failed(id, replaces, failure.clone());
                Err(failure)
            }
        }
    }

    /// Starts a process when nobody waits for it.
    pub(super) async fn start_unasked(&mut self, id: u32, replaces: Option<(u64, Reason)>) {
        // A failure is logged, and tried again if it must be.
        let _ = self.start(id, replaces).await;
    }

    async fn launch(
        &self,
        id: u32,
        generation: u64,
        replaces: Option<(u64, Reason)>,
    ) -> io::Result<Member> {
        let (began, started) = (Instant::now(), SystemTime::now());
        let port = ReservedPort::take()?;
        let socket = self
            .sockets
            .as_ref()
            .map(|at: &Sockets| at.path(generation));
        let mut env = self.settings.env.clone();
        env.insert("FAUCET_WORKER".into(), self.settings.worker_choice().into());
        env.insert("FAUCET_PORT".into(), port.address.port().to_string());
        env.insert("FAUCET_HOST".into(), port.address.ip().to_string());
        env.insert("FAUCET_WORKER_ID".into(), id.to_string());
        if let Some(socket) = &socket {
            env.insert("FAUCET_SOCKET".into(), socket.display().to_string());
        }
        let launch = Launch {
            command: self.settings.command.clone(),
            dir: self.settings.dir.clone(),
            env,
        };
        let log = self.ops.log.clone();
        let (process, exit) = Process::start(&self.spawner, launch, id, log).await?;
        let member = Member {
            id,
            state: State::Starting,
            process,
            started,
            began,
            boot: None,
            ready_since: None,
            port,
            socket,
            worker: None,
            lease_id: None,
            replaces,
            recycle_after: None,
            problem: None,
        };
        let addresses = member.addresses();
        let (sender, timeout) = (self.sender.clone(), self.settings.boot_timeout);
        let (mut booting, exited) = oneshot::channel::<()>();
        tokio::spawn(async move {
            // Ends early with the process: what answers on its port then is not ours.
            let ready = tokio::select! {
                ready = tokio::time::timeout(timeout, accepts(&addresses, LOOK)) => ready,
                () = booting.closed() => return,
            };
            let _ = sender.send(Event::Started(
                generation,
                ready.map_err(|_| BootProblem::Timeout),
            ));
        });
        let sender = self.sender.clone();
        tokio::spawn(async move {
            if let Ok(exit) = exit.await {
                drop(exited);
                let _ = sender.send(Event::Exited(generation, exit));
            }
        });
        Ok(member)
    }

    /// A process will not become a worker.
    pub(super) fn miscarried(&mut self, generation: u64, problem: BootProblem) {
        if let Some(member) = self.members.get_mut(&generation) {
            member.problem = Some(problem);
            member.process.ender().kill();
        }
    }

    /// A process accepts connections.
    pub(super) async fn ready(&mut self, generation: u64, address: Address) {
        let recycle_at = self.recycle_threshold();
        let cancelling = self.settings.cancelling;
        let Some(member) = self.members.get_mut(&generation) else {
            return;
        };
        if member.state != State::Starting {
            return;
        }
        let sender = self.sender.clone();
        let native = match &address {
            Address::Unix(socket) => Some(Native::new(socket, cancelling)),
            Address::Tcp(_) => None,
        };
        let mut worker = Worker::new(
            member.id,
            generation,
            address,
            Box::new(move |worker, report| {
                let event = match report {
                    // Every time from then on: a replacement may fail.
                    Report::Served if recycle_at.is_some_and(|at| worker.requests() >= at) => {
                        Event::RecycleDue(worker.generation, Reason::MaxRequests)
                    }
                    Report::Served => return,
                    Report::Stuck | Report::Unreachable => {
                        Event::Reported(worker.generation, report)
                    }
                };
                // Fails only when the pool is gone.
                let _ = sender.send(event);
            }),
        );
        worker.native = native;
        let worker = Arc::new(worker);
        member.state = State::Ready;
        member.boot = Some(member.began.elapsed());
        member.ready_since = Some(Instant::now());
        member.worker = Some(worker.clone());
        member.lease_id = Some(self.table.add(worker, 1));
        let (id, replaces) = (member.id, member.replaces.take());
        if let Some(position) = self.positions.get_mut(&id) {
            position.started();
        }
        self.table_admits();
        if !self.ever_ready {
            self.ever_ready = true;
            let _ = self.notify.send(PoolEvent::Ready);
            for (id, failure) in std::mem::take(&mut self.first_failures) {
                let still = |position: &Position| position.place == Place::GivenUp;
                if self.positions.get(&id).is_some_and(still) {
                    self.start_failed(id, None, failure);
                }
            }
        } else {
            tracing::info!(worker = id, "is ready");
        }
        if let Some((old, reason)) = replaces {
            self.count_restart(id, reason);
            self.retire(old);
        }
        self.grown(generation, Ok(()));
        self.roll_on(generation, Ok(())).await;
    }
}
