//! Other faucets' fronts: whose word is taken, and how many turns each may have.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::networks::Networks;
use super::Front;
use crate::client_address::ClientAddress;

/// Turns that one address may have or wait for. A front asks for one at a time; several may share an address.
const MOST_TURNS: usize = 64;

/// Which peers are fronts, and the turns of each.
#[derive(Default)]
pub struct Fronts {
    networks: Networks,
    turns: Mutex<HashMap<ClientAddress, usize>>,
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
