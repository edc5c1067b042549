//! One client connection: which HTTP it speaks, how long it may do nothing, how it ends.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::cause::Cause;
use super::client_io::{ClientIo, RawHead};
use super::service::{Peer, Serving};
use super::watch::{Order, Phase, Watch};
use super::Front;

/// How often a busy connection looks whether it is idle again, at most.
const LOOK: Duration = Duration::from_secs(10);

/// A client that has sent `P` or `PR` may be about to speak HTTP/2; nothing tells when the next byte comes.
const PREFACE_LOOK: Duration = Duration::from_millis(5);

/// hyper refuses a smaller read buffer.
const MIN_HEADER: usize = 8192;

/// Streams that one HTTP/2 connection may have open, as nginx's `http2_max_concurrent_streams`.
const MAX_STREAMS: u32 = 128;

/// Serves one client until either side ends it.
pub async fn serve(front: Arc<Front>, stream: TcpStream, address: SocketAddr, watch: Arc<Watch>) {
    let ip = address.ip().to_canonical();
    let address_text = HeaderValue::from_str(&ip.to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    let peer = Arc::new(Peer {
        front: front.clone(),
        watch: watch.clone(),
        address: ip,
        address_text,
    });
    // Loses at most some latency.
    let _ = stream.set_nodelay(true);
    let patience = front.limits.header_timeout;
    match tokio::time::timeout(patience, speaks_http2(&stream)).await {
        Ok(Ok(true)) => serve_http2(peer, stream).await,
        Ok(Ok(false)) => serve_http1(peer, stream).await,
        // It closed, or said nothing: there is nobody to answer.
        Ok(Err(_)) => {}
        Err(_) => watch.give(Order::Close),
    }
}

/// Looks at the first bytes without taking them. No method other than the preface's begins with `PRI`.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0u8; 3];
    loop {
        let seen = stream.peek(&mut first).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if seen == 3 || !b"PRI".starts_with(&first[..seen]) {
            return Ok(&first == b"PRI");
        }
        tokio::time::sleep(PREFACE_LOOK).await;
    }
}

struct Handler {
    peer: Arc<Peer>,
    head: Arc<RawHead>,
}

impl Service<Request<Incoming>> for Handler {
    type Response = hyper::Response<super::reply::Reply>;
    type Error = std::convert::Infallible;
    type Future = Serving;

    fn call(&self, request: Request<Incoming>) -> Serving {
        let chunked = request.headers().contains_key(TRANSFER_ENCODING);
        let doubtful = self
            .head
            .take_has_length(chunked)
            .then_some(Cause::BadRequest(
                "a request has Content-Length or Transfer-Encoding, not both",
            ));
        Serving::new(self.peer.clone(), request, doubtful)
    }
}

async fn serve_http1(peer: Arc<Peer>, stream: TcpStream) {
    let head = Arc::new(RawHead::default());
    let watch = peer.watch.clone();
    let limits = peer.front.limits.clone();
    let max_header = limits.max_header.max(MIN_HEADER);
    let io = ClientIo::new(stream, watch.clone(), head.clone(), max_header, true);
    let handler = Handler { peer, head };
    let mut connection = http1::Builder::new()
        .max_buf_size(max_header)
        .serve_connection(TokioIo::new(io), handler)
        .with_upgrades();
    let ended = {
        let mut connection = Pin::new(&mut connection);
        run(&watch, &limits, |cx, order| {
            if order == Order::Finish {
                connection.as_mut().graceful_shutdown();
            }
            connection.as_mut().poll(cx).map(|_| ())
        })
        .await
    };
    if ended == Ended::Expired && watch.phase() == Phase::Head {
        if let Some(parts) = connection.into_parts() {
            if !parts.read_buf.is_empty() {
                parts.io.into_inner().reject_now(Cause::HeaderTimeout);
            }
        }
    }
}

async fn serve_http2(peer: Arc<Peer>, stream: TcpStream) {
    let head = Arc::new(RawHead::default());
    let watch = peer.watch.clone();
    let limits = peer.front.limits.clone();
    let io = ClientIo::new(stream, watch.clone(), head.clone(), 0, false);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(limits.max_header as u32)
        // A peer that vanished without a word is noticed, also while a worker works for it.
        .keep_alive_interval(limits.idle_timeout);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), Handler { peer, head }));
    run(&watch, &limits, |cx, order| {
        if order == Order::Finish {
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx).map(|_| ())
    })
    .await;
}

#[derive(PartialEq, Eq)]
enum Ended {
    /// By itself.
    Over,
    /// By an order.
    Ordered,
    /// By a deadline.
    Expired,
}

/// Polls a connection, passing on orders and looking at its deadline. One timer per connection,
/// moved only when it fires: a request costs no timer.
async fn run(
    watch: &Watch,
    limits: &super::Limits,
    mut poll: impl FnMut(&mut Context<'_>, Order) -> Poll<()>,
) -> Ended {
    let mut timer = pin!(tokio::time::sleep(limits.header_timeout));
    let mut registered = false;
    let mut passed_on = false;
    std::future::poll_fn(|cx| {
        if !registered {
            watch.register(cx.waker());
            registered = true;
        }
        let order = match watch.order() {
            Order::Close => return Poll::Ready(Ended::Ordered),
            Order::Finish if !passed_on => {
                passed_on = true;
                Order::Finish
            }
            _ => Order::None,
        };
        if poll(cx, order).is_ready() {
            return Poll::Ready(Ended::Over);
        }
        while timer.as_mut().poll(cx).is_ready() {
            let left = watch.patience_left(limits);
            if left.is_some_and(|left| left.is_zero()) {
                return Poll::Ready(Ended::Expired);
            }
            // While a worker works there is no deadline, and nobody tells when there is one again.
            let next = left.unwrap_or(LOOK).min(LOOK);
            timer.as_mut().reset(tokio::time::Instant::now() + next);
        }
        Poll::Pending
    })
    .await
}
