//! A worker's place in the pool: it stays while processes come and go.

use std::time::{Duration, Instant, SystemTime};

use super::budget::Seat;
use crate::sources::backoff;

/// Between two starts of a worker that fails again and again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Between two replacements of a process that has too much memory from the start.
const LONGEST_WEIGHT: Duration = Duration::from_secs(600);

/// A process that lived this long was not a failure of its code.
const SETTLED: Duration = Duration::from_secs(10);

/// When the next start is due, on the clock that never jumps and on the one that people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    pub at: Instant,
    pub time: SystemTime,
}

impl Due {
    fn after(pause: Duration) -> Self {
        Self {
            at: Instant::now() + pause,
            time: SystemTime::now() + pause,
        }
    }
}

/// ```text
/// Filled <-> Waiting (a start is due)
///   |  ^
///   v  | (another worker came up, or none did and the server ends)
/// Undecided
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A process is starting or serving.
    Filled,
    /// The next start waits for its time.
    Waiting(Due),
    /// The very first start failed, and others may still come up.
    Undecided,
}

/// One worker's history. It is tried again for as long as it is wanted, ever more rarely.
#[derive(Debug)]
pub struct Position {
    pub place: Place,
    /// Its part of all workers that there may be; none for a template.
    seat: Option<Seat>,
    /// How often its process was replaced.
    pub restarts: u32,
    failed_starts: u32,
    failed_replacements: u32,
    quick_deaths: u32,
    heavy_starts: u32,
    quick_growths: u32,
}

impl Default for Position {
    fn default() -> Self {
        Self {
            place: Place::Filled,
            seat: None,
            restarts: 0,
            failed_starts: 0,
            failed_replacements: 0,
            quick_deaths: 0,
            heavy_starts: 0,
            quick_growths: 0,
        }
    }
}

impl Position {
    /// A new worker's.
    pub fn new(seat: Seat) -> Self {
        Self {
            seat: Some(seat),
            ..Self::default()
        }
    }

    /// A process is ready.
    pub fn started(&mut self) {
        if let Some(seat) = &mut self.seat {
            seat.started();
        }
        self.failed_starts = 0;
        self.failed_replacements = 0;
        self.place = Place::Filled;
    }

    /// Forgets all failures: the code may be new.
    pub fn reset_failures(&mut self) {
        self.failed_starts = 0;
        self.failed_replacements = 0;
        self.quick_deaths = 0;
        self.heavy_starts = 0;
        self.quick_growths = 0;
        self.place = Place::Filled;
    }

    /// A process is about to serve: if it has too much memory already, how long before that is reason to replace it.
    pub fn weighed(&mut self, heavy: bool) -> Option<Duration> {
        if !heavy {
            self.heavy_starts = 0;
            return None;
        }
        self.heavy_starts = self.heavy_starts.saturating_add(1);
        // From a second on: that is how often one looks.
        let failures = self.heavy_starts.saturating_add(3);
        Some(backoff::pause(failures, LONGEST_WEIGHT, backoff::jitter()))
    }

    /// A process is replaced that has grown too large in this time: how many in a row did so at once.
    pub fn grown(&mut self, lived: Duration) -> u32 {
        self.quick_growths = if lived < SETTLED {
            self.quick_growths.saturating_add(1)
        } else {
            0
        };
        self.quick_growths
    }

    /// Whether so many starts in a row have failed that nobody should count on the next one.
    pub fn is_failing(&self, max_failures: u32) -> bool {
        self.failed_starts >= max_failures || self.place == Place::Undecided
    }

    /// When the next start is due, if one is.
    pub fn due(&self) -> Option<Due> {
        match self.place {
            Place::Waiting(due) => Some(due),
            Place::Filled | Place::Undecided => None,
        }
    }

    /// Lets the next start be due now.
    pub fn hurry(&mut self) -> Due {
        let due = Due::after(Duration::ZERO);
        self.place = Place::Waiting(due);
        due
    }

    fn wait(&mut self, failures: u32) -> Due {
        let due = Due::after(backoff::pause(failures, LONGEST_PAUSE, backoff::jitter()));
        self.place = Place::Waiting(due);
        due
    }

    /// A start failed: when the next is due.
    pub fn start_failed(&mut self) -> Due {
        self.failed_starts = self.failed_starts.saturating_add(1);
        self.wait(self.failed_starts.saturating_add(1))
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

    /// A serving process died: when the next start is due.
    pub fn died(&mut self, ready_since: Instant) -> Due {
        self.restarts += 1;
        self.quick_deaths = if ready_since.elapsed() < SETTLED {
            self.quick_deaths + 1
        } else {
            0
        };
        self.wait(self.quick_deaths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(due: Due) -> Duration {
        due.at.saturating_duration_since(Instant::now())
    }

    #[test]
    fn failed_starts_are_tried_again_for_ever_and_a_reload_begins_anew() {
        let mut position = Position::default();
        let pauses: Vec<_> = (0..3).map(|_| pause(position.start_failed())).collect();
        assert!(pauses[0] < pauses[1] && pauses[1] < pauses[2], "{pauses:?}");
        assert!(position.is_failing(3) && !position.is_failing(4));
        for _ in 0..100 {
            assert!(pause(position.start_failed()) <= LONGEST_PAUSE);
        }
        let most = pause(position.start_failed());
        assert!(most > LONGEST_PAUSE.mul_f64(0.7), "{most:?}");
        position.reset_failures();
        assert!(!position.is_failing(1));
        assert!(pause(position.start_failed()) < pauses[2]);
    }

    #[test]
    fn a_killed_worker_comes_back_at_once_a_dying_one_ever_later() {
        let mut position = Position::default();
        assert_eq!(pause(position.died(Instant::now())), Duration::ZERO);
        assert!(pause(position.died(Instant::now())) > Duration::ZERO);
        assert_eq!(position.restarts, 2);
    }
}
