//! Log lines on their way to whoever prints them. Bounded: serving never waits for a log.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::Level;

use super::history::History;
use super::line::EventLine;
use super::printable;

/// The level of what must be looked at.
pub const ERROR: Level = Level::ERROR;

/// Lines kept until they are fetched; more are dropped and counted.
const CAPACITY: usize = 20_000;

/// What all lines together may have, in bytes.
const BYTES: usize = 16 * 1024 * 1024;

/// Room beyond that for events: what happened to the server is not lost behind what workers print.
const EVENTS: usize = 1_000;

/// Between two reports of dropped lines.
const REPORTS: Duration = Duration::from_secs(10);

/// Between two helpings of what workers print, if they print more than that.
const PACE: Duration = Duration::from_millis(1);

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
    bytes: usize,
    dropped: u64,
    /// When dropped lines were told.
    reported: Option<Instant>,
    /// Someone waits, and something happened that they should see at once.
    news: bool,
}

#[derive(Default)]
struct Lines {
    state: Mutex<State>,
    bell: Condvar,
    dropped_ever: AtomicU64,
    turn: tokio::sync::Mutex<()>,
    /// Of pools whose last lines are kept, by their names.
    histories: Mutex<HashMap<Arc<str>, Arc<History>>>,
}

/// The lines of a server that are not yet fetched; or a pool's way to add to them.
#[derive(Default)]
pub struct Log {
    lines: Arc<Lines>,
    /// Where what is added here is kept, too.
    history: Option<(Arc<str>, Arc<History>)>,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.lines
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn histories(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<History>>> {
        let histories = &self.lines.histories;
        histories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a pool's last lines from now on: of what is added by its own log, and of what happens to it.
    pub fn keep_history(&self, pool: &Arc<str>) -> Arc<History> {
        self.histories().entry(pool.clone()).or_default().clone()
    }

    /// Keeps them no more.
    pub fn drop_history(&self, pool: &str) {
        if let Some(history) = self.histories().remove(pool) {
            history.close();
        }
    }

    /// The same log for what belongs to a pool.
    pub fn of_pool(&self, pool: &Arc<str>) -> Self {
        let history = self.histories().get(pool).cloned();
        Self {
            lines: self.lines.clone(),
            history: history.map(|history| (pool.clone(), history)),
        }
    }

    /// Whether this is the log of a pool whose last lines are kept.
    pub fn keeps_history_of_its_pool(&self) -> bool {
        self.history.is_some()
    }

    /// Keeps a line of a pool, without the pool's name: all lines there are its own.
    fn keep(pool: &str, history: &History, text: &str) {
        let own = text
            .strip_prefix('[')
            .and_then(|text| text.strip_prefix(pool))
            .and_then(|text| text.strip_prefix(' '));
        match own {
            Some(own) => history.push(&format!("[{own}")),
            None => history.push(text),
        }
    }

    /// Adds what happened to a pool: `pool` is its name, `text` begins without it.
    pub(super) fn push_event_of(&self, pool: &str, level: Level, text: &str) {
        let history = self.histories().get(pool).cloned();
        let text = printable::one_line(text.to_owned());
        if let Some(history) = history {
            history.push(&text);
        }
        self.push(Kind::Event, level, format!("{pool}: {text}"));
    }

    /// Adds a line. Only events wake the reader: it comes by every 100 ms anyway, and waking it for
    /// each request would cost more than the request.
    ///
    /// Text of others becomes fit to be shown here, but for access lines: their format has its own way to escape.
    pub fn push(&self, kind: Kind, level: Level, text: String) {
        let text = match kind {
            Kind::Access => text,
            Kind::Worker | Kind::Event => printable::one_line(text),
        };
        if let (Some((pool, history)), Kind::Worker) = (&self.history, kind) {
            Self::keep(pool, history, &text);
        }
        let (lines, bytes) = match kind {
            Kind::Event => (CAPACITY + EVENTS, 2 * BYTES),
            Kind::Access | Kind::Worker => (CAPACITY, BYTES),
        };
        let mut state = self.lock();
        if state.lines.len() >= lines || state.bytes + text.len() > bytes {
            state.dropped += 1;
            self.lines.dropped_ever.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes += text.len();
        state.lines.push_back(Line { kind, level, text });
        if kind == Kind::Event {
            state.news = true;
            drop(state);
            self.lines.bell.notify_all();
        }
    }

    /// Counts lines that were lost elsewhere, and others of which somebody else tells.
    pub fn note_lost(&self, lines: u64, told: u64) {
        self.lock().dropped += lines;
        self.lines
            .dropped_ever
            .fetch_add(lines + told, Ordering::Relaxed);
    }

    /// Waits before the next helping of output is taken, for all workers of a server together: whoever prints faster
    /// waits for us, as the clients must not.
    pub async fn pace(&self) {
        let _turn = self.lines.turn.lock().await;
        tokio::time::sleep(PACE).await;
    }

    /// Wakes the reader: something other than a line changed.
    pub fn ring(&self) {
        self.lock().news = true;
        self.lines.bell.notify_all();
    }

    /// Takes all lines, and how many were dropped since that was last told: at most every 10 s, as it is a line itself.
    pub fn take(&self) -> (Vec<Line>, u64) {
        let mut state = self.lock();
        let due = state.dropped > 0 && state.reported.map_or(true, |at| at.elapsed() >= REPORTS);
        let dropped = if due {
            state.reported = Some(Instant::now());
            std::mem::take(&mut state.dropped)
        } else {
            0
        };
        state.bytes = 0;
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
                .lines
                .bell
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Lines dropped since the start.
    pub fn dropped_ever(&self) -> u64 {
        self.lines.dropped_ever.load(Ordering::Relaxed)
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
    fn long_lines_fill_it_by_their_bytes_and_events_still_fit() {
        let log = Log::default();
        let long = "x".repeat(BYTES / 4);
        for _ in 0..5 {
            log.push(Kind::Worker, Level::INFO, long.clone());
        }
        log.push(Kind::Event, Level::ERROR, "is given up".into());
        let (lines, dropped) = log.take();
        assert_eq!((lines.len(), dropped), (5, 1));
        log.push(Kind::Worker, Level::INFO, long);
        assert_eq!(log.take().0.len(), 1);
    }

    #[test]
    fn what_nobody_is_shown_is_not_looked_at() {
        let subscriber = Arc::new(Log::default()).subscriber();
        let most = tracing::level_filters::LevelFilter::INFO;
        assert_eq!(tracing::Subscriber::max_level_hint(&subscriber), Some(most));
    }

    #[test]
    fn what_others_wrote_is_fit_to_be_shown() {
        let log = Log::default();
        log.push(Kind::Event, Level::INFO, "a\0b\n\u{1b}[2Jc".into());
        assert_eq!(log.take().0[0].text, "a\\x00b\\nc");
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_print_share_one_pace() {
        let log = Arc::new(Log::default());
        let began = tokio::time::Instant::now();
        let all: Vec<_> = (0..20)
            .map(|_| {
                let log = log.clone();
                tokio::spawn(async move { log.pace().await })
            })
            .collect();
        for one in all {
            one.await.expect("no panic");
        }
        assert!(began.elapsed() >= 20 * PACE);
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
