//! Other faucets' fronts: whose word is taken, and how many turns each may have.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hyper::header::HeaderValue;

use super::networks::Networks;
use super::service::Peer;
use super::Front;
use crate::client_address::ClientAddress;
use crate::ids::write_hex;
use crate::lock::Lease;
use crate::pool::Pool;
use crate::worker::Worker;

/// Turns that one address may have or wait for. A front asks for one at a time; several may share an address.
const MOST_TURNS: usize = 64;

/// Which peers are fronts, and the turns of each.
#[derive(Default)]
pub struct Fronts {
    networks: Networks,
    turns: Mutex<HashMap<ClientAddress, usize>>,
    /// Whose turns have names.
    named: Mutex<HashMap<HeaderValue, Weak<Peer>>>,
    /// The log tells of a stranger that asked as fronts do.
    told: AtomicBool,
}

impl Fronts {
    pub fn new(networks: Networks) -> Self {
        Self {
            networks,
            ..Self::default()
        }
    }

    /// Whether this peer may ask for turns, and not to be kept waiting.
    pub fn include(&self, address: ClientAddress) -> bool {
        self.networks.contains(address)
    }

    fn named(&self) -> MutexGuard<'_, HashMap<HeaderValue, Weak<Peer>>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turn of this name, if it is one for a worker of `pool` and was not used.
    pub fn take_turn(&self, name: &HeaderValue, pool: &Arc<Pool>) -> Option<Lease<Worker>> {
        let peer = self.named().get(name).and_then(Weak::upgrade)?;
        match peer.turn.is_for(pool) {
            true => peer.turn.take(),
            false => None,
        }
    }

    /// Somebody asked as fronts do, and is not heard.
    pub fn note_stranger(&self, address: ClientAddress) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "{address} asks as a front of faucet does, and is served as any other client: it is not among `fronts`, or something in between forwards its requests"
            );
        }
    }
}

/// A turn that is waited for or held, of an address.
pub struct Place {
    front: Arc<Front>,
    address: ClientAddress,
}

impl Place {
    /// None if the address has as many as it may.
    pub fn take(front: &Arc<Front>, address: ClientAddress) -> Option<Self> {
        let turns = &front.fronts.turns;
        let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
        let count = turns.entry(address).or_default();
        (*count < MOST_TURNS).then(|| {
            *count += 1;
            Self {
                front: front.clone(),
                address,
            }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let turns = &self.front.fronts.turns;
        let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = turns.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                turns.remove(&self.address);
            }
        }
    }
}

/// The name of a turn, for as long as it is one.
pub struct Named {
    front: Arc<Front>,
    name: HeaderValue,
}

impl Named {
    /// One that nobody can guess, of a turn of this connection. `None`: there are no random numbers.
    pub fn of(peer: &Arc<Peer>) -> Option<Self> {
        let (mut bytes, mut text) = ([0; 16], [0; 32]);
        getrandom::fill(&mut bytes)
            .map_err(|error| tracing::error!("there are no random numbers: {error}"))
            .ok()?;
        write_hex(&bytes, &mut text);
        let name = HeaderValue::from_bytes(&text).ok()?;
        let front = peer.front.clone();
        front
            .fronts
            .named()
            .insert(name.clone(), Arc::downgrade(peer));
        Some(Self { front, name })
    }

    pub fn name(&self) -> &HeaderValue {
        &self.name
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.front.fronts.named().remove(&self.name);
    }
}
