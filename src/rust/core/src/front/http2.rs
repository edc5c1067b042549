//! One client connection that speaks HTTP/2.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::connection::{FIRST_LOOK, LAST_LOOK};
use super::connection_state::{ConnectionState, Phase, Shutdown};
use super::http2_io::Http2Io;
use super::limits::Limits;
use super::listener::Entered;
use super::service::{Peer, Serving};
use super::streams::{Found, Streams};
use crate::client_stream::ClientStream;
use crate::clock::coarse_millis;

/// Streams that one connection may have open, as nginx's `http2_max_concurrent_streams`.
const MAX_STREAMS: u32 = 128;

/// Streams that a client may have reset before they were looked at, and that made h2 send a reset, until it has its
/// `GOAWAY` (`ENHANCE_YOUR_CALM`). The first is h2's own default, the second a tenth of hyper's.
const MAX_RESET_UNSEEN: usize = 20;
const MAX_ERRORS: usize = 100;

/// How much of one response h2 may hold for a client that has opened its windows wide and does not read, in bytes.
const SEND_BUFFER: usize = 64 * 1024;

/// Between two looks, at least.
const SHORTEST_LOOK: Duration = Duration::from_millis(10);

/// How much another front may send of one request before it is read, in bytes: what it has to keep of a call by gRPC until it knows
/// that the call is not refused.
pub(super) const WINDOW_OF_FRONTS: u32 = 64 * 1024;

struct Handler {
    peer: Arc<Peer>,
    streams: Streams,
}

impl Service<Request<Incoming>> for Handler {
    type Response = hyper::Response<super::reply::Reply>;
    type Error = std::convert::Infallible;
    type Future = Serving;

    fn call(&self, request: Request<Incoming>) -> Serving {
        let serving = Serving::new(self.peer.clone(), request, None);
        self.streams.serve_next(serving.call().clone());
        serving
    }
}

/// Serves a client until either side ends it. However it ends, the client is told by a `GOAWAY`, by h2 or else by the IO.
/// `unread` has come already.
pub async fn serve(peer: Arc<Peer>, stream: (ClientStream, Entered), unread: Bytes) {
    let is_front = peer.is_front;
    let (front, connection) = (peer.front.clone(), peer.connection.clone());
    let limits = &front.limits;
    let streams = Streams::default();
    let io = Http2Io::new(stream, unread, peer.clone(), streams.clone());
    let handler = Handler {
        peer,
        streams: streams.clone(),
    };
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESET_UNSEEN)
        .max_local_error_reset_streams(MAX_ERRORS)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(limits.max_header as u32)
        // A peer that vanished without a word is noticed, also while a worker works for it.
        .keep_alive_interval(limits.idle_timeout);
    if is_front {
        builder.initial_stream_window_size(WINDOW_OF_FRONTS);
    }
    let mut http = pin!(builder.serve_connection(TokioIo::new(io), handler));

    let mut clock = Clock::new(&connection, limits, streams);
    let mut timer = pin!(tokio::time::sleep(FIRST_LOOK));
    let mut registered = false;
    let mut told = false;
    std::future::poll_fn(|cx| {
        if !registered {
            connection.register(cx.waker());
            registered = true;
        }
        if connection.shutdown() == Shutdown::Immediate {
            if connection.phase() == Phase::Idle && !connection.is_flushed() {
                // What streams have handed over last is written by this alone.
                let _ = http.as_mut().poll(cx);
            }
            return Poll::Ready(());
        }
        if !told && connection.is_ending() {
            http.as_mut().graceful_shutdown();
            told = true;
        }
        if http.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if clock.held_up && connection.phase() != Phase::Busy {
            return Poll::Ready(());
        }
        while timer.as_mut().poll(cx).is_ready() {
            match clock.look() {
                Some(next) => timer.as_mut().reset(Instant::now() + next),
                None => return Poll::Ready(()),
            }
        }
        Poll::Pending
    })
    .await;
}

/// Looks now and then at what the client is doing, and at what it lets lie.
struct Clock<'a> {
    connection: &'a ConnectionState,
    limits: &'a Limits,
    streams: Streams,
    look: Duration,
    /// A stream can be ended only with the connection, which ends when nothing is being served on it.
    held_up: bool,
}

impl<'a> Clock<'a> {
    fn new(connection: &'a ConnectionState, limits: &'a Limits, streams: Streams) -> Self {
        Self {
            connection,
            limits,
            streams,
            look: FIRST_LOOK,
            held_up: false,
        }
    }

    /// When to look again; `None` if the connection has had its time.
    fn look(&mut self) -> Option<Duration> {
        let left = self.connection.patience_left(self.limits);
        if left.is_some_and(|left| left.is_zero()) {
            return None;
        }
        self.look = (self.look * 2).min(LAST_LOOK);
        // While a worker works there is no deadline, and nobody tells when there is one again.
        let mut next = left.map_or(self.look, |left| left.min(self.look));
        if let Some(patience) = self.limits.idle_timeout {
            let now = coarse_millis();
            let patience = patience.as_millis() as u64;
            match self.streams.look(patience, now, self.connection.requests()) {
                Found::Nothing(None) => {}
                Found::Nothing(Some(at)) => {
                    next = next.min(Duration::from_millis(at.saturating_sub(now)));
                }
                Found::HeldUp => {
                    self.held_up = true;
                    self.connection.shut_down(Shutdown::Graceful);
                }
            }
        }
        Some(next.max(SHORTEST_LOOK))
    }
}
