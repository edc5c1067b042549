//! A pool: the workers of one app, with a name, a lock table, a roster, a source, and limits of their own; and the
//! routing table that finds a request's pool.

mod prefix;
mod registry;
mod routes;

pub use prefix::{InvalidRoute, Route};
pub use registry::{Membership, Pools};
pub use routes::{Matched, Routes};

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderValue;
use tokio::sync::Notify;

use crate::lock::Table;
use crate::ops::status::PoolStatus;
use crate::ops::Ops;
use crate::sessions::{SessionLimits, Sessions};
use crate::sources::replicas::Destination;
use crate::sources::Roster;
use crate::worker::Worker;

/// What a pool allows its requests. Sizes are bytes; `None` is no limit.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolLimits {
    /// Requests that may wait for a worker.
    pub queue: usize,
    /// How long a request may wait for a worker.
    pub queue_timeout: Option<Duration>,
    /// How long a worker may take for a request.
    pub timeout: Option<Duration>,
    pub max_body: u64,
    /// Whether its workers read requests' bodies as they come: then they are handed on so where that is asked for.
    pub streams: bool,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            queue: 1024,
            queue_timeout: Some(Duration::from_secs(30)),
            timeout: None,
            max_body: 256 * 1024 * 1024,
            streams: false,
        }
    }
}

/// The workers of one app, as the front sees them.
pub struct Pool {
    route: Route,
    pub table: Arc<Table<Worker>>,
    pub roster: Arc<Roster>,
    pub limits: PoolLimits,
    pub ops: Arc<Ops>,
    /// If its clients stay with one worker each.
    pub sessions: Option<Arc<Sessions>>,
    /// The part of its requests' paths that its workers do not see; none for the root.
    prefix: Option<HeaderValue>,
    /// Whether its workers see the whole path.
    keeps_path: bool,
    /// If its workers are a service that knows nothing of us.
    destination: Option<Destination>,
    /// If its workers have services of gRPC: those that are found by their own names, `package.Service`.
    services: Option<Vec<String>>,
    /// Requests that have found it and whose answers have not begun: waiting ones, and those that still arrive.
    requests: AtomicUsize,
    leaving: AtomicBool,
    left: Notify,
}

impl Pool {
    pub fn new(route: Route, limits: PoolLimits, ops: Arc<Ops>) -> Arc<Self> {
        let table = Table::new(limits.queue);
        Arc::new(Self::over(route, limits, ops, table, None))
    }

    /// One whose workers see the whole path of its requests: they have the same route themselves. `services` are those of gRPC
    /// that they have, if they are such.
    pub fn keeping_path(
        route: Route,
        limits: PoolLimits,
        ops: Arc<Ops>,
        services: Option<Vec<String>>,
    ) -> Arc<Self> {
        let table = Table::new(limits.queue);
        Arc::new(Self {
            prefix: None,
            keeps_path: true,
            services,
            ..Self::over(route, limits, ops, table, None)
        })
    }

    /// One whose requests go to such a service, if there is one.
    pub fn toward(
        route: Route,
        limits: PoolLimits,
        ops: Arc<Ops>,
        destination: Option<Destination>,
    ) -> Arc<Self> {
        let table = Table::new(limits.queue);
        let pool = Self::over(route, limits, ops, table, None);
        let services = destination.as_ref().and_then(|to| to.grpc.clone());
        Arc::new(Self {
            destination,
            services,
            ..pool
        })
    }

    /// One whose clients stay with one worker each.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn sticky(
        route: Route,
        limits: PoolLimits,
        ops: Arc<Ops>,
        sessions: SessionLimits,
    ) -> io::Result<Arc<Self>> {
        let table = Table::spreading(limits.queue);
        let sessions = Sessions::new(sessions, table.clone())?;
        let pool = Self::over(route, limits, ops, table, Some(sessions));
        Ok(Arc::new(pool))
    }

    fn over(
        route: Route,
        limits: PoolLimits,
        ops: Arc<Ops>,
        table: Arc<Table<Worker>>,
        sessions: Option<Arc<Sessions>>,
    ) -> Self {
        let roster = match &sessions {
            None => Roster::new(table.clone()),
            Some(_) => Roster::sticky(table.clone()),
        };
        Self {
            prefix: route.prefix_header(),
            keeps_path: false,
            destination: None,
            services: None,
            route,
            roster: Arc::new(roster),
            sessions,
            table,
            limits,
            ops,
            requests: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            left: Notify::new(),
        }
    }

    /// Its name: its route, as it was given.
    pub fn name(&self) -> &Arc<str> {
        self.route.name()
    }

    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The prefix that is taken off its requests' paths, for `X-Forwarded-Prefix`.
    pub fn prefix(&self) -> Option<&HeaderValue> {
        self.prefix.as_ref()
    }

    /// Whether its workers see the whole path of its requests.
    pub fn keeps_path(&self) -> bool {
        self.keeps_path
    }

    /// What its requests must say, if their workers know nothing of us.
    pub fn destination(&self) -> Option<&Destination> {
        self.destination.as_ref()
    }

    /// Whether its workers are services of gRPC.
    pub fn is_grpc(&self) -> bool {
        self.services.is_some()
    }

    /// The services of gRPC that are found by their own names, `package.Service`.
    pub fn services(&self) -> &[String] {
        self.services.as_deref().unwrap_or_default()
    }

    /// How it is, now, but its workers' memory.
    pub fn status(&self) -> PoolStatus {
        PoolStatus {
            pool: self.name().clone(),
            ..self.roster.status()
        }
    }

    /// The same with it. Asks the system about each process.
    pub fn status_with_memory(&self) -> PoolStatus {
        PoolStatus {
            pool: self.name().clone(),
            ..self.roster.status_with_memory()
        }
    }

    /// Requests that have found it and whose answers have not begun.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Resolves when no request is left, after the routes to it were taken away. Leases may be: answers that have begun.
    pub async fn deserted(&self) {
        self.leaving.store(true, Ordering::Relaxed);
        loop {
            let told = self.left.notified();
            tokio::pin!(told);
            // Before the look, so that nothing is missed between look and wait.
            told.as_mut().enable();
            if self.requests() == 0 {
                return;
            }
            told.await;
        }
    }
}

/// A request's hold on its pool: a pool that is removed waits for it.
pub struct Visit(Arc<Pool>);

impl Visit {
    pub fn new(pool: Arc<Pool>) -> Self {
        pool.requests.fetch_add(1, Ordering::Relaxed);
        Self(pool)
    }
}

impl std::ops::Deref for Visit {
    type Target = Arc<Pool>;

    fn deref(&self) -> &Arc<Pool> {
        &self.0
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let last = self.0.requests.fetch_sub(1, Ordering::Relaxed) == 1;
        if last && self.0.leaving.load(Ordering::Relaxed) {
            self.0.left.notify_waiters();
        }
    }
}
