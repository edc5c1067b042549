//! The supervisor: one task that owns every process, and the only one that decides about them.
//!
//! A process goes `Starting -> Ready -> Draining -> Stopping -> gone`, or leaves from any state by
//! dying. Everything that happens arrives as an [`Event`]; nothing here waits.

mod ending;
mod growth;
mod look;
mod member;
mod preload;
mod recycle;
mod restart;
mod rollout;
mod scaling;
mod start;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use self::ending::STOP_GRACE;
use self::growth::Growth;
use self::member::{BootProblem, FirstFailure, Member, Reason};
use self::recycle::MEMORY_LOOK;
use self::rollout::Rollout;
use self::scaling::{Demand, Scaling};
use self::start::{ForkFailure, ForkedWorker};
use super::position::{Due, Place, Position};
use super::process::{Exit, Process};
use super::templates::{News, Templates};
use super::{LocalSettings, Resources};
use crate::lock::Table;
use crate::ops::status::{Kind, State};
use crate::ops::Ops;
use crate::sessions::Sessions;
use crate::sources::{
    Command, Entry, Notifier, Reply, Roster, SourceContext, SourceEvent, SourceHandle,
};
use crate::worker::{Address, Report, Worker};

enum Event {
    Command(Command),
    /// A worker was forked, or was not.
    Forked(u64, Result<ForkedWorker, ForkFailure>),
    /// It listens, but not where the front asks.
    ListensElsewhere(u64, Vec<SocketAddr>),
    Started(u64, Result<Address, BootProblem>),
    /// What a worker needs that has not served yet, in bytes.
    MemoryMeasured(u64, u64),
    Exited(u64, Exit),
    Reported(u64, Report),
    RecycleDue(u64, Reason),
    Drained(u64),
    RestartDue(u32, Due),
    /// A worker that the front has set aside serves, or what is wrong with it.
    Probed(u64, Result<(), &'static str>),
    LookAtMemory,
    /// Requests wait for another worker.
    Demand(Demand),
    LookForRoom,
    LookAtIdle,
    /// What a worker needs, in bytes.
    Weighed(u64),
    Template(News),
}

/// Owns the worker processes of one pool.
pub struct Supervisor {
    settings: LocalSettings,
    resources: Arc<Resources>,
    table: Arc<Table<Worker>>,
    roster: Arc<Roster>,
    ops: Arc<Ops>,
    sessions: Option<Arc<Sessions>>,
    notify: Notifier,
    sender: mpsc::UnboundedSender<Event>,
    events: mpsc::UnboundedReceiver<Event>,
    positions: BTreeMap<u32, Position>,
    members: BTreeMap<u64, Member>,
    ever_ready: bool,
    first_failures: Vec<FirstFailure>,
    /// No worker came up at its last tries: requests are refused until one does.
    failing: bool,
    /// It was said that `max_memory` is too small.
    warned_of_memory: bool,
    preload: Templates,
    rollout: Option<Rollout>,
    growth: Vec<Growth>,
    scaling: Scaling,
    stopping: Option<Vec<Reply>>,
}

impl Supervisor {
    pub fn new(
        settings: LocalSettings,
        resources: Arc<Resources>,
        context: SourceContext,
    ) -> (Self, SourceHandle) {
        let SourceContext {
            table,
            roster,
            ops,
            sessions,
            notify,
        } = context;
        roster.set_give_up_after(settings.give_up_after);
        let (sender, events) = mpsc::unbounded_channel();
        let handle = {
            let sender = sender.clone();
            SourceHandle::new(move |command| {
                // Fails only when the supervisor is gone.
                let _ = sender.send(Event::Command(command));
            })
        };
        let supervisor = Self {
            settings,
            resources,
            table,
            roster,
            ops,
            sessions,
            notify,
            sender,
            events,
            positions: BTreeMap::new(),
            members: BTreeMap::new(),
            ever_ready: false,
            first_failures: Vec::new(),
            failing: false,
            warned_of_memory: false,
            preload: Templates::default(),
            rollout: None,
            growth: Vec::new(),
            scaling: Scaling::new(),
            stopping: None,
        };
        (supervisor, handle)
    }

    /// Starts the workers and looks after them until every process is gone after [`Command::Stop`].
    pub async fn run(mut self) {
        for id in 1..=self.settings.workers.min {
            let seat = self.resources.budget.seat();
            self.positions.insert(id, Position::new(seat));
        }
        self.begin().await;
        self.begin_scaling();
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
        self.stopping.is_some() && self.members.is_empty() && self.preload.are_gone()
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Command(Command::Scale(count, reply)) => self.scale(count, reply).await,
            Event::Command(Command::Reload(reply)) => self.reload(reply).await,
            Event::Command(Command::KeepTrying) => self.keep_trying().await,
            Event::Command(Command::Stop(reply)) => self.stop(reply),
            Event::Command(Command::Kill) => self.kill(),
            Event::Forked(generation, outcome) => self.forked(generation, outcome).await,
            Event::ListensElsewhere(generation, strays) => {
                self.listens_elsewhere(generation, &strays);
            }
            Event::Started(generation, Ok(Address::Tcp(_)))
                if self.settings.worker_type == Some(Kind::Native) =>
            {
                self.boot_failed(generation, BootProblem::NotNative);
            }
            Event::Started(generation, Ok(address)) => self.ready(generation, address).await,
            Event::Started(generation, Err(problem)) => self.boot_failed(generation, problem),
            Event::MemoryMeasured(generation, memory) => self.memory_measured(generation, memory),
            Event::Exited(generation, exit) => self.exited(generation, exit).await,
            Event::Reported(generation, report) => self.reported(generation, report).await,
            Event::RecycleDue(generation, reason) => self.recycle(generation, reason).await,
            Event::Drained(generation) => self.end(generation, STOP_GRACE),
            Event::RestartDue(id, due) => {
                // One that waited for another time has been tried since.
                let waits = self
                    .positions
                    .get(&id)
                    .is_some_and(|position| position.place == Place::Waiting(due));
                if waits && self.stopping.is_none() {
                    self.start_unasked(id, None).await;
                }
            }
            Event::Probed(generation, outcome) => self.probed(generation, outcome),
            Event::LookAtMemory => self.look_at_memory(),
            Event::Demand(demand) => self.grow(demand).await,
            Event::LookForRoom => self.look_for_room(),
            Event::LookAtIdle => self.look_at_idle(),
            Event::Weighed(bytes) => self.weighed(bytes),
            Event::Template(news) => self.template_news(news).await,
        }
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
    fn publish(&mut self) {
        self.open_window();
        self.roster
            .set_size(self.settings.workers, self.positions.is_empty());
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
                pid: member.process.as_ref().map(Process::pid),
                state: member.state,
                restarts: restarts(&member.id),
                started: Some(member.started),
                boot: member.boot,
                next_try: None,
                worker: member.worker.clone(),
            })
            .collect();
        for (id, position) in &self.positions {
            let empty = !entries
                .iter()
                .any(|entry| entry.id == *id && entry.state != State::Stopping);
            let state = match position.place {
                Place::Filled => State::Starting,
                _ if position.is_failing(self.settings.max_failures) => State::Failed,
                Place::Waiting(_) | Place::Undecided => State::Dead,
            };
            if empty && (position.place != Place::Filled || self.awaits_template(*id)) {
                entries.push(Entry {
                    id: *id,
                    generation: 0,
                    pid: None,
                    state,
                    restarts: position.restarts,
                    started: None,
                    boot: None,
                    next_try: position.due().map(|due| due.time),
                    worker: None,
                });
            }
        }
        entries.sort_by_key(|entry| (entry.id, entry.generation));
        let template = match self.settings.shared_template {
            true => self.resources.template_status(),
            false => self.preload.status(self.settings.max_failures),
        };
        self.roster.set(entries, template);
        self.ops.log.ring();
    }
}
