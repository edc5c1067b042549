//! Which agents do not reach which others.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::worker::Address;

/// How long that is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Pairs of agents, the one that takes first, and until when nothing is to go from the other one to it.
#[derive(Default)]
pub struct Unreached(Mutex<HashMap<(Address, Address), Instant>>);

impl Unreached {
    /// One of two could not take from the other. Whether that is news.
    pub fn note(&self, taker: &Address, holder: &Address) -> bool {
        let mut pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        pairs.retain(|_, until| *until > now);
        let pair = (taker.clone(), holder.clone());
        pairs.insert(pair, now + REMEMBERED).is_none()
    }

    /// Whether one of two is not known to be out of the other's reach.
    pub fn may_reach(&self, taker: &Address, holder: &Address) -> bool {
        let pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pairs.is_empty() {
            return true;
        }
        let until = pairs.get(&(taker.clone(), holder.clone()));
        until.map_or(true, |until| *until <= Instant::now())
    }
}

/// For how many seconds what could not go from agent to agent goes another way.
pub fn seconds() -> u64 {
    REMEMBERED.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pair_is_remembered_for_a_while_and_told_of_once() {
        let of = |port: u16| Address::Tcp(([10, 0, 0, 1], port).into());
        let unreached = Unreached::default();
        assert!(unreached.may_reach(&of(1), &of(2)));
        assert!(unreached.note(&of(1), &of(2)));
        assert!(!unreached.note(&of(1), &of(2)));
        assert!(!unreached.may_reach(&of(1), &of(2)));
        assert!(unreached.may_reach(&of(2), &of(1)));
        tokio::time::advance(REMEMBERED).await;
        assert!(unreached.may_reach(&of(1), &of(2)));
        assert!(unreached.note(&of(1), &of(2)));
    }
}
