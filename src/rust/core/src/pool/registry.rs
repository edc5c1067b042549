//! All pools of a server, and the routes to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::watch;

use super::{Matched, Pool, Routes, Visit};
use crate::sessions::Sessions;

/// How a pool stands towards new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// There are workers to come, and no route to it yet.
    Joining,
    /// Requests find it.
    Routed,
    /// Its last requests are finished, and its workers end.
    Leaving,
}

/// All pools, in the order in which they came.
#[derive(Default)]
pub struct Pools {
    all: Mutex<Vec<(Arc<Pool>, Membership)>>,
    routes: RwLock<Arc<Routes<Pool>>>,
    /// By the names of services of gRPC.
    services: RwLock<HashMap<String, Arc<Pool>>>,
    /// The route of each that leaves and has sessions, which find it until then. Several may have the same.
    leaving: RwLock<Vec<Routes<Pool>>>,
    has_leaving: AtomicBool,
    has_sticky: AtomicBool,
    /// Rings when pools come and go, or how one of them is has changed.
    changes: watch::Sender<()>,
}

impl Pools {
    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<Pool>, Membership)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a pool. Whoever has its route makes room for it, as soon as that is said of this one.
    pub fn add(&self, pool: Arc<Pool>, membership: Membership) {
        let mut all = self.lock();
        self.has_sticky
            .fetch_or(pool.sessions.is_some(), Ordering::Relaxed);
        pool.roster.ring(self.changes.clone());
        all.push((pool, membership));
        self.route(&all);
    }

    /// Changes how a pool stands.
    pub fn set(&self, pool: &Arc<Pool>, membership: Membership) {
        let mut all = self.lock();
        for (known, stands) in &mut *all {
            if Arc::ptr_eq(known, pool) {
                *stands = membership;
            }
        }
        self.route(&all);
    }

    /// Forgets a pool whose workers are gone.
    pub fn remove(&self, pool: &Arc<Pool>) {
        let mut all = self.lock();
        all.retain(|(known, _)| !Arc::ptr_eq(known, pool));
        self.route(&all);
    }

    fn route(&self, all: &[(Arc<Pool>, Membership)]) {
        let routed = all
            .iter()
            .filter(|(_, membership)| *membership == Membership::Routed);
        let routes = Routes::new(routed.map(|(pool, _)| (pool.route(), pool.clone())));
        *self.routes.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
        let routed = all
            .iter()
            .filter(|(_, membership)| *membership == Membership::Routed);
        let mut services: HashMap<String, Arc<Pool>> = HashMap::new();
        for (pool, _) in routed {
            for name in pool.services() {
                // The later one of the same function, and otherwise whoever came first.
                match services.get(name) {
                    Some(other) if other.name() != pool.name() => {}
                    _ => drop(services.insert(name.clone(), pool.clone())),
                }
            }
        }
        *self
            .services
            .write()
            .unwrap_or_else(PoisonError::into_inner) = services;
        let leaving = |(pool, membership): &&(Arc<Pool>, Membership)| {
            *membership == Membership::Leaving && pool.sessions.is_some()
        };
        let leaving = all.iter().filter(leaving);
        let leaving: Vec<_> = leaving
            .map(|(pool, _)| Routes::new(std::iter::once((pool.route(), pool.clone()))))
            .collect();
        self.has_leaving
            .store(!leaving.is_empty(), Ordering::Relaxed);
        *self.leaving.write().unwrap_or_else(PoisonError::into_inner) = leaving;
        self.changed();
    }

    /// Rings when pools come and go, or when something has changed that tells how they are.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// How the server is has changed.
    pub fn changed(&self) {
        self.changes.send_replace(());
    }

    /// Whether some pool's clients stay with one worker each, or did.
    pub fn has_sticky(&self) -> bool {
        self.has_sticky.load(Ordering::Relaxed)
    }

    /// The pool of a request. `authority` is the host that it names.
    pub fn find(&self, authority: Option<&[u8]>, path: &str) -> Option<(Visit, usize)> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let Matched { pool, prefix } = routes.find(authority, path)?;
        // Before the routes can change: a pool that leaves waits for its visits.
        Some((Visit::new(pool), prefix))
    }

    /// The pool of the service of gRPC that a path like `/package.Service/Method` names. Of two functions' pools, the one that came first.
    pub fn find_service(&self, path: &str) -> Option<Visit> {
        let (name, _) = path.strip_prefix('/')?.split_once('/')?;
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        // As in `find()`.
        services.get(name).cloned().map(Visit::new)
    }

    /// The pool of a request whose session is with a pool that leaves; `is_its` says whether one's session it is.
    pub fn find_leaving(
        &self,
        authority: Option<&[u8]>,
        path: &str,
        is_its: impl Fn(&Sessions) -> bool,
    ) -> Option<(Visit, usize)> {
        if !self.has_leaving.load(Ordering::Relaxed) {
            return None;
        }
        let routes = self.leaving.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = routes
            .iter()
            .filter_map(|route| route.find(authority, path));
        found
            .find(|found| found.pool.sessions.as_deref().is_some_and(&is_its))
            .map(|Matched { pool, prefix }| (Visit::new(pool), prefix))
    }

    pub fn all(&self) -> Vec<Arc<Pool>> {
        self.lock().iter().map(|(pool, _)| pool.clone()).collect()
    }

    /// Those that requests find.
    pub fn routed(&self) -> Vec<Arc<Pool>> {
        let all = self.lock();
        let routed = all
            .iter()
            .filter(|(_, stands)| *stands == Membership::Routed);
        routed.map(|(pool, _)| pool.clone()).collect()
    }

    /// The pool with this name that requests find, or else the latest with this name.
    pub fn named(&self, name: &str) -> Option<Arc<Pool>> {
        let all = self.lock();
        let mut named = all.iter().rev().filter(|(pool, _)| &**pool.name() == name);
        let routed = named
            .clone()
            .find(|(_, membership)| *membership == Membership::Routed);
        routed
            .or_else(|| named.next())
            .map(|(pool, _)| pool.clone())
    }
}
