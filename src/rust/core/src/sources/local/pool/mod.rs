//! The pool: one task that owns every process, and the only one that decides about them.
//!
//! A process goes `Starting -> Ready -> Draining -> Stopping -> gone`, or leaves from any state by
//! dying. Everything that happens arrives as an [`Event`]; nothing here waits.

mod ending;
mod growth;
mod member;
mod recycle;
mod restart;
mod rollout;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};

use self::ending::STOP_GRACE;
use self::growth::Growth;
use self::member::{Member, Reason};
use self::recycle::MEMORY_LOOK;
use self::rollout::Rollout;
use super::boot::{accepts, ReservedPort};
use super::position::{Place, Position};
use super::process::{Exit, Process};
use super::spawn::{Launch, Spawner};
use super::{Failure, LocalSettings};
use crate::lock::Table;
use crate::ops::status::State;
use crate::ops::Ops;
use crate::sources::roster::{Entry, Roster};
use crate::worker::{Address, Report, Worker};

type Reply = oneshot::Sender<Result<(), Failure>>;

/// What the handle asks for.
pub enum Command {
    /// Have this many workers.
    Scale(u32, Reply),
    /// Replace every process, one after the other.
    Reload(Reply),
    /// Stop every process; answers when all are gone.
    Stop(Reply),
    /// Kill every process now.
    Kill,
}

/// What the server is told.
pub enum PoolEvent {
    /// The first worker is ready.
    Ready,
    /// No worker became ready.
    BootFailed(Failure),
}

enum Event {
    Ask(Command),
    Started(u64, Result<(), BootProblem>),
    Exited(u64, Exit),
    Reported(u64, Report),
    RecycleDue(u64, Reason),
    Drained(u64),
    RestartDue(u32),
    /// A worker that the front has set aside accepts connections, or does not.
    Probed(u64, bool),
    LookAtMemory,
}

enum BootProblem {
    Timeout,
}

/// Owns the worker processes of one server.
pub struct Pool {
    settings: LocalSettings,
    spawner: Spawner,
    table: Arc<Table<Worker>>,
    roster: Arc<Roster>,
    ops: Arc<Ops>,
    notify: mpsc::UnboundedSender<PoolEvent>,
    sender: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    positions: BTreeMap<u32, Position>,
    members: BTreeMap<u64, Member>,
    next_generation: u64,
    ever_ready: bool,
    /// First starts that failed while others may still come up.
    first_failures: Vec<(u32, Failure)>,
    rollout: Option<Rollout>,
    growth: Vec<Growth>,
    stopping: Option<Vec<Reply>>,
}

/// Where commands for a pool go.
#[derive(Clone)]
pub struct PoolSender(mpsc::UnboundedSender<Event>);

impl PoolSender {
    /// Asks; if the pool is gone, the reply is dropped, which its receiver sees.
    pub fn ask(&self, command: Command) {
        let _ = self.0.send(Event::Ask(command));
    }
}

impl Pool {
    pub fn new(
        settings: LocalSettings,
        spawner: Spawner,
        table: Arc<Table<Worker>>,
        roster: Arc<Roster>,
        ops: Arc<Ops>,
    ) -> (Self, PoolSender, mpsc::UnboundedReceiver<PoolEvent>) {
        let (notify, notified) = mpsc::unbounded_channel();
        let (sender, events) = mpsc::unbounded_channel();
        let asker = PoolSender(sender.clone());
        let pool = Self {
            settings,
            spawner,
            table,
            roster,
            ops,
            notify,
            sender,
            events,
            positions: BTreeMap::new(),
            members: BTreeMap::new(),
            next_generation: 0,
            ever_ready: false,
            first_failures: Vec::new(),
            rollout: None,
            growth: Vec::new(),
            stopping: None,
        };
        (pool, asker, notified)
    }

    /// Starts the workers and looks after them until every process is gone after [`Command::Stop`].
    pub async fn run(mut self) {
        for id in 1..=self.settings.workers {
            self.positions.insert(id, Position::default());
        }
        for id in 1..=self.settings.workers {
            self.start_unasked(id, None).await;
        }
        if self.settings.max_memory.is_some() {
            self.later(MEMORY_LOOK, Event::LookAtMemory);
        }
        self.publish();
        while !self.is_over() {
            let Some(event) = self.events.recv().await else {
                return;
            };
            self.handle(event).await;
            self.publish();
        }
        for reply in self.stopping.take().into_iter().flatten() {
            let _ = reply.send(Ok(()));
        }
    }

    fn is_over(&self) -> bool {
        self.stopping.is_some() && self.members.is_empty()
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Ask(Command::Scale(count, reply)) => self.scale(count, reply).await,
            Event::Ask(Command::Reload(reply)) => self.reload(reply).await,
            Event::Ask(Command::Stop(reply)) => self.stop(reply),
            Event::Ask(Command::Kill) => self.kill(),
            Event::Started(generation, Ok(())) => self.ready(generation).await,
            Event::Started(generation, Err(BootProblem::Timeout)) => {
                if let Some(member) = self.members.get_mut(&generation) {
                    member.timed_out = true;
                    member.process.ender().kill();
                }
            }
            Event::Exited(generation, exit) => self.exited(generation, exit).await,
            Event::Reported(generation, report) => self.reported(generation, report).await,
            Event::RecycleDue(generation, reason) => self.recycle(generation, reason).await,
            Event::Drained(generation) => self.end(generation, STOP_GRACE),
            Event::RestartDue(id) => {
                let waits = self
                    .positions
                    .get(&id)
                    .is_some_and(|position| position.place == Place::Waiting);
                if waits && self.stopping.is_none() {
                    self.start_unasked(id, None).await;
                }
            }
            Event::Probed(generation, accepts) => self.probed(generation, accepts),
            Event::LookAtMemory => self.look_at_memory(),
        }
    }

    /// Starts a process for `id`. What becomes of the position after a failure is seen to already.
    async fn start(&mut self, id: u32, replaces: Option<(u64, Reason)>) -> Result<u64, Failure> {
        let generation = self.next_generation;
        self.next_generation += 1;
        if let Some(position) = self.positions.get_mut(&id) {
            position.place = Place::Filled;
        }
        let started = async {
            let port = ReservedPort::take()?;
            let mut env = self.settings.env.clone();
            env.insert("FAUCET_PORT".into(), port.address.port().to_string());
            env.insert("FAUCET_HOST".into(), port.address.ip().to_string());
            env.insert("FAUCET_WORKER_ID".into(), id.to_string());
            let launch = Launch {
                command: self.settings.command.clone(),
                dir: self.settings.dir.clone(),
                env,
            };
            let log = self.ops.log.clone();
            let (process, exit) = Process::start(&self.spawner, launch, id, log).await?;
            Ok::<_, std::io::Error>((port, process, exit))
        };
        let (port, process, exit) = match started.await {
            Ok(started) => started,
            Err(error) => {
                let failure = Failure {
                    class: "boot",
                    message: format!("Worker {id} could not be started: {error}"),
                    lines: Vec::new(),
                };
                self.start_failed(id, replaces, failure.clone());
                return Err(failure);
            }
        };
        let address = port.address;
        let member = Member {
            id,
            state: State::Starting,
            process,
            started: SystemTime::now(),
            ready_since: None,
            port,
            worker: None,
            lease_id: None,
            replaces,
            recycle_after: None,
            timed_out: false,
        };
        self.members.insert(generation, member);
        let (sender, timeout) = (self.sender.clone(), self.settings.boot_timeout);
        let (mut booting, exited) = oneshot::channel::<()>();
        tokio::spawn(async move {
            // Ends early with the process: what answers on its port then is not ours.
            let ready = tokio::select! {
                ready = tokio::time::timeout(timeout, accepts(address)) => ready,
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
        Ok(generation)
    }

    /// Starts a process when nobody waits for it.
    async fn start_unasked(&mut self, id: u32, replaces: Option<(u64, Reason)>) {
        // A failure is logged, and tried again if it must be.
        let _ = self.start(id, replaces).await;
    }

    /// A process accepts connections.
    async fn ready(&mut self, generation: u64) {
        let recycle_at = self.recycle_threshold();
        let Some(member) = self.members.get_mut(&generation) else {
            return;
        };
        if member.state != State::Starting {
            return;
        }
        let sender = self.sender.clone();
        let worker = Arc::new(Worker::new(
            member.id,
            generation,
            Address::Tcp(member.port.address),
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
        ));
        member.state = State::Ready;
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

    fn of(&self, id: u32, state: State) -> Vec<u64> {
        self.members
            .iter()
            .filter(|(_, member)| member.id == id && member.state == state)
            .map(|(generation, _)| *generation)
            .collect()
    }

    fn later(&self, pause: Duration, event: Event) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = sender.send(event);
        });
    }

    /// Tells everyone who asks how things stand.
    fn publish(&self) {
        let restarts = |id: &u32| {
            self.positions
                .get(id)
                .map_or(0, |position| position.restarts)
        };
        let mut entries: Vec<Entry> = self
            .members
            .iter()
            .map(|(generation, member)| Entry {
                id: member.id,
                generation: *generation,
                pid: Some(member.process.pid()),
                state: member.state,
                restarts: restarts(&member.id),
                started: Some(member.started),
                worker: member.worker.clone(),
            })
            .collect();
        for (id, position) in &self.positions {
            let empty = !entries
                .iter()
                .any(|entry| entry.id == *id && entry.state != State::Stopping);
            let state = match position.place {
                Place::GivenUp => State::Failed,
                _ => State::Dead,
            };
            if empty && position.place != Place::Filled {
                entries.push(Entry {
                    id: *id,
                    generation: 0,
                    pid: None,
                    state,
                    restarts: position.restarts,
                    started: None,
                    worker: None,
                });
            }
        }
        entries.sort_by_key(|entry| (entry.id, entry.generation));
        self.roster.set(entries);
        self.ops.log.ring();
    }
}

fn stopped() -> Failure {
    Failure {
        class: "stopped",
        message: "The server is stopping.".into(),
        lines: Vec::new(),
    }
}
