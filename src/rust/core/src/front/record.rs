//! What is known of one request; logged and counted when it ends, however it ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::header::HeaderValue;
use hyper::{HeaderMap, Method, StatusCode, Uri};

use super::cause::Cause;
use super::connection_state::ConnectionState;
use super::grpc::CallStatus;
use crate::body::Abort;
use crate::client_address::ClientAddress;
use crate::ops::access::Entry;
use crate::ops::{self, Ops};
use crate::traces::{Ended, Span};

/// nginx's code for a client that left before it was answered; never sent.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// What a request's future, its response and whoever drops them have to tell each other.
#[derive(Default)]
pub struct Call {
    committed: AtomicBool,
    client_gone: AtomicBool,
    /// Since when a piece of the response is there that its client has not taken, on the coarse clock; 0 if none is.
    offered: AtomicU64,
}

impl Call {
    /// Whether the request holds a lease and must be carried to its end.
    pub fn is_committed(&self) -> bool {
        self.committed.load(Ordering::Relaxed)
    }

    pub fn commit(&self, to_the_end: bool) {
        self.committed.store(to_the_end, Ordering::Relaxed);
    }

    /// Nobody waits for the answer any more.
    pub fn client_left(&self) {
        self.client_gone.store(true, Ordering::Relaxed);
    }

    pub fn has_client_left(&self) -> bool {
        self.client_gone.load(Ordering::Relaxed)
    }

    /// Since when its client could take something of the response and has not; 0 if there is nothing to take.
    pub fn offered(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }

    fn set_offered(&self, since: u64) {
        self.offered.store(since, Ordering::Relaxed);
    }
}

/// One request, from head to the last byte. Writes itself down on drop.
pub struct Record {
    ops: Arc<Ops>,
    connection: Arc<ConnectionState>,
    call: Arc<Call>,
    started: Instant,
    pub id: HeaderValue,
    pub client: ClientAddress,
    /// Method and target, if there is an access log.
    pub line: Option<(Method, Uri)>,
    pub queue: Duration,
    pub in_worker: Option<Duration>,
    pub worker: Option<u32>,
    /// Whether it counts as a request: what fronts ask each other does not.
    pub counts: bool,
    /// Which way its input comes, of a stage of a chain at an agent.
    pub input: Option<&'static str>,
    /// Why its body could not be had from where it is.
    pub no_source: Option<HeaderValue>,
    /// If it is told a collector.
    pub span: Option<Box<Span>>,
    /// If it is a call by gRPC.
    pub grpc: Option<CallStatus>,
    status: u16,
    cause: Option<Cause>,
    bytes: u64,
}

impl Record {
    pub fn new(
        ops: Arc<Ops>,
        connection: Arc<ConnectionState>,
        call: Arc<Call>,
        client: ClientAddress,
        id: HeaderValue,
    ) -> Self {
        Self {
            ops,
            connection,
            call,
            started: Instant::now(),
            id,
            client,
            line: None,
            queue: Duration::ZERO,
            in_worker: None,
            worker: None,
            counts: true,
            input: None,
            no_source: None,
            span: None,
            grpc: None,
            // Stands until an answer is known: only a client that left sees none.
            status: CLIENT_CLOSED_REQUEST,
            cause: None,
            bytes: 0,
        }
    }

    /// When the head was complete.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The answer is known.
    pub fn answered(&mut self, status: StatusCode, cause: Option<Cause>) {
        self.status = status.as_u16();
        self.cause = cause;
    }

    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// A piece of the response is there to take since `since`; 0: all that was there has been taken. Returns since when
    /// one was before.
    pub fn offer(&self, since: u64) -> u64 {
        let before = self.call.offered();
        self.call.set_offered(since);
        before
    }

    /// The response broke off after its head.
    pub fn aborted(&mut self, why: Abort) {
        self.cause = Some(why.into());
        if let Some(status) = &mut self.grpc {
            status.broken_off();
        }
    }

    /// All of the response was taken.
    pub fn ended(&mut self) {
        if let Some(status) = &mut self.grpc {
            status.ended();
        }
    }

    /// Trailers, or the head of an answer that may have no others.
    pub fn note_trailers(&mut self, trailers: &HeaderMap) {
        if let Some(status) = &mut self.grpc {
            status.note(trailers);
        }
    }
}

impl Record {
    /// Tells the function's own log, where an endless loop says nothing itself.
    fn say_timeout(&self, total: Duration) {
        let _entered = ops::pool_span(&self.ops.pool).entered();
        let (id, seconds) = (self.id.to_str().unwrap_or_default(), total.as_secs_f64());
        let function = self.ops.pool.trim_start_matches("/functions/");
        tracing::warn!(
            "call {id} of {function} has passed its deadline and is ended after {seconds:.3} s"
        );
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.connection.request_ended();
        if !self.counts {
            return;
        }
        if self.call.has_client_left() {
            self.status = CLIENT_CLOSED_REQUEST;
            // What became of the request after that is no answer's cause.
            self.cause = None;
            if let Some(status) = &mut self.grpc {
                status.cancelled();
            }
        }
        let grpc_status = self.grpc.map(CallStatus::code);
        let total = self.started.elapsed();
        if self.cause == Some(Cause::Timeout) && self.ops.log.keeps_history_of_its_pool() {
            self.say_timeout(total);
        }
        let cause = self.cause.map_or("", Cause::name);
        self.ops
            .metrics
            .request(self.status, cause, total, self.queue);
        if let Some(way) = self.input {
            self.ops.metrics.chain_input(way);
        }
        if let Some(code) = grpc_status {
            self.ops.metrics.call(code);
        }
        if let Some(span) = self.span.take() {
            span.end(&Ended {
                id: &self.id,
                pool: &self.ops.pool,
                status: self.status,
                cause,
                queue: self.queue,
                total,
                worker: self.worker,
                grpc_status,
            });
        }
        if let Some((method, uri)) = &self.line {
            self.ops.access.write(&Entry {
                time: SystemTime::now() - total,
                id: self.id.to_str().unwrap_or_default(),
                client: self.client,
                pool: &self.ops.pool,
                method: method.as_str(),
                path: uri.path_and_query().map_or("/", |path| path.as_str()),
                status: self.status,
                cause,
                bytes: self.bytes,
                total,
                queue: self.queue,
                in_worker: self.in_worker,
                worker: self.worker,
                input: self.input,
                grpc_status,
            });
        }
    }
}
