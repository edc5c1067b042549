//! Log lines on their way to whoever prints them. Bounded: serving never waits for a log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::Level;

use super::line::EventLine;

/// The level of what must be looked at.
pub const ERROR: Level = Level::ERROR;

/// Lines kept until they are fetched; more are dropped and counted.
const CAPACITY: usize = 20_000;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One request.
    Access,
    /// Something a worker printed.
    Worker,
    /// Something that happened to the server.
    Event,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Worker => "worker",
            Self::Event => "event",
        }
    }
}

/// One line, without its line end.
#[derive(Clone, Debug)]
pub struct Line {
    pub kind: Kind,
    pub level: Level,
    pub text: String,
}

impl Line {
    /// "error", "warn" or "info".
    pub fn level_name(&self) -> &'static str {
        match self.level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => "info",
        }
    }
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    dropped: u64,
    /// Someone waits, and something happened that they should see at once.
    news: bool,
}

/// The lines not yet fetched.
#[derive(Default)]
pub struct Log {
    state: Mutex<State>,
    bell: Condvar,
    dropped_ever: AtomicU64,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line. Only events wake the reader: it comes by every 100 ms anyway, and waking it for
    /// each request would cost more than the request.
    pub fn push(&self, kind: Kind, level: Level, text: String) {
        let mut state = self.lock();
        if state.lines.len() >= CAPACITY {
            state.dropped += 1;
            self.dropped_ever.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.lines.push_back(Line { kind, level, text });
        if kind == Kind::Event {
            state.news = true;
            drop(state);
            self.bell.notify_all();
        }
    }

    /// Counts a line that was lost elsewhere, where that is told, too.
    pub fn note_lost(&self) {
        self.dropped_ever.fetch_add(1, Ordering::Relaxed);
    }

    /// Wakes the reader: something other than a line changed.
    pub fn ring(&self) {
        self.lock().news = true;
        self.bell.notify_all();
    }

    /// Takes all lines, and how many were dropped since the last call.
    pub fn take(&self) -> (Vec<Line>, u64) {
        let mut state = self.lock();
        let dropped = std::mem::take(&mut state.dropped);
        (state.lines.drain(..).collect(), dropped)
    }

    /// Waits for news, at most `patience`.
    pub fn wait(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.lock();
        while !std::mem::take(&mut state.news) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self
                .bell
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Lines dropped since the start.
    pub fn dropped_ever(&self) -> u64 {
        self.dropped_ever.load(Ordering::Relaxed)
    }

    /// A `tracing` subscriber that turns events into lines of this log.
    pub fn subscriber(self: &Arc<Self>) -> impl tracing::Subscriber + Send + Sync {
        EventLine::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_nobody_reads_drops_and_counts() {
        let log = Log::default();
        for number in 0..CAPACITY + 3 {
            log.push(Kind::Access, Level::INFO, number.to_string());
        }
        let (lines, dropped) = log.take();
        assert_eq!((lines.len(), dropped), (CAPACITY, 3));
        assert_eq!(log.take().1, 0);
        assert_eq!(log.dropped_ever(), 3);
    }

    #[test]
    fn events_become_lines() {
        let log = Arc::new(Log::default());
        tracing::subscriber::with_default(log.subscriber(), || {
            tracing::warn!(worker = 2, after = 3, "restarts");
            tracing::debug!("not shown");
        });
        let (lines, _) = log.take();
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].text, "worker 2 restarts after=3");
        assert_eq!(lines[0].level, Level::WARN);
    }
}
