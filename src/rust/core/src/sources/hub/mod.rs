//! Workers that dial in: each connection is one slot of a worker, and an offer while nothing is sent on it.
//!
//! A worker says who it is and which route it serves, and the roles turn round: from then on the hub asks, and the worker
//! answers (see `inst/protocol/slot.md`). A route's pool is made at the first offer, and forgotten when nobody has offered
//! to it for long.

mod door;
mod handshake;
mod names;
mod pool;
mod settings;

pub use door::{let_in_pothead, let_in_workers, Host};
pub use handshake::{Hello, NAME, PATH, PROTOCOL, ROUTE};
pub use pool::HubPool;
pub use settings::HubSettings;

pub use crate::token::Token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::pool::Route;
use crate::worker::Dialled;

/// Pools that there may be at a time: their names are the workers' to choose.
const MOST_POOLS: usize = 1000;

/// What a hub asks of its server.
pub enum HubRequest {
    /// A pool, for workers that come.
    Open(Route, HubPool),
    /// To forget the pool with this name.
    Forget(Arc<str>),
}

/// Where workers' slots find their pool.
pub struct Hub {
    /// How long a pool is kept that no worker offers to.
    forget_after: Option<Duration>,
    /// Whether workers are made to give up requests that nobody waits for.
    cancel: bool,
    pools: Mutex<HashMap<Arc<str>, mpsc::UnboundedSender<Arc<Dialled>>>>,
    requests: mpsc::UnboundedSender<HubRequest>,
}

/// There are as many pools as there may be.
#[derive(Debug)]
pub struct TooManyPools;

impl Hub {
    /// The hub, and what it will ask.
    pub fn new(settings: &HubSettings) -> (Arc<Self>, mpsc::UnboundedReceiver<HubRequest>) {
        let (requests, asked) = mpsc::unbounded_channel();
        let hub = Self {
            forget_after: settings.forget_after,
            cancel: settings.cancel,
            pools: Mutex::default(),
            requests,
        };
        (Arc::new(hub), asked)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, mpsc::UnboundedSender<Arc<Dialled>>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a slot to the pool of its route.
    ///
    /// # Errors
    /// It would be one pool too many.
    fn offer(self: &Arc<Self>, route: Route, slot: Arc<Dialled>) -> Result<(), TooManyPools> {
        let mut pools = self.lock();
        let slot = match pools.get(route.name()) {
            None => slot,
            Some(pool) => match pool.send(slot) {
                Ok(()) => return Ok(()),
                // Its server has ended it.
                Err(unsent) => unsent.0,
            },
        };
        if pools.len() >= MOST_POOLS && !pools.contains_key(route.name()) {
            return Err(TooManyPools);
        }
        let (sender, offers) = mpsc::unbounded_channel();
        // Its other end is here.
        let _ = sender.send(slot);
        pools.insert(route.name().clone(), sender);
        drop(pools);
        let pool = HubPool::new(self.clone(), offers);
        // Fails only when the server is gone, and with it the door.
        let _ = self.requests.send(HubRequest::Open(route, pool));
        Ok(())
    }

    /// Forgets a pool: the next offer makes another.
    fn forget(&self, name: &Arc<str>) {
        self.lock().remove(name);
        let _ = self.requests.send(HubRequest::Forget(name.clone()));
    }
}
