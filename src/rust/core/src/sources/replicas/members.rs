//! The replicas that are known, and what is done when something happens to one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, Semaphore};

use super::replica::{Doubt, Replica, Standing};
use crate::lock::Table;
use crate::sources::{backoff, Roster};
use crate::worker::remote::{probe, take_turn, Remote, TurnOutcome};
use crate::worker::{Address, Connection, Report, Unwanted, Worker};

/// How many replicas are looked at in the same moment.
const LOOKS_AT_ONCE: usize = 64;

/// Of so many replicas that are found at once, each has a line in the log when it joins.
const FEW: usize = 16;

/// Before a turn is asked for again where one was not given in time.
const TURN_PAUSE: Duration = Duration::from_millis(50);

/// Before a request is tried where no turns are given: this, give or take a half, so that fronts that came together do not
/// come together again.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// How replicas are used.
pub struct Usage {
    pub slots: u32,
    /// Whether they are reached over a network, and then whether requests that nobody waits for may be broken off.
    pub remote: Option<bool>,
    /// What our own requests have as their `Host`.
    pub authority: String,
    pub ready_path: Option<String>,
    /// Whether all addresses lead to the same process.
    pub exclusive: bool,
}

/// What happens to a replica.
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
}

/// What that means for whoever looks replicas up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    None,
    /// It serves, for the first time.
    Entered,
    /// It cannot be reached: maybe there are others by now.
    Lost,
}

/// The replicas of one server.
pub struct Members {
    usage: Usage,
    table: Arc<Table<Worker>>,
    roster: Arc<Roster>,
    events: mpsc::UnboundedSender<(u64, Event)>,
    replicas: BTreeMap<u64, Replica>,
    by_address: HashMap<SocketAddr, u64>,
    wanted: BTreeSet<SocketAddr>,
    next: u64,
    looks: Arc<Semaphore>,
    /// Why a replica could not join, of the last one.
    refusal: Option<String>,
    /// The log tells that this front gets no turns.
    told: bool,
}

impl Members {
    /// No replicas yet. What happens to them comes out of the other end.
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
            replicas: BTreeMap::new(),
            by_address: HashMap::new(),
            wanted: BTreeSet::new(),
            next: 0,
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

    /// Why the last replica that could not join could not.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Has a replica at each of these addresses and at no other; how many are new, and how many leave.
    pub fn want(&mut self, wanted: BTreeSet<SocketAddr>) -> (usize, usize) {
        let gone: Vec<u64> = self
            .replicas
            .iter()
            .filter(|(_, replica)| !wanted.contains(&replica.address))
            .filter(|(_, replica)| replica.standing != Standing::Leaving)
            .map(|(key, _)| *key)
            .collect();
        let new = wanted.difference(&self.wanted).count();
        self.wanted = wanted;
        for key in &gone {
            self.leave(*key);
        }
        self.join_missing();
        (new, gone.len())
    }

    /// A replica that leaves keeps its address until it is gone: its process must not have two locks.
    fn join_missing(&mut self) {
        if self.usage.exclusive && !self.replicas.is_empty() {
            return;
        }
        let missing: Vec<SocketAddr> = self
            .wanted
            .iter()
            .filter(|address| !self.by_address.contains_key(address))
            .copied()
            .collect();
        let few = missing.len() <= FEW;
        for address in missing {
            let key = self.add(address);
            if let (true, Some(replica)) = (few, self.replicas.get_mut(&key)) {
                replica.announced = true;
            }
            self.look_at(key);
        }
    }

    /// Adds a replica that is there for certain.
    pub fn enter_unseen(&mut self, address: SocketAddr) {
        let key = self.add(address);
        self.wanted.insert(address);
        self.enter(key);
    }

    fn add(&mut self, address: SocketAddr) -> u64 {
        let key = self.next;
        self.next += 1;
        let id = u32::try_from(self.next).unwrap_or(u32::MAX);
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
        let mut worker = Worker::new(id, key, Address::Tcp(address), Box::new(reporter));
        if let Some(cancel) = self.usage.remote {
            worker = worker.with_remote(Remote::new(cancel));
        }
        let replica = Replica::new(id, address, Arc::new(worker), doubt);
        self.roster.put(replica.entry());
        self.replicas.insert(key, replica);
        self.by_address.insert(address, key);
        key
    }

    fn enter(&mut self, key: u64) {
        if let Some(replica) = self.replicas.get_mut(&key) {
            // Before it is given out: whoever asks then is told that it is there.
            let remote = replica.worker.remote.as_ref();
            let slots = remote.and_then(Remote::workers).unwrap_or(self.usage.slots);
            let member = self.table.add(replica.worker.clone(), slots);
            replica.enter(member);
            self.roster.put(replica.entry());
        }
    }

    fn leave(&mut self, key: u64) {
        let Some(replica) = self.replicas.get_mut(&key) else {
            return;
        };
        replica.give_up();
        match replica.member {
            None => self.forget(key),
            Some(member) => {
                replica.standing = Standing::Leaving;
                self.roster.put(replica.entry());
                replica.worker.close_connections();
                let (drained, events) = (self.table.drain(member), self.events.clone());
                tokio::spawn(async move {
                    drained.await;
                    let _ = events.send((key, Event::Drained));
                });
            }
        }
    }

    fn forget(&mut self, key: u64) {
        if let Some(replica) = self.replicas.remove(&key) {
            self.by_address.remove(&replica.address);
            self.roster.forget(replica.id, key);
            replica.worker.close_connections();
        }
    }

    /// Tells all tunnels to close; resolves when they have.
    pub fn close_tunnels(&self) -> impl Future<Output = ()> + Send {
        let replicas = self.replicas.values();
        let workers: Vec<_> = replicas.map(|replica| replica.worker.clone()).collect();
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
        for (key, replica) in std::mem::take(&mut self.replicas) {
            if let Some(member) = replica.member {
                self.table.remove(member);
            }
            self.roster.forget(replica.id, key);
            replica.worker.close_connections();
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
            Event::Drained => {
                self.forget(key);
                self.join_missing();
                Consequence::None
            }
        }
    }

    fn reported(&mut self, key: u64, report: Report) -> Consequence {
        let Some(replica) = self.replicas.get_mut(&key) else {
            return Consequence::None;
        };
        match (report, replica.member) {
            (Report::Slots(slots), Some(member)) => self.table.resize(member, slots),
            (Report::NoFaucet, Some(member)) => self.table.resize(member, self.usage.slots),
            _ => {}
        }
        match (report, replica.standing) {
            (Report::Unreachable, Standing::Serving | Standing::Occupied | Standing::Stuck) => {
                tracing::warn!(worker = replica.id, address = %replica.address, "is unreachable");
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
                replica.standing = Standing::Occupied;
                self.ask_for_turn(key, Duration::ZERO);
                Consequence::None
            }
            (Report::TurnRefused, Standing::Serving | Standing::Occupied) => {
                replica.standing = Standing::Occupied;
                self.ask_again_later(key);
                Consequence::None
            }
            // Its late answer has come, and was none. Only now it is known that faucet runs there.
            (Report::Occupied, Standing::Stuck) if !replica.is_looked_after() => {
                self.ask_for_turn(key, Duration::ZERO);
                Consequence::None
            }
            (Report::Served, standing) => {
                replica.failures = 0;
                if standing == Standing::Stuck && !replica.is_looked_after() {
                    tracing::info!(worker = replica.id, address = %replica.address, "has answered");
                    self.resume(key);
                }
                Consequence::None
            }
            _ => Consequence::None,
        }
    }

    /// It has passed a deadline. Where faucet runs, a turn tells whether it still works; elsewhere only its answer does.
    fn stuck(&mut self, key: u64, why: Unwanted) {
        let Some(replica) = self.replicas.get_mut(&key) else {
            return;
        };
        if why == Unwanted::Deadline {
            tracing::warn!(worker = replica.id, address = %replica.address, "passed its deadline and is set aside");
        }
        replica.standing = Standing::Stuck;
        self.roster.put(replica.entry());
        let member = replica.member;
        if let Some(member) = member {
            self.table.suspend(member);
        }
        if replica.worker.is_faucet() {
            replica.fail();
            self.ask_for_turn(key, Duration::ZERO);
            return;
        }
        replica.watch();
        // It may have answered while the news was on its way: then it has nothing more to answer.
        if member.map(|member| self.table.in_flight(member)) == Some(0) {
            self.resume(key);
        }
    }

    /// Sets it aside and looks at it until it can be reached again.
    fn lose(&mut self, key: u64) {
        if let Some(replica) = self.replicas.get_mut(&key) {
            replica.fail();
            replica.standing = Standing::Lost;
            self.roster.put(replica.entry());
            replica.worker.close_connections();
            if let Some(member) = replica.member {
                self.table.suspend(member);
            }
            self.look_at(key);
        }
    }

    fn probed(&mut self, key: u64, outcome: Result<(), String>) -> Consequence {
        let Some(replica) = self.replicas.get_mut(&key) else {
            return Consequence::None;
        };
        let joining = replica.standing == Standing::Joining;
        match outcome {
            Ok(()) if joining => {
                if replica.announced {
                    tracing::info!(worker = replica.id, address = %replica.address, "joins");
                }
                self.enter(key);
                Consequence::Entered
            }
            Ok(()) if replica.standing == Standing::Lost => {
                tracing::info!(worker = replica.id, address = %replica.address, "is reachable again");
                replica.came_back();
                self.resume(key);
                Consequence::None
            }
            Err(problem) if joining || replica.standing == Standing::Lost => {
                if joining {
                    if replica.announced && replica.failures == 0 {
                        tracing::info!(worker = replica.id, address = %replica.address, "is not ready yet: {problem}");
                    }
                    self.refusal = Some(format!("{}: {problem}", replica.address));
                }
                replica.fail();
                self.look_at(key);
                Consequence::None
            }
            // It has begun to leave meanwhile.
            Ok(()) | Err(_) => Consequence::None,
        }
    }

    fn turned(&mut self, key: u64, outcome: TurnOutcome) -> Consequence {
        let Some(replica) = self.replicas.get_mut(&key) else {
            return Consequence::None;
        };
        if !matches!(replica.standing, Standing::Occupied | Standing::Stuck) {
            return Consequence::None;
        }
        match outcome {
            TurnOutcome::Granted(connection) => {
                self.use_turn(key, *connection);
                Consequence::None
            }
            TurnOutcome::Busy => {
                self.ask_for_turn(key, TURN_PAUSE);
                Consequence::None
            }
            TurnOutcome::Full => {
                self.ask_again_later(key);
                Consequence::None
            }
            TurnOutcome::Refused => {
                self.do_without_turn(key);
                Consequence::None
            }
            TurnOutcome::Denied | TurnOutcome::Unreachable => {
                tracing::warn!(worker = replica.id, address = %replica.address, "takes no requests");
                self.lose(key);
                Consequence::Lost
            }
        }
    }

    /// It gives this front no turns: whoever waits tries again after a while.
    fn do_without_turn(&mut self, key: u64) {
        let Some(replica) = self.replicas.get_mut(&key) else {
            return;
        };
        if !self.told {
            self.told = true;
            tracing::warn!(
                worker = replica.id, address = %replica.address,
                "gives this front no turns, so that other fronts go first: this front's address is not among its `fronts`, or something in between forwards requests"
            );
        }
        let pause = match replica.standing {
            Standing::Stuck => replica.pause().max(REFUSED_PAUSE),
            _ => REFUSED_PAUSE.mul_f64(0.5 + backoff::jitter()),
        };
        self.begin(key, async move {
            tokio::time::sleep(pause).await;
            Event::Rested
        });
    }

    fn rested(&mut self, key: u64) {
        let standing = self.replicas.get(&key).map(|replica| replica.standing);
        if matches!(standing, Some(Standing::Occupied | Standing::Stuck)) {
            self.resume(key);
        }
    }

    /// The turn is the next request's on this connection. If nobody waits any more, it is given back at once.
    fn use_turn(&mut self, key: u64, connection: Connection) {
        if let Some(replica) = self.replicas.get(&key) {
            if self.table.waiting() > 0 {
                replica.worker.keep_connection(connection);
            }
        }
        self.resume(key);
    }

    fn resume(&mut self, key: u64) {
        if let Some(replica) = self.replicas.get_mut(&key) {
            let quietly = replica.standing == Standing::Occupied;
            replica.standing = Standing::Serving;
            replica.give_up();
            if !quietly {
                self.roster.put(replica.entry());
            }
            if let Some(member) = replica.member {
                self.table.resume(member);
            }
        }
    }

    /// After its pause; the outcome is an event.
    fn look_at(&mut self, key: u64) {
        let Some(replica) = self.replicas.get(&key) else {
            return;
        };
        let (pause, worker) = (replica.pause(), replica.worker.clone());
        let (looks, authority) = (self.looks.clone(), self.usage.authority.clone());
        let path = self.usage.ready_path.clone();
        self.begin(key, async move {
            tokio::time::sleep(pause).await;
            // Never closed.
            let _place = looks.acquire_owned().await.ok();
            Event::Probed(probe(&worker, &authority, path.as_deref()).await)
        });
    }

    /// After a pause that grows until it has answered a request.
    fn ask_again_later(&mut self, key: u64) {
        if let Some(replica) = self.replicas.get_mut(&key) {
            replica.fail();
            let pause = replica.pause().max(TURN_PAUSE);
            self.ask_for_turn(key, pause);
        }
    }

    fn ask_for_turn(&mut self, key: u64, pause: Duration) {
        let Some(replica) = self.replicas.get(&key) else {
            return;
        };
        let (worker, authority) = (replica.worker.clone(), self.usage.authority.clone());
        self.begin(key, async move {
            tokio::time::sleep(pause).await;
            Event::Turned(take_turn(&worker, &authority).await)
        });
    }

    fn begin(&mut self, key: u64, work: impl Future<Output = Event> + Send + 'static) {
        let events = self.events.clone();
        let task = tokio::spawn(async move {
            let event = work.await;
            let _ = events.send((key, event));
        });
        if let Some(replica) = self.replicas.get_mut(&key) {
            replica.busy_with(task.abort_handle());
        }
    }
}
