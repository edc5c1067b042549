//! Renders `tracing` events as single log lines.

use std::fmt::Write;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::escape;
use super::log::{Kind, Log};

/// A subscriber for one server's thread. A full-featured one would bring spans, filters and a
/// registry; a server's events are plain lines.
pub(super) struct EventLine {
    log: Arc<Log>,
}

impl EventLine {
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self { log }
    }
}

impl Subscriber for EventLine {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("faucet")
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let text = [text.subject, text.message, text.fields].concat();
        // Others than we may have written some of it.
        let line = escape::line(&text).into_owned();
        self.log.push(Kind::Event, *event.metadata().level(), line);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
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
