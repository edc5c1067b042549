//! What is known of one request; logged and counted when it ends, however it ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::header::HeaderValue;
use hyper::{Method, StatusCode, Uri};

use super::cause::Cause;
use super::connection_state::ConnectionState;
use crate::body::Abort;
use crate::client_address::ClientAddress;
use crate::ops::access::Entry;
use crate::ops::Ops;

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
        self.cause = Some(match why {
            Abort::WorkerDied => Cause::WorkerDied,
            Abort::BrokenOff => Cause::BrokenOff,
            Abort::Timeout => Cause::Timeout,
            Abort::Storage => Cause::Storage,
            Abort::File => Cause::FileUnreadable,
        });
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
        }
        let total = self.started.elapsed();
        let cause = self.cause.map_or("", Cause::name);
        self.ops
            .metrics
            .request(self.status, cause, total, self.queue);
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
            });
        }
    }
}
