//! One address of a hub: the connections there, and when to dial the next one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::front::{ConnectionState, Phase, Shutdown};
use crate::sources::backoff;

/// Between two attempts at a hub that cannot be reached.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A connection that has lasted so long was one: the next is dialled at once.
const LASTING: Duration = Duration::from_secs(1);

/// Dialled in the same moment.
const AT_ONCE: usize = 16;

struct Open {
    connection: Arc<ConnectionState>,
    since: Instant,
}

/// What this machine has at one address of a hub.
#[derive(Default)]
pub struct Link {
    open: HashMap<u64, Open>,
    dialling: usize,
    failures: u32,
    next_try: Option<Instant>,
    /// Connections that did not last, and since when they are counted.
    short: Option<(Instant, usize)>,
    /// Whether it is known that slots are offered there.
    told: bool,
    /// What went wrong last, until something goes well.
    pub trouble: Option<String>,
}

impl Link {
    /// Connections on which nothing is asked, and none of which is on its way out.
    fn idle(&self) -> impl Iterator<Item = &Open> {
        self.open.values().filter(|open| {
            let connection = &open.connection;
            matches!(connection.phase(), Phase::Idle | Phase::Head) && !connection.is_ending()
        })
    }

    /// Offers that stand.
    pub fn offers(&self) -> usize {
        self.idle().count()
    }

    /// The same with those that are being made.
    pub fn promised(&self) -> usize {
        self.offers() + self.dialling
    }

    /// Connections, whatever they are about.
    pub fn connections(&self) -> usize {
        self.open.len()
    }

    pub fn is_over(&self) -> bool {
        self.open.is_empty() && self.dialling == 0
    }

    /// How many to dial now for `wanted` offers; they are on their way from then on.
    pub fn dial(&mut self, wanted: usize) -> usize {
        if self.next_try.is_some_and(|time| time > Instant::now()) {
            return 0;
        }
        // One is enough to learn whether anybody is there.
        let most = if self.failures > 0 { 1 } else { AT_ONCE };
        let missing = wanted.saturating_sub(self.promised());
        let count = missing.min(most.saturating_sub(self.dialling));
        self.dialling += count;
        count
    }

    /// When the next attempt is due, if one has to wait.
    pub fn next_try(&self) -> Option<Instant> {
        self.next_try.filter(|time| *time > Instant::now())
    }

    /// A slot is offered. Whether that is news.
    pub fn opened(&mut self, number: u64, connection: Arc<ConnectionState>) -> bool {
        self.dialling -= 1;
        // With few workers there may be none for a moment, as often as a client leaves.
        let news = !std::mem::replace(&mut self.told, true) || self.trouble.is_some();
        let since = Instant::now();
        self.open.insert(number, Open { connection, since });
        self.trouble = None;
        news
    }

    /// None could be offered. Whether that is news.
    pub fn failed(&mut self, trouble: String) -> bool {
        self.dialling -= 1;
        self.fail();
        let news = self.trouble.as_ref() != Some(&trouble);
        self.trouble = Some(trouble);
        news
    }

    fn fail(&mut self) {
        // The first attempt after that waits, too: many machines may have lost the same hub.
        self.failures = self.failures.max(1) + 1;
        let pause = backoff::pause(self.failures, LONGEST_PAUSE, backoff::jitter());
        self.next_try = Some(Instant::now() + pause);
    }

    /// A connection has ended.
    pub fn ended(&mut self, number: u64) {
        let Some(open) = self.open.remove(&number) else {
            return;
        };
        // One that this side has taken back is no failure.
        let lasted = open.since.elapsed() >= LASTING || open.connection.is_ending();
        if lasted {
            self.failures = 0;
            self.next_try = None;
        } else if !open.connection.has_asked() {
            self.fail();
        } else {
            self.ended_early();
        }
    }

    /// A client has left, as a rule, and the slot is offered again at once. A hub that does so to each would be dialled without
    /// an end.
    fn ended_early(&mut self) {
        let now = Instant::now();
        let (since, count) = self.short.get_or_insert((now, 0));
        if since.elapsed() >= LASTING {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        if *count >= AT_ONCE {
            self.next_try = Some(*since + LASTING);
        }
    }

    /// Takes all but `most` idle offers back.
    pub fn withdraw(&self, most: usize) {
        let surplus = self.offers().saturating_sub(most);
        let mut idle: Vec<&Open> = self.idle().collect();
        idle.sort_unstable_by_key(|open| open.since);
        for open in idle.iter().rev().take(surplus) {
            open.connection.shut_down(Shutdown::Graceful);
        }
    }
}
