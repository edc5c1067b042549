//! Renders `tracing` events as single log lines.

use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_core::span::Current;

use super::escape;
use super::log::{Kind, Log};
use super::shown;

/// A subscriber for one server's thread. A full-featured one would bring filters and a registry; a server's events are
/// plain lines, and its spans are pools: what happens within one begins with its name.
pub(super) struct EventLine {
    log: Arc<Log>,
    /// The spans' names, by their numbers; a number is used again when its span is closed.
    spans: Mutex<Vec<Span>>,
    /// Those that are entered now, innermost last: a server has one thread.
    entered: Mutex<Vec<u64>>,
}

#[derive(Default)]
struct Span {
    pool: String,
    handles: usize,
    metadata: Option<&'static Metadata<'static>>,
}

impl EventLine {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self {
            log,
            spans: Mutex::default(),
            entered: Mutex::default(),
        }
    }

    fn spans(&self) -> MutexGuard<'_, Vec<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entered(&self) -> MutexGuard<'_, Vec<u64>> {
        self.entered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool that a line is about.
    fn pool(&self) -> Option<String> {
        let innermost = self.entered().last().copied()?;
        Some(self.spans()[innermost as usize - 1].pool.clone())
    }
}

/// The span of a pool; none where its name is not shown.
pub fn pool_span(name: &str) -> tracing::Span {
    match shown(name) {
        None => tracing::Span::none(),
        Some(name) => tracing::info_span!("pool", pool = name),
    }
}

/// Takes the name that a span's fields hold.
#[derive(Default)]
struct PoolName(String);

impl Visit for PoolName {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "pool" {
            self.0 = format!("{value:?}");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "pool" {
            value.clone_into(&mut self.0);
        }
    }
}

/// More is not shown.
const MOST: Level = Level::INFO;

impl Subscriber for EventLine {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= MOST && metadata.target().starts_with("faucet")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::from_level(MOST))
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let text = [text.subject, text.message, text.fields].concat();
        // Others than we may have written some of it.
        let line = escape::line(&text).into_owned();
        let level = *event.metadata().level();
        match self.pool() {
            None => self.log.push(Kind::Event, level, line),
            Some(pool) => self.log.push_event_of(&escape::line(&pool), level, &line),
        }
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut name = PoolName::default();
        attributes.record(&mut name);
        let span = Span {
            pool: name.0,
            handles: 1,
            metadata: Some(attributes.metadata()),
        };
        let mut spans = self.spans();
        let place = match spans.iter().position(|span| span.handles == 0) {
            Some(free) => {
                spans[free] = span;
                free
            }
            None => {
                spans.push(span);
                spans.len() - 1
            }
        };
        Id::from_u64(place as u64 + 1)
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.spans()[id.into_u64() as usize - 1].handles += 1;
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut spans = self.spans();
        let span = &mut spans[id.into_u64() as usize - 1];
        span.handles -= 1;
        span.handles == 0
    }

    fn enter(&self, id: &Id) {
        self.entered().push(id.into_u64());
    }

    fn exit(&self, id: &Id) {
        let mut entered = self.entered();
        if let Some(place) = entered
            .iter()
            .rposition(|entered| *entered == id.into_u64())
        {
            entered.remove(place);
        }
    }

    /// Without it, nothing could be said to happen within the span of whoever spawns it.
    fn current_span(&self) -> Current {
        let Some(innermost) = self.entered().last().copied() else {
            return Current::none();
        };
        match self.spans()[innermost as usize - 1].metadata {
            Some(metadata) => Current::new(Id::from_u64(innermost), metadata),
            None => Current::none(),
        }
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
}

#[derive(Default)]
struct Text {
    /// Whom it is about: the message says what of it.
    subject: String,
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "worker" => write!(self.subject, "worker {value:?} "),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
