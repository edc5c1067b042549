//! A worker's place in the pool: it stays while processes come and go.

use std::time::{Duration, Instant};

use crate::sources::backoff;

/// Between two starts of a worker that fails again and again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A process that lived this long was not a failure of its code.
const SETTLED: Duration = Duration::from_secs(10);

/// ```text
/// Filled <-> Waiting (a restart is due)
///   |  ^
///   v  | (reload, scale)
/// GivenUp
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A process is starting or serving.
    Filled,
    /// The next start waits for its time.
    Waiting,
    /// Too many failed starts in a row.
    GivenUp,
}

/// One worker's history.
#[derive(Debug)]
pub struct Position {
    pub place: Place,
    /// How often its process was replaced.
    pub restarts: u32,
    failed_starts: u32,
    failed_replacements: u32,
    quick_deaths: u32,
}

impl Default for Position {
    fn default() -> Self {
        Self {
            place: Place::Filled,
            restarts: 0,
            failed_starts: 0,
            failed_replacements: 0,
            quick_deaths: 0,
        }
    }
}

impl Position {
    /// A process is ready.
    pub fn started(&mut self) {
        self.failed_starts = 0;
        self.failed_replacements = 0;
        self.place = Place::Filled;
    }

    /// Forgets all failures: the code may be new.
    pub fn pardon(&mut self) {
        self.failed_starts = 0;
        self.failed_replacements = 0;
        self.quick_deaths = 0;
        self.place = Place::Filled;
    }

    /// A start failed: how long to wait before the next, or `None` to give up.
    pub fn start_failed(&mut self, max_failures: u32) -> Option<Duration> {
        self.failed_starts += 1;
        if self.failed_starts >= max_failures {
            self.place = Place::GivenUp;
            return None;
        }
        self.place = Place::Waiting;
        Some(backoff::pause(
            self.failed_starts + 1,
            LONGEST_PAUSE,
            backoff::jitter(),
        ))
    }

    /// The process that was to replace a serving one failed: how long to wait before the next.
    pub fn replacement_failed(&mut self) -> Duration {
        self.failed_replacements += 1;
        backoff::pause(
            self.failed_replacements + 1,
            LONGEST_PAUSE,
            backoff::jitter(),
        )
    }

    /// A serving process died: how long to wait before the next.
    pub fn died(&mut self, ready_since: Instant) -> Duration {
        self.restarts += 1;
        self.quick_deaths = if ready_since.elapsed() < SETTLED {
            self.quick_deaths + 1
        } else {
            0
        };
        self.place = Place::Waiting;
        backoff::pause(self.quick_deaths, LONGEST_PAUSE, backoff::jitter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_starts_end_in_giving_up_and_a_reload_begins_anew() {
        let mut position = Position::default();
        let pauses: Vec<_> = (0..3).map(|_| position.start_failed(3)).collect();
        assert!(pauses[0].is_some() && pauses[1] > pauses[0] && pauses[2].is_none());
        assert_eq!(position.place, Place::GivenUp);
        position.pardon();
        assert!(position.start_failed(3).is_some());
    }

    #[test]
    fn a_killed_worker_comes_back_at_once_a_dying_one_ever_later() {
        let mut position = Position::default();
        assert_eq!(position.died(Instant::now()), Duration::ZERO);
        assert!(position.died(Instant::now()) > Duration::ZERO);
        assert_eq!(position.restarts, 2);
    }
}
