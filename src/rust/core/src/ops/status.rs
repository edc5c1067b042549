//! The server's state as plain data: one source for `$status()`, `/status`, `/metrics` and readiness.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{json, Value};

use super::routes::AppRoutes;
use crate::sources::local::WorkerRange;

/// A worker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Started, not yet accepting connections.
    Starting,
    /// Free.
    Ready,
    /// At least one request in flight.
    Busy,
    /// Finishes what is in flight, takes nothing new.
    Draining,
    /// Told to end.
    Stopping,
    /// Ended; a restart is due.
    Dead,
    /// Cannot be reached; looked at again and again.
    Suspended,
    /// Too many starts in a row have failed: tried again now and then.
    Failed,
}

/// All states, in the order of a worker's life.
pub const STATES: [State; 8] = [
    State::Starting,
    State::Ready,
    State::Busy,
    State::Draining,
    State::Stopping,
    State::Dead,
    State::Suspended,
    State::Failed,
];

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Dead => "dead",
            Self::Suspended => "suspended",
            Self::Failed => "failed",
        }
    }
}

/// Who serves HTTP in a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// faucet itself, on a Unix socket.
    Native,
    /// What the app starts, on a TCP port; for R, usually httpuv.
    Http,
    /// A faucet of its own, with workers of its own.
    Faucet,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Http => "http",
            Self::Faucet => "faucet",
        }
    }
}

/// One worker.
#[derive(Clone, Debug)]
pub struct WorkerStatus {
    pub worker: u32,
    pub pid: Option<u32>,
    /// What it calls itself, if it has dialled in.
    pub name: Option<Arc<str>>,
    /// Where it listens, while it does.
    pub address: Option<String>,
    pub state: State,
    /// Known once it has begun to accept connections, or answered a request.
    pub kind: Option<Kind>,
    /// How many requests it is given at a time, or how many sessions.
    pub slots: u32,
    pub in_flight: u32,
    /// Sessions that it has; `None` if its pool keeps none.
    pub sessions: Option<u32>,
    /// Requests answered by this process.
    pub requests: u64,
    /// How often this worker's process was replaced.
    pub restarts: u32,
    /// Resident memory, in bytes.
    pub memory: Option<u64>,
    pub started: Option<SystemTime>,
    /// From its start, or its fork, until it accepted connections.
    pub boot: Option<Duration>,
    /// When its next start is due, if it waits for one.
    pub next_try: Option<SystemTime>,
    pub tunnels: usize,
}

/// The process that workers are forked from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateStatus {
    pub pid: Option<u32>,
    pub state: State,
    /// When its next start is due, if it waits for one.
    pub next_try: Option<SystemTime>,
}

/// How the last lookup of a name ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupState {
    /// There was none yet.
    Pending,
    Ok,
    /// The name has no addresses: those known last are kept.
    Empty,
    /// There was no answer: the addresses known last are kept.
    Failed,
}

impl LookupState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Ok => "ok",
            Self::Empty => "empty",
            Self::Failed => "failed",
        }
    }
}

/// How the name that the workers are found by resolves.
#[derive(Clone, Debug)]
pub struct LookupStatus {
    /// The name, as a URL.
    pub url: String,
    pub state: LookupState,
    /// What went wrong, if something did.
    pub message: String,
    /// Since when `state` has been so.
    pub since: SystemTime,
    /// Addresses in use: those of the last lookup that found any.
    pub addresses: usize,
}

impl LookupStatus {
    /// For `/status` and readiness.
    pub fn to_json(&self) -> Value {
        json!({
            "url": self.url,
            "state": self.state.name(),
            "message": self.message,
            "since": rfc3339(self.since),
            "addresses": self.addresses,
        })
    }
}

/// One pool.
#[derive(Clone, Debug, Default)]
pub struct PoolStatus {
    /// Its name.
    pub pool: Arc<str>,
    pub workers: Vec<WorkerStatus>,
    /// None if workers are not forked.
    pub template: Option<TemplateStatus>,
    /// None if the workers are not found by a name.
    pub lookup: Option<LookupStatus>,
    /// How many workers there may be, if that follows what there is to do.
    pub size: Option<WorkerRange>,
    /// There are none because none are needed: the next request starts one.
    pub sleeping: bool,
    /// Requests waiting for a worker.
    pub queue: usize,
    /// Its workers' slots are for sessions.
    pub sticky: bool,
    /// It takes no new requests.
    pub draining: bool,
    /// The path of its page of documentation, if its first worker told of one.
    pub docs: Option<String>,
    /// The routes of its app, if its last worker told of them.
    pub routes: Option<AppRoutes>,
    /// How long no worker has taken requests; none while one does.
    pub unserved: Option<Duration>,
    /// That has lasted so long that a supervisor should act.
    pub given_up: bool,
}

impl PoolStatus {
    /// Workers that take requests.
    pub fn serving(&self) -> usize {
        self.count(|state| matches!(state, State::Ready | State::Busy))
    }

    /// Workers whose starts have failed again and again.
    pub fn failed(&self) -> usize {
        self.count(|state| state == State::Failed)
    }

    /// When the next of them is tried again.
    pub fn next_try(&self) -> Option<SystemTime> {
        let failed = self
            .workers
            .iter()
            .filter(|worker| worker.state == State::Failed);
        failed.filter_map(|worker| worker.next_try).min()
    }

    /// Whether the pool, which may be draining, is worth keeping.
    pub fn is_live(&self) -> bool {
        self.draining || !self.given_up
    }

    fn count(&self, which: impl Fn(State) -> bool) -> usize {
        self.workers
            .iter()
            .filter(|worker| which(worker.state))
            .count()
    }

    /// Whether a request sent now would be served.
    pub fn is_ready(&self) -> bool {
        !self.draining && (self.sleeping || self.serving() > 0)
    }

    fn workers_json(&self) -> impl Iterator<Item = Value> + '_ {
        self.workers.iter().map(|worker| {
            json!({
                "pool": &*self.pool,
                "worker": worker.worker,
                "pid": worker.pid,
                "name": worker.name.as_deref(),
                "address": worker.address,
                "state": worker.state.name(),
                "worker_type": worker.kind.map(Kind::name),
                "slots": worker.slots,
                "in_flight": worker.in_flight,
                "sessions": worker.sessions,
                "requests": worker.requests,
                "restarts": worker.restarts,
                "memory": worker.memory,
                "started": worker.started.map(rfc3339),
                "boot": worker.boot.map(|boot| boot.as_secs_f64()),
                "next_try": worker.next_try.map(rfc3339),
                "tunnels": worker.tunnels,
            })
        })
    }

    /// All but its workers.
    fn to_json(&self) -> Value {
        json!({
            "pool": &*self.pool,
            "ready": self.is_ready(),
            "draining": self.draining,
            "workers_min": self.size.map(|size| size.min),
            "workers_max": self.size.map(|size| size.max),
            "sleeping": self.sleeping,
            "unserved": self.unserved.map(|unserved| unserved.as_secs_f64()),
            "queue": self.queue,
            "compiled": self.routes.as_ref().map(AppRoutes::compiled),
            "routes": self.routes.as_ref().map(AppRoutes::to_json),
            "lookup": self.lookup.as_ref().map(LookupStatus::to_json),
            "template": self.template.map(|template| json!({
                "pid": template.pid,
                "state": template.state.name(),
                "next_try": template.next_try.map(rfc3339),
            })),
        })
    }
}

/// The whole server.
#[derive(Clone, Debug, Default)]
pub struct ServerStatus {
    pub pools: Vec<PoolStatus>,
    /// Of some pool it is not known yet whether it starts.
    pub starting: bool,
    /// The server takes no new requests.
    pub draining: bool,
    /// Functions can be deployed at it.
    pub manages: bool,
}

impl ServerStatus {
    /// All workers, pool by pool.
    pub fn workers(&self) -> impl Iterator<Item = &WorkerStatus> {
        self.pools.iter().flat_map(|pool| &pool.workers)
    }

    /// Requests waiting for a worker.
    pub fn queue(&self) -> usize {
        self.pools.iter().map(|pool| pool.queue).sum()
    }

    /// Whether requests should come here: one pool that does not serve is no reason to take all others away, and where functions
    /// can be deployed there need be none.
    pub fn is_ready(&self) -> bool {
        let serves = || self.manages || self.pools.iter().any(PoolStatus::is_ready);
        !self.draining && !self.starting && serves()
    }

    /// Whether the server is worth keeping: while one of its pools is.
    pub fn is_live(&self) -> bool {
        self.draining || self.pools.is_empty() || self.pools.iter().any(PoolStatus::is_live)
    }

    /// The pool that has been without a worker for longest.
    pub fn unserved(&self) -> Option<Duration> {
        self.pools.iter().filter_map(|pool| pool.unserved).max()
    }

    /// For `/status`.
    pub fn to_json(&self) -> Value {
        let workers: Vec<Value> = self
            .pools
            .iter()
            .flat_map(PoolStatus::workers_json)
            .collect();
        let pools: Vec<Value> = self.pools.iter().map(PoolStatus::to_json).collect();
        json!({
            "ready": self.is_ready(),
            "draining": self.draining,
            "queue": self.queue(),
            "pools": pools,
            "workers": workers,
        })
    }
}

pub(super) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// Seconds since 1970.
pub fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
