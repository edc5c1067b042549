//! Workers on other machines: who is known, and what is done when something happens to one.

mod awaited;
mod joining;
mod member;
mod slots;
mod turns;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::sync::{mpsc, Semaphore};

use self::awaited::Awaited;
use self::member::{Doubt, Member, Standing};
use crate::lock::Table;
use crate::sources::{Command, Failure, Roster};
use crate::tls::Peer;
use crate::worker::remote::{probe, Remote, TurnOutcome};
use crate::worker::{Address, Report, Unwanted, Worker};

/// How many members are looked at in the same moment.
const LOOKS_AT_ONCE: usize = 64;

/// How long tunnels may take to close when the server stops.
const TUNNEL_GRACE: Duration = Duration::from_secs(5);

/// How members are used.
pub struct Usage {
    pub slots: u32,
    /// Whether they are reached over a network, and then whether requests that nobody waits for may be broken off.
    pub remote: Option<bool>,
    /// If they are reached with TLS, and it is the same for all.
    pub peer: Option<Peer>,
    /// What our own requests have as their `Host`.
    pub authority: String,
    /// The name of the pool there that they are members for, where there may be several.
    pub pool: Option<HeaderValue>,
    pub ready_path: Option<String>,
    /// Whether all addresses lead to the same process.
    pub exclusive: bool,
}

/// What happens to a member.
pub enum Event {
    /// The front has something to say.
    Reported(Report),
    /// It was looked at.
    Probed(Result<(), String>),
    /// A turn was asked for.
    Turned(TurnOutcome),
    /// It was left alone for a while.
    Rested,
    /// It has left, and nothing is in flight any more.
    Drained,
    /// It was a slot, and has no connection any more.
    Gone,
}

/// What that means for whoever looks members up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    None,
    /// It serves, for the first time.
    Entered,
    /// It cannot be reached: maybe there are others by now.
    Lost,
}

/// The members of one server.
pub struct Members {
    usage: Usage,
    table: Arc<Table<Worker>>,
    roster: Arc<Roster>,
    events: mpsc::UnboundedSender<(u64, Event)>,
    members: BTreeMap<u64, Member>,
    by_address: HashMap<Address, u64>,
    /// Each with whom hands are to be shaken there, if that is its own.
    wanted: BTreeMap<Address, Option<Peer>>,
    next: u64,
    /// Numbers of slots that are gone, to be used again.
    free_ids: BTreeSet<u32>,
    /// Turns that are waited for at machines whose slots are members.
    awaited: Awaited,
    looks: Arc<Semaphore>,
    /// Why a member could not join, of the last one.
    refusal: Option<String>,
    /// The log tells that this front gets no turns.
    told: bool,
}

impl Members {
    /// No members yet. What happens to them comes out of the other end.
    pub fn new(
        usage: Usage,
        table: Arc<Table<Worker>>,
        roster: Arc<Roster>,
    ) -> (Self, mpsc::UnboundedReceiver<(u64, Event)>) {
        let (events, happened) = mpsc::unbounded_channel();
        let members = Self {
            usage,
            table,
            roster,
            events,
            members: BTreeMap::new(),
            by_address: HashMap::new(),
            wanted: BTreeMap::new(),
            next: 0,
            free_ids: BTreeSet::new(),
            awaited: Awaited::default(),
            looks: Arc::new(Semaphore::new(LOOKS_AT_ONCE)),
            refusal: None,
            told: false,
        };
        (members, happened)
    }

    /// Addresses in use.
    pub fn wanted(&self) -> usize {
        self.wanted.len()
    }

    /// Why the last member that could not join could not.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn worker(&self, id: u32, key: u64, address: Address) -> (Worker, Doubt) {
        let (doubt, events) = (Doubt::default(), self.events.clone());
        let reporter = {
            let doubt = doubt.clone();
            move |worker: &Worker, report| {
                if report != Report::Served || doubt.settle() {
                    // Fails only when this source is gone.
                    let _ = events.send((worker.generation, Event::Reported(report)));
                }
            }
        };
        (Worker::new(id, key, address, Box::new(reporter)), doubt)
    }

    fn enter(&mut self, key: u64) {
        if let Some(member) = self.members.get_mut(&key) {
            // Before it is given out: whoever asks then is told that it is there.
            let remote = member.worker.remote.as_ref();
            let slots = remote.and_then(Remote::workers).unwrap_or(self.usage.slots);
            let place = self.table.add(member.worker.clone(), slots);
            member.enter(place);
            self.roster.put(member.entry());
        }
    }

    fn leave(&mut self, key: u64) {
        let Some(member) = self.members.get_mut(&key) else {
            return;
        };
        member.give_up();
        match member.place {
            None => self.forget(key),
            Some(place) => {
                member.standing = Standing::Leaving;
                self.roster.put(member.entry());
                member.worker.close_connections();
                let (drained, events) = (self.table.drain(place), self.events.clone());
                tokio::spawn(async move {
                    drained.await;
                    let _ = events.send((key, Event::Drained));
                });
            }
        }
    }

    fn forget(&mut self, key: u64) {
        if let Some(member) = self.members.remove(&key) {
            match member.worker.dialled {
                None => drop(self.by_address.remove(&member.address)),
                Some(_) => drop(self.free_ids.insert(member.id)),
            }
            self.roster.forget(member.id, key);
            member.worker.close_connections();
        }
    }

    /// Does what a source is told whose workers are nobody's here, `None` if nobody tells it anything any more; whether it goes
    /// on. `elsewhere` says where their number is changed.
    pub async fn obey(
        &mut self,
        command: Option<Command>,
        commands: &mut mpsc::UnboundedReceiver<Command>,
        elsewhere: &str,
    ) -> bool {
        match command {
            None | Some(Command::Kill) => {
                self.forget_all();
                return false;
            }
            Some(Command::Stop(reply)) => {
                self.say_goodbye(commands).await;
                // Before the answer, after which nobody is to see one.
                self.forget_all();
                let _ = reply.send(Ok(()));
                return false;
            }
            // They reload where they run.
            Some(Command::Reload(reply)) => {
                let _ = reply.send(Ok(()));
            }
            Some(Command::KeepTrying) => {}
            Some(Command::Scale(_, reply)) => {
                let _ = reply.send(Err(Failure::new("unsupported", elsewhere)));
            }
        }
        true
    }

    /// Lets tunnels end in order, unless there is no time for that.
    pub async fn say_goodbye(&self, commands: &mut mpsc::UnboundedReceiver<Command>) {
        let killed =
            async { while !matches!(commands.recv().await, None | Some(Command::Kill)) {} };
        tokio::select! {
            _ = tokio::time::timeout(TUNNEL_GRACE, self.close_tunnels()) => {}
            () = killed => {}
        }
    }

    /// Tells all tunnels to close; resolves when they have.
    fn close_tunnels(&self) -> impl Future<Output = ()> + Send {
        let members = self.members.values();
        let workers: Vec<_> = members.map(|member| member.worker.clone()).collect();
        for worker in &workers {
            worker.tunnels.drain();
        }
        async move {
            for worker in workers {
                worker.tunnels.closed().await;
            }
        }
    }

    /// The end: nobody is a worker any more, and nothing is open but what is in flight.
    pub fn forget_all(&mut self) {
        for (key, member) in std::mem::take(&mut self.members) {
            if let Some(place) = member.place {
                self.table.remove(place);
            }
            self.roster.forget(member.id, key);
            member.worker.close_connections();
        }
        self.by_address.clear();
    }

    /// Does what is to be done.
    pub fn handle(&mut self, key: u64, event: Event) -> Consequence {
        match event {
            Event::Reported(report) => self.reported(key, report),
            Event::Probed(outcome) => self.probed(key, outcome),
            Event::Turned(outcome) => self.turned(key, outcome),
            Event::Rested => {
                self.rested(key);
                Consequence::None
            }
            Event::Gone => {
                self.part(key);
                Consequence::None
            }
            Event::Drained => {
                self.forget(key);
                self.join_missing();
                Consequence::None
            }
        }
    }

    fn reported(&mut self, key: u64, report: Report) -> Consequence {
        let Some(member) = self.members.get_mut(&key) else {
            return Consequence::None;
        };
        if let Some(slot) = &member.worker.dialled {
            if slot.is_gone() {
                if matches!(report, Report::Stuck(Unwanted::Deadline, _)) {
                    tracing::warn!(worker = member.id, address = %member.address, "passed its deadline, and its slot is closed");
                }
                self.part(key);
                return Consequence::Lost;
            }
        }
        match (report, member.place) {
            // A slot is one, however many workers there are.
            (Report::Slots(_) | Report::NoFaucet, _) if member.worker.dialled.is_some() => {}
            (Report::Slots(slots), Some(place)) => self.table.resize(place, slots),
            (Report::NoFaucet, Some(place)) => self.table.resize(place, self.usage.slots),
            _ => {}
        }
        match (report, member.standing) {
            (Report::Unreachable, Standing::Serving | Standing::Occupied | Standing::Stuck) => {
                tracing::warn!(worker = member.id, address = %member.address, "is unreachable");
                self.lose(key);
                Consequence::Lost
            }
            (Report::Stuck(why, _), Standing::Serving | Standing::Occupied) => {
                self.stuck(key, why);
                Consequence::None
            }
            // It was set aside, and nothing says that it does not serve.
            (Report::Doubtful, Standing::Serving) => {
                self.resume(key);
                Consequence::None
            }
            // Its late answer was none.
            (Report::Doubtful, Standing::Stuck) => {
                self.lose(key);
                Consequence::Lost
            }
            (Report::Occupied, Standing::Serving) => {
                member.standing = Standing::Occupied;
                self.occupied(key);
                Consequence::None
            }
            (Report::TurnRefused, Standing::Serving | Standing::Occupied) => {
                member.standing = Standing::Occupied;
                self.ask_again_later(key);
                Consequence::None
            }
            // Its late answer has come, and was none. Only now it is known that faucet runs there.
            (Report::Occupied, Standing::Stuck) if !member.is_looked_after() => {
                self.ask_for_turn(key, Duration::ZERO);
                Consequence::None
            }
            (Report::Served, standing) => {
                member.failures = 0;
                if standing == Standing::Stuck && !member.is_looked_after() {
                    tracing::info!(worker = member.id, address = %member.address, "has answered");
                    self.resume(key);
                }
                Consequence::None
            }
            _ => Consequence::None,
        }
    }

    /// It has passed a deadline. Where faucet runs, a turn tells whether it still works; elsewhere only its answer does.
    fn stuck(&mut self, key: u64, why: Unwanted) {
        let Some(member) = self.members.get_mut(&key) else {
            return;
        };
        if why == Unwanted::Deadline {
            tracing::warn!(worker = member.id, address = %member.address, "passed its deadline and is set aside");
        }
        member.standing = Standing::Stuck;
        self.roster.put(member.entry());
        let place = member.place;
        if let Some(place) = place {
            self.table.suspend(place);
        }
        if member.worker.is_faucet() {
            member.fail();
            self.ask_for_turn(key, Duration::ZERO);
            return;
        }
        member.watch();
        // It may have answered while the news was on its way: then it has nothing more to answer.
        if place.map(|place| self.table.in_flight(place)) == Some(0) {
            self.resume(key);
        }
    }

    /// Sets it aside and looks at it until it can be reached again.
    fn lose(&mut self, key: u64) {
        if let Some(member) = self.members.get_mut(&key) {
            if member.worker.dialled.is_some() {
                // Nobody can be asked whether it comes back.
                return self.part(key);
            }
            member.fail();
            member.standing = Standing::Lost;
            self.roster.put(member.entry());
            member.worker.close_connections();
            if let Some(place) = member.place {
                self.table.suspend(place);
            }
            self.look_at(key);
        }
    }

    fn probed(&mut self, key: u64, outcome: Result<(), String>) -> Consequence {
        let Some(member) = self.members.get_mut(&key) else {
            return Consequence::None;
        };
        let joining = member.standing == Standing::Joining;
        match outcome {
            Ok(()) if joining => {
                if member.announced {
                    tracing::info!(worker = member.id, address = %member.address, "joins");
                }
                self.enter(key);
                Consequence::Entered
            }
            Ok(()) if member.standing == Standing::Lost => {
                tracing::info!(worker = member.id, address = %member.address, "is reachable again");
                member.came_back();
                self.resume(key);
                Consequence::None
            }
            Err(problem) if joining || member.standing == Standing::Lost => {
                if joining {
                    if member.announced && member.failures == 0 {
                        tracing::info!(worker = member.id, address = %member.address, "is not ready yet: {problem}");
                    }
                    self.refusal = Some(format!("{}: {problem}", member.address));
                }
                member.fail();
                self.look_at(key);
                Consequence::None
            }
            // It has begun to leave meanwhile.
            Ok(()) | Err(_) => Consequence::None,
        }
    }

    fn resume(&mut self, key: u64) {
        if let Some(member) = self.members.get_mut(&key) {
            let quietly = member.standing == Standing::Occupied;
            member.standing = Standing::Serving;
            member.give_up();
            if !quietly {
                self.roster.put(member.entry());
            }
            if let Some(place) = member.place {
                self.table.resume(place);
            }
        }
    }

    /// After its pause; the outcome is an event.
    fn look_at(&mut self, key: u64) {
        let Some(member) = self.members.get(&key) else {
            return;
        };
        let (pause, worker) = (member.pause(), member.worker.clone());
        let (looks, authority) = (self.looks.clone(), self.usage.authority.clone());
        let path = self.usage.ready_path.clone();
        self.begin(key, async move {
            tokio::time::sleep(pause).await;
            // Never closed.
            let _place = looks.acquire_owned().await.ok();
            Event::Probed(probe(&worker, &authority, path.as_deref()).await)
        });
    }

    fn begin(&mut self, key: u64, work: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        let task = tokio::spawn(async move {
            let event = work.await;
            let _ = events.send((key, event));
        });
        if let Some(member) = self.members.get_mut(&key) {
            member.busy_with(task.abort_handle());
        }
    }
}
