//! Turns at workers that are faucets themselves, and have others to serve first.

use std::time::Duration;

use super::member::Standing;
use super::{Consequence, Event, Members};
use crate::sources::backoff;
use crate::worker::remote::{give_turn_back, take_turn, TurnOutcome};
use crate::worker::Connection;

/// Before a turn is asked for again where one was not given in time.
const TURN_PAUSE: Duration = Duration::from_millis(50);

/// Before a request is tried where no turns are given: this, give or take a half, so that fronts that came together do not
/// come together again.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

impl Members {
    /// It has others to serve first. Of a machine's slots, as many ask for a turn as requests wait here: more would be in the
    /// way of others there, and look like so many requests. The rest is left alone until one of these turns is over.
    pub(super) fn occupied(&mut self, key: u64) {
        let slot = self
            .members
            .get(&key)
            .and_then(|member| member.worker.dialled.as_ref());
        let asks = match slot {
            None => true,
            Some(slot) => self.awaited.asks(slot, key, self.table.waiting()),
        };
        if asks {
            self.ask_for_turn(key, Duration::ZERO);
        }
    }

    /// Those that were left alone meanwhile are tried again.
    pub(super) fn turn_is_over(&mut self, key: u64) {
        let slot = self
            .members
            .get(&key)
            .and_then(|member| member.worker.dialled.clone());
        for left_alone in slot
            .map(|slot| self.awaited.over(&slot, key))
            .unwrap_or_default()
        {
            self.rested(left_alone);
        }
    }

    pub(super) fn turned(&mut self, key: u64, outcome: TurnOutcome) -> Consequence {
        let Some(member) = self.members.get_mut(&key) else {
            return Consequence::None;
        };
        if !matches!(member.standing, Standing::Occupied | Standing::Stuck) {
            self.turn_is_over(key);
            return Consequence::None;
        }
        let is_over = !matches!(outcome, TurnOutcome::Busy | TurnOutcome::Full);
        let consequence = match outcome {
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
                // A slot that is taken back is no news.
                if member.worker.dialled.is_none() {
                    tracing::warn!(worker = member.id, address = %member.address, "takes no requests");
                }
                self.lose(key);
                Consequence::Lost
            }
        };
        // Whoever waits has the turn by now.
        if is_over {
            self.turn_is_over(key);
        }
        consequence
    }

    /// It gives this front no turns: whoever waits tries again after a while.
    fn do_without_turn(&mut self, key: u64) {
        let Some(member) = self.members.get_mut(&key) else {
            return;
        };
        if !self.told {
            self.told = true;
            tracing::warn!(
                worker = member.id, address = %member.address,
                "gives this front no turns, so that other fronts go first: this front's address is not among its `fronts`, or something in between forwards requests"
            );
        }
        let pause = match member.standing {
            Standing::Stuck => member.pause().max(REFUSED_PAUSE),
            _ => REFUSED_PAUSE.mul_f64(0.5 + backoff::jitter()),
        };
        self.begin(key, async move {
            tokio::time::sleep(pause).await;
            Event::Rested
        });
    }

    pub(super) fn rested(&mut self, key: u64) {
        let standing = self.members.get(&key).map(|member| member.standing);
        if matches!(standing, Some(Standing::Occupied | Standing::Stuck)) {
            self.resume(key);
        }
    }

    /// The turn is the next request's on this connection. If nobody waits any more, it is given back at once.
    fn use_turn(&mut self, key: u64, connection: Connection) {
        if let Some(member) = self.members.get(&key) {
            if self.table.waiting() > 0 {
                member.worker.keep_connection(connection);
            } else if member.worker.dialled.is_some() {
                // The connection is the slot.
                let (worker, authority) = (member.worker.clone(), self.usage.authority.clone());
                self.begin(key, async move {
                    give_turn_back(&worker, connection, &authority).await;
                    Event::Rested
                });
                return;
            }
        }
        self.resume(key);
    }

    /// After a pause that grows until it has answered a request.
    pub(super) fn ask_again_later(&mut self, key: u64) {
        if let Some(member) = self.members.get_mut(&key) {
            member.fail();
            let pause = member.pause().max(TURN_PAUSE);
            self.ask_for_turn(key, pause);
        }
    }

    pub(super) fn ask_for_turn(&mut self, key: u64, pause: Duration) {
        let Some(member) = self.members.get(&key) else {
            return;
        };
        let (worker, authority) = (member.worker.clone(), self.usage.authority.clone());
        self.begin(key, async move {
            tokio::time::sleep(pause).await;
            Event::Turned(take_turn(&worker, &authority).await)
        });
    }
}
