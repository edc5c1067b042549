//! One request as a span, from its head to its end.

use std::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::header::HeaderValue;
use hyper::{HeaderMap, Method};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, Notify};

use super::messages::{self, attribute};
use super::TraceContext;

/// What all functions' pools are called before their names.
const FUNCTIONS: &str = "/functions/";

/// As much of a chain is told, in bytes.
const LONGEST_CHAIN: usize = 1024;

/// What makes spans, and has them told.
pub struct Traces {
    queue: mpsc::Sender<Finished>,
    dropped: Counter<u64, AtomicU64>,
    closing: Arc<Notify>,
}

impl Traces {
    pub(super) fn new(
        queue: mpsc::Sender<Finished>,
        dropped: Counter<u64, AtomicU64>,
        closing: Arc<Notify>,
    ) -> Self {
        Self {
            queue,
            dropped,
            closing,
        }
    }

    /// A span for a request; none if it is in a trace that is not recorded.
    pub fn begin(
        self: &Arc<Self>,
        headers: &HeaderMap,
        method: &Method,
        kind: Kind,
    ) -> Option<Box<Span>> {
        let parent = TraceContext::of(headers);
        if parent.is_some_and(|parent| !parent.is_sampled()) {
            return None;
        }
        Some(Box::new(Span {
            traces: self.clone(),
            context: parent.map_or_else(|| TraceContext::new(true), TraceContext::child),
            parent: parent.map(|parent| parent.span),
            kind,
            method: method_name(method),
            chain: None,
            cause: None,
        }))
    }

    /// Nothing more will come: what there is is told now.
    pub fn close(&self) {
        self.closing.notify_one();
    }
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A client's.
    Server,
    /// The server's own, for a client's.
    Internal,
}

/// A request that goes on.
pub struct Span {
    traces: Arc<Traces>,
    context: TraceContext,
    parent: Option<u64>,
    kind: Kind,
    method: &'static str,
    /// The functions of a chain.
    chain: Option<String>,
    /// What the function has said of its failure.
    cause: Option<String>,
}

/// How a request has ended.
pub struct Ended<'a> {
    pub id: &'a HeaderValue,
    /// Empty if it is no pool's: a chain's call.
    pub pool: &'a Arc<str>,
    pub status: u16,
    /// Empty if a worker has answered.
    pub cause: &'static str,
    pub queue: Duration,
    pub total: Duration,
    pub worker: Option<u32>,
    /// If it was a call by gRPC.
    pub grpc_status: Option<u16>,
}

impl Span {
    /// Has a request on behalf of this one say so.
    pub fn tell(&self, headers: &mut HeaderMap) {
        self.context.tell(headers, self.parent.is_some());
    }

    /// It is the call of a chain of these functions.
    pub fn of_chain<'a>(&mut self, functions: impl Iterator<Item = &'a str>) {
        let mut chain = String::new();
        for function in functions {
            if !chain.is_empty() {
                chain.push_str(" | ");
            }
            if chain.len() + function.len() > LONGEST_CHAIN {
                chain.push_str("...");
                break;
            }
            chain.push_str(function);
        }
        self.chain = Some(chain);
    }

    /// What an answer says in `Faucet-Error`.
    pub fn note_cause(&mut self, cause: Option<&HeaderValue>) {
        let cause = cause.and_then(|cause| cause.to_str().ok());
        self.cause = cause.filter(|cause| cause.len() <= 64).map(str::to_owned);
    }

    /// Puts it into the queue, if there is room.
    pub fn end(self, ended: &Ended<'_>) {
        let finished = Finished {
            context: self.context,
            parent: self.parent,
            kind: self.kind,
            method: self.method,
            chain: self.chain,
            // A header's value holds its whole head in memory.
            id: ended.id.to_str().unwrap_or_default().to_owned(),
            pool: ended.pool.clone(),
            status: ended.status,
            cause: match ended.cause {
                "" => self.cause,
                cause => Some(cause.to_owned()),
            },
            queue: ended.queue,
            started: SystemTime::now() - ended.total,
            total: ended.total,
            worker: ended.worker,
            grpc_status: ended.grpc_status,
        };
        if self.traces.queue.try_send(finished).is_err() {
            self.traces.dropped.inc();
        }
    }
}

/// A request that is over.
pub struct Finished {
    context: TraceContext,
    parent: Option<u64>,
    kind: Kind,
    method: &'static str,
    chain: Option<String>,
    id: String,
    pool: Arc<str>,
    status: u16,
    cause: Option<String>,
    queue: Duration,
    started: SystemTime,
    total: Duration,
    worker: Option<u32>,
    grpc_status: Option<u16>,
}

impl Finished {
    fn name(&self) -> String {
        match (self.pool.strip_prefix(FUNCTIONS), &self.chain) {
            (Some(function), _) => function.to_owned(),
            (None, Some(_)) => "invoke".to_owned(),
            (None, None) if self.pool.is_empty() => self.method.to_owned(),
            (None, None) => format!("{} {}", self.method, self.pool),
        }
    }

    fn attributes(&self) -> Vec<messages::KeyValue> {
        let mut attributes = vec![
            attribute("faucet.call_id", &*self.id),
            attribute("http.request.method", self.method),
            attribute("http.response.status_code", i64::from(self.status)),
            attribute("faucet.queue_seconds", self.queue.as_secs_f64()),
        ];
        if let Some(function) = self.pool.strip_prefix(FUNCTIONS) {
            attributes.push(attribute("faucet.function", function));
        } else if !self.pool.is_empty() {
            attributes.push(attribute("faucet.pool", &*self.pool));
        }
        if let Some(chain) = &self.chain {
            attributes.push(attribute("faucet.chain", &**chain));
        }
        if let Some(cause) = &self.cause {
            attributes.push(attribute("faucet.cause", &**cause));
        }
        if let Some(worker) = self.worker {
            attributes.push(attribute("faucet.worker", i64::from(worker)));
        }
        if let Some(status) = self.grpc_status {
            attributes.push(attribute("rpc.grpc.status_code", i64::from(status)));
        }
        attributes
    }

    /// A client's own fault is none of the server's.
    fn failure(&self) -> Option<messages::Status> {
        let broken_off = self.cause.is_some() && self.status < 400;
        // Those that are errors of servers (OpenTelemetry's conventions for gRPC).
        let failed = |status| [2, 4, 12, 13, 14, 15].contains(&status);
        let failed = self.grpc_status.is_some_and(failed);
        (self.status >= 500 || broken_off || failed).then(|| messages::Status {
            message: self.cause.clone().unwrap_or_default(),
            code: messages::STATUS_ERROR,
        })
    }

    pub(super) fn message(&self) -> messages::Span {
        let start = nanoseconds(self.started);
        let total = u64::try_from(self.total.as_nanos()).unwrap_or(u64::MAX);
        let parent = self.parent.map(|parent| parent.to_be_bytes().to_vec());
        messages::Span {
            trace_id: self.context.trace.to_be_bytes().to_vec(),
            span_id: self.context.span.to_be_bytes().to_vec(),
            parent_span_id: parent.unwrap_or_default(),
            name: self.name(),
            kind: match self.kind {
                Kind::Internal => 1,
                Kind::Server => 2,
            },
            start_time_unix_nano: start,
            end_time_unix_nano: start.saturating_add(total),
            attributes: self.attributes(),
            status: self.failure(),
        }
    }
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// Methods are the client's to make up, names of spans are few.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}
