//! Traces: what of a request's `traceparent` (W3C Trace Context) is passed on, and spans, which are told a collector by OTLP if
//! there is one.
//!
//! A request becomes a [`Span`] when its head is there and ends as its record does. It is put into a queue, from which one task
//! takes it: neither waits for the other.

mod context;
mod exporter;
mod messages;
mod settings;
mod span;
#[cfg(test)]
mod tests;

pub use context::{begin_unsampled, drop_unsound, TraceContext, TRACEPARENT};
pub use exporter::Exporter;
pub use settings::TraceSettings;
pub use span::{Ended, Kind, Span, Traces};
