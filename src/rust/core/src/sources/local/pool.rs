//! The pool: one task that owns every process, and the only one that decides about them.
//!
//! A process goes `Starting -> Ready -> Draining -> Stopping -> gone`, or leaves from any state by
//! dying. Everything that happens arrives as an [`Event`]; nothing here waits.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};

use super::boot::{accepts, ReservedPort};
use super::position::{Place, Position};
use super::process::{Exit, Process};
use super::spawn::{Launch, Spawner};
use super::{resident_memory, Failure, LocalSettings};
use crate::lock::{MemberId, Refused, Table};
use crate::ops::status::State;
use crate::ops::Ops;
use crate::sources::roster::{Entry, Roster};
use crate::worker::{Address, Report, Worker};

/// How long a worker may take to run its exit hooks before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The same for one that is known to be stuck, or has not yet begun to serve.
const SHORT_GRACE: Duration = Duration::from_secs(1);

/// How long a worker that refuses connections may take to be seen dying, before it is killed.
const UNREACHABLE_GRACE: Duration = Duration::from_secs(1);

/// How long tunnels may take to close after their worker has drained.
const TUNNEL_GRACE: Duration = Duration::from_secs(5);

/// Between two looks at the workers' memory, if it is limited.
const MEMORY_LOOK: Duration = Duration::from_secs(1);

/// Recycling happens at 90 to 100 % of `max_requests`, so that workers do not leave all at once.
const RECYCLE_JITTER: f64 = 0.1;

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
    StillUnreachable(u64),
    LookAtMemory,
}

/// Why a process is replaced: the `reason` label of `faucet_restarts_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Crashed,
    BootFailed,
    Timeout,
    MaxRequests,
    MaxMemory,
    Reload,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Crashed => "crashed",
            Self::BootFailed => "boot_failed",
            Self::Timeout => "timeout",
            Self::MaxRequests => "max_requests",
            Self::MaxMemory => "max_memory",
            Self::Reload => "reload",
        }
    }
}

enum BootProblem {
    Timeout,
}

/// A process and what is known of it.
struct Member {
    id: u32,
    state: State,
    process: Process,
    started: SystemTime,
    ready_since: Option<Instant>,
    /// Kept for as long as the process lives: the port is its alone.
    port: ReservedPort,
    worker: Option<Arc<Worker>>,
    lease_id: Option<MemberId>,
    /// The process that leaves when this one is ready.
    replaces: Option<(u64, Reason)>,
    /// Its last replacement failed: none before this.
    recycle_after: Option<Instant>,
    timed_out: bool,
}

/// A reload on its way through the positions.
struct Rollout {
    left: VecDeque<u32>,
    current: Option<u64>,
    reply: Reply,
}

/// New workers that someone waits for.
struct Growth {
    pending: HashSet<u64>,
    reply: Reply,
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
            Event::StillUnreachable(generation) => {
                if let Some(member) = self.members.get(&generation) {
                    if member.state == State::Ready {
                        tracing::warn!(worker = member.id, "worker refuses connections: replaced");
                        member.process.ender().kill();
                    }
                }
            }
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
            tracing::info!(worker = id, "worker ready");
        }
        if let Some((old, reason)) = replaces {
            self.count_restart(id, reason);
            self.retire(old);
        }
        self.grown(generation, Ok(()));
        self.roll_on(generation, Ok(())).await;
    }

    async fn exited(&mut self, generation: u64, exit: Exit) {
        let Some(member) = self.members.remove(&generation) else {
            return;
        };
        if let Some(lease_id) = member.lease_id {
            self.table.remove(lease_id);
        }
        if let Some(worker) = &member.worker {
            worker.tunnels.drain();
        }
        if self.stopping.is_some() || !self.positions.contains_key(&member.id) {
            return;
        }
        match member.state {
            State::Starting => {
                let message = if member.timed_out {
                    format!(
                        "Worker {} did not accept connections within {} s (`boot_timeout`).",
                        member.id,
                        self.settings.boot_timeout.as_secs_f64()
                    )
                } else {
                    format!(
                        "Worker {} {} before it was ready.",
                        member.id,
                        exit.describe()
                    )
                };
                let failure = Failure {
                    class: "boot",
                    message,
                    lines: member.process.tail.lines(),
                };
                self.grown(generation, Err(failure.clone()));
                self.roll_on(generation, Err(failure.clone())).await;
                self.start_failed(member.id, member.replaces, failure);
            }
            State::Ready => {
                tracing::warn!(worker = member.id, "worker {}", exit.describe());
                self.ops.metrics.restart(Reason::Crashed.name());
                self.restart_dead(member.id, member.ready_since).await;
            }
            // It was told to go.
            _ => {}
        }
    }

    /// A serving process is gone. If a replacement is on its way already, that one takes its place.
    async fn restart_dead(&mut self, id: u32, ready_since: Option<Instant>) {
        let replaced = self.members.values().any(|member| {
            member.id == id && matches!(member.state, State::Starting | State::Ready)
        });
        let Some(position) = self.positions.get_mut(&id) else {
            return;
        };
        let pause = position.died(ready_since.unwrap_or_else(Instant::now));
        if replaced {
            position.place = Place::Filled;
        } else if pause.is_zero() {
            self.start_unasked(id, None).await;
        } else {
            tracing::warn!(
                worker = id,
                "worker restarts in {:.1} s",
                pause.as_secs_f64()
            );
            self.later(pause, Event::RestartDue(id));
        }
    }

    /// A process did not become ready.
    fn start_failed(&mut self, id: u32, replaces: Option<(u64, Reason)>, failure: Failure) {
        let last = failure.lines.last().cloned().unwrap_or_default();
        if let Some((old, reason)) = replaces {
            let old = self
                .members
                .get_mut(&old)
                .filter(|member| member.state == State::Ready);
            match (old, self.positions.get_mut(&id)) {
                // Whoever asked for the reload is told.
                (Some(_), _) if reason == Reason::Reload => return,
                (Some(old), Some(position)) => {
                    let pause = position.replacement_failed();
                    old.recycle_after = Some(Instant::now() + pause);
                    tracing::error!(
                        worker = id,
                        "replacement ({}) failed, the old process stays: {} {last}",
                        reason.name(),
                        failure.message
                    );
                    return;
                }
                _ => {}
            }
        }
        if !self.ever_ready {
            // The first boot: an error of `run()`, once it is clear that no worker comes up.
            if let Some(position) = self.positions.get_mut(&id) {
                position.place = Place::GivenUp;
            }
            let hope = self
                .positions
                .values()
                .any(|position| position.place == Place::Filled);
            if hope {
                self.first_failures.push((id, failure));
            } else {
                let _ = self.notify.send(PoolEvent::BootFailed(failure));
            }
            return;
        }
        self.ops.metrics.restart(Reason::BootFailed.name());
        let max_failures = self.settings.max_failures;
        let pause = self
            .positions
            .get_mut(&id)
            .and_then(|position| position.start_failed(max_failures));
        match pause {
            Some(pause) => {
                tracing::error!(
                    worker = id,
                    "{} Trying again in {:.1} s. {last}",
                    failure.message,
                    pause.as_secs_f64()
                );
                self.later(pause, Event::RestartDue(id));
            }
            None => {
                tracing::error!(
                    worker = id,
                    "worker given up after {max_failures} failed starts: {} {last}",
                    failure.message
                );
                self.refuse_if_all_given_up();
            }
        }
    }

    fn refuse_if_all_given_up(&self) {
        let all = self
            .positions
            .values()
            .all(|position| position.place == Place::GivenUp);
        if all {
            tracing::error!("no worker is left: requests are refused until a reload");
            self.table.refuse(Refused::NoWorkers);
        }
    }

    fn table_admits(&self) {
        // What was refused because of the end stays refused.
        if self.stopping.is_none() && !self.roster.is_draining() {
            self.table.admit();
        }
    }

    fn count_restart(&mut self, id: u32, reason: Reason) {
        self.ops.metrics.restart(reason.name());
        if let Some(position) = self.positions.get_mut(&id) {
            position.restarts += 1;
        }
    }

    async fn reported(&mut self, generation: u64, report: Report) {
        let Some(member) = self.members.get_mut(&generation) else {
            return;
        };
        match report {
            Report::Stuck if matches!(member.state, State::Ready | State::Draining) => {
                let (id, was_ready) = (member.id, member.state == State::Ready);
                tracing::warn!(worker = id, "worker passed its deadline: replaced");
                self.end(generation, SHORT_GRACE);
                if was_ready && self.stopping.is_none() && self.positions.contains_key(&id) {
                    self.count_restart(id, Reason::Timeout);
                    // A replacement that is on its way already takes its place.
                    if self.of(id, State::Starting).is_empty() {
                        self.start_unasked(id, None).await;
                    }
                }
            }
            Report::Unreachable if member.state == State::Ready => {
                self.later(UNREACHABLE_GRACE, Event::StillUnreachable(generation));
            }
            _ => {}
        }
    }

    async fn recycle(&mut self, generation: u64, reason: Reason) {
        let Some(member) = self.members.get(&generation) else {
            return;
        };
        let id = member.id;
        let due = member.state == State::Ready
            && self.stopping.is_none()
            && member
                .recycle_after
                .map_or(true, |after| after <= Instant::now());
        let under_way = !self.of(id, State::Starting).is_empty();
        if due && !under_way && self.positions.contains_key(&id) {
            tracing::info!(worker = id, "worker recycles: {}", reason.name());
            self.start_unasked(id, Some((generation, reason))).await;
        }
    }

    fn look_at_memory(&mut self) {
        let Some(limit) = self.settings.max_memory else {
            return;
        };
        for (generation, member) in &self.members {
            let over = member.state == State::Ready
                && resident_memory(member.process.pid()).is_some_and(|memory| memory > limit);
            if over {
                let _ = self
                    .sender
                    .send(Event::RecycleDue(*generation, Reason::MaxMemory));
            }
        }
        self.later(MEMORY_LOOK, Event::LookAtMemory);
    }

    fn recycle_threshold(&self) -> Option<u64> {
        self.settings.max_requests.map(|most| {
            let less = (most as f64 * RECYCLE_JITTER * super::backoff::jitter()) as u64;
            (most - less).max(1)
        })
    }

    /// Lets a process finish what it does, then end.
    fn retire(&mut self, generation: u64) {
        let Some(member) = self.members.get_mut(&generation) else {
            return;
        };
        match (member.state, member.lease_id, member.worker.clone()) {
            (State::Ready, Some(lease_id), Some(worker)) => {
                member.state = State::Draining;
                let drained = self.table.drain(lease_id);
                let sender = self.sender.clone();
                tokio::spawn(async move {
                    drained.await;
                    worker.tunnels.drain();
                    // One that does not close is cut with the process.
                    let _ = tokio::time::timeout(TUNNEL_GRACE, worker.tunnels.closed()).await;
                    let _ = sender.send(Event::Drained(generation));
                });
            }
            (State::Starting, ..) => self.end(generation, SHORT_GRACE),
            _ => {}
        }
    }

    /// Tells a process to end, and sees to it that it does.
    fn end(&mut self, generation: u64, grace: Duration) {
        let Some(member) = self.members.get_mut(&generation) else {
            return;
        };
        if let Some(lease_id) = member.lease_id {
            // Nothing new; what is in flight keeps its lease until the process is gone.
            drop(self.table.drain(lease_id));
        }
        if let Some(worker) = &member.worker {
            worker.tunnels.drain();
            // httpuv's goodbye waits seconds for a kept-alive connection to end.
            drop(worker.take_connection());
        }
        if member.state != State::Stopping {
            member.state = State::Stopping;
            tokio::spawn(member.process.ender().stop(grace));
        }
    }

    async fn scale(&mut self, count: u32, reply: Reply) {
        if self.stopping.is_some() {
            let _ = reply.send(Err(stopped()));
            return;
        }
        self.shrink(count).await;
        let (mut pending, mut failed) = (HashSet::new(), None);
        let mut id = 0;
        while (self.positions.len() as u32) < count {
            id += 1;
            if self.positions.contains_key(&id) {
                continue;
            }
            self.positions.insert(id, Position::default());
            self.table_admits();
            match self.start(id, None).await {
                Ok(generation) => {
                    pending.insert(generation);
                }
                Err(failure) => failed = Some(failure),
            }
        }
        if let Some(failure) = failed {
            let _ = reply.send(Err(failure));
        } else if pending.is_empty() {
            let _ = reply.send(Ok(()));
        } else {
            self.growth.push(Growth { pending, reply });
        }
    }

    /// Lets the positions go that are too many: those that serve nobody first, then the last ones.
    async fn shrink(&mut self, count: u32) {
        let mut ids: Vec<(bool, u32)> = self
            .positions
            .iter()
            .map(|(id, position)| (position.place == Place::GivenUp, *id))
            .collect();
        ids.sort_unstable();
        for (_, id) in ids.into_iter().skip(count as usize) {
            self.positions.remove(&id);
            let leaving: Vec<u64> = self
                .members
                .iter()
                .filter(|(_, member)| member.id == id)
                .map(|(generation, _)| *generation)
                .collect();
            for generation in leaving {
                self.retire(generation);
                self.grown(generation, Err(scaled_away()));
                if self.rollout_waits_for(generation) {
                    self.roll_next().await;
                }
            }
        }
        if !self.positions.is_empty() && count > 0 {
            self.refuse_if_all_given_up();
        }
    }

    /// A process that someone may wait for is ready, or will never be.
    fn grown(&mut self, generation: u64, outcome: Result<(), Failure>) {
        let mut waiting = Vec::new();
        for mut growth in std::mem::take(&mut self.growth) {
            let awaited = growth.pending.remove(&generation);
            match &outcome {
                Err(failure) if awaited => {
                    let _ = growth.reply.send(Err(failure.clone()));
                }
                _ if growth.pending.is_empty() => {
                    let _ = growth.reply.send(Ok(()));
                }
                _ => waiting.push(growth),
            }
        }
        self.growth = waiting;
    }

    /// Whoever waits for one of `old` waits for `new` from now on.
    fn awaited_instead(&mut self, old: &[u64], new: u64) {
        for growth in &mut self.growth {
            let before = growth.pending.len();
            growth
                .pending
                .retain(|generation| !old.contains(generation));
            if growth.pending.len() < before {
                growth.pending.insert(new);
            }
        }
    }

    async fn reload(&mut self, reply: Reply) {
        let refusal = if self.stopping.is_some() {
            Some(stopped())
        } else if self.rollout.is_some() {
            Some(Failure {
                class: "reload",
                message: "A reload is under way already.".into(),
                lines: Vec::new(),
            })
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let _ = reply.send(Err(refusal));
            return;
        }
        tracing::info!("reload begins");
        self.rollout = Some(Rollout {
            left: self.positions.keys().copied().collect(),
            current: None,
            reply,
        });
        self.roll_next().await;
    }

    /// Replaces the next position's process, or ends the reload.
    async fn roll_next(&mut self) {
        loop {
            let Some(rollout) = &mut self.rollout else {
                return;
            };
            let Some(id) = rollout.left.pop_front() else {
                if let Some(rollout) = self.rollout.take() {
                    tracing::info!("reload is complete");
                    let _ = rollout.reply.send(Ok(()));
                }
                return;
            };
            if !self.positions.contains_key(&id) {
                continue;
            }
            if let Some(position) = self.positions.get_mut(&id) {
                position.pardon();
            }
            self.table_admits();
            // One that is starting may have read the old code.
            let starting: Vec<u64> = self.of(id, State::Starting);
            for generation in &starting {
                if let Some(member) = self.members.get_mut(generation) {
                    member.replaces = None;
                }
                self.retire(*generation);
            }
            let old = self.of(id, State::Ready).first().copied();
            let replaces = old.map(|old| (old, Reason::Reload));
            match self.start(id, replaces).await {
                Ok(generation) => {
                    self.awaited_instead(&starting, generation);
                    if let Some(rollout) = &mut self.rollout {
                        rollout.current = Some(generation);
                    }
                }
                Err(failure) => {
                    for generation in starting {
                        self.grown(generation, Err(failure.clone()));
                    }
                    self.roll_failed(failure);
                }
            }
            return;
        }
    }

    fn rollout_waits_for(&self, generation: u64) -> bool {
        self.rollout
            .as_ref()
            .is_some_and(|rollout| rollout.current == Some(generation))
    }

    fn of(&self, id: u32, state: State) -> Vec<u64> {
        self.members
            .iter()
            .filter(|(_, member)| member.id == id && member.state == state)
            .map(|(generation, _)| *generation)
            .collect()
    }

    /// Goes on with a reload that waited for `generation`.
    async fn roll_on(&mut self, generation: u64, outcome: Result<(), Failure>) {
        if !self.rollout_waits_for(generation) {
            return;
        }
        match outcome {
            Ok(()) => self.roll_next().await,
            Err(failure) => self.roll_failed(failure),
        }
    }

    fn roll_failed(&mut self, mut failure: Failure) {
        if let Some(rollout) = self.rollout.take() {
            failure.class = "reload";
            failure.message = format!(
                "The new code does not start, the old workers stay. {}",
                failure.message
            );
            let _ = rollout.reply.send(Err(failure));
        }
    }

    fn stop(&mut self, reply: Reply) {
        self.stopping.get_or_insert_with(Vec::new).push(reply);
        self.disappoint();
        let all: Vec<(u64, State)> = self
            .members
            .iter()
            .map(|(generation, member)| (*generation, member.state))
            .collect();
        for (generation, state) in all {
            let grace = match state {
                State::Starting => SHORT_GRACE,
                _ => STOP_GRACE,
            };
            self.end(generation, grace);
        }
    }

    /// Tells everyone who waits for workers that there will be none.
    fn disappoint(&mut self) {
        if let Some(rollout) = self.rollout.take() {
            let _ = rollout.reply.send(Err(stopped()));
        }
        for growth in std::mem::take(&mut self.growth) {
            let _ = growth.reply.send(Err(stopped()));
        }
    }

    fn kill(&mut self) {
        self.stopping.get_or_insert_with(Vec::new);
        self.disappoint();
        for member in self.members.values() {
            member.process.ender().kill();
        }
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

fn scaled_away() -> Failure {
    Failure {
        class: "boot",
        message: "The number of workers was changed again before they were ready.".into(),
        lines: Vec::new(),
    }
}
