//! One client connection: which HTTP it speaks, how long it may do nothing, how it ends.

use std::future::Future;
use std::io;
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::Request;
use hyper_util::rt::TokioIo;
use tokio::io::{Interest, ReadBuf};

use super::cause::Cause;
use super::client_io::ClientIo;
use super::connection_state::{ConnectionState, Phase, Shutdown};
use super::departure::{departed, IS_WATCHED};
use super::http2;
use super::listener::{linger, Entered};
use super::offer::Offer;
use super::raw_head::{Doubt, Framing, RawHead};
use super::service::{Party, Peer, Serving};
use super::turn::ConnectionTurn;
use super::Front;
use crate::client_address::ClientAddress;
use crate::client_stream::ClientStream;
use crate::heads::ROOM_FOR_HEADERS;

/// A connection looks this soon, then ever more rarely, at what it is doing: whether its deadline has
/// passed, which nobody tells it, and whether it has become quiet.
pub(super) const FIRST_LOOK: Duration = Duration::from_millis(100);
pub(super) const LAST_LOOK: Duration = Duration::from_secs(5);

/// Idle for this long, a connection gives its HTTP machinery (some 12 kB) back until it is used again.
const QUIET: Duration = Duration::from_millis(100);

/// A client that has sent `P` or `PR` may be about to speak HTTP/2; nothing tells when the next byte comes. It is looked
/// at this soon, then ever more rarely: many that send no more would keep us busy with nothing.
const PREFACE_LOOK: Duration = Duration::from_millis(5);
const LAST_PREFACE_LOOK: Duration = Duration::from_millis(500);

/// With what the preface of HTTP/2 begins, and no method of HTTP/1 does.
const HTTP2: &[u8] = b"PRI";

/// hyper refuses a smaller read buffer.
const MIN_HEADER: usize = 8192;

/// Serves a client that has just connected, once hands are shaken, if the front wants that.
pub async fn welcome(stream: ClientStream, address: ClientAddress, entered: Entered) {
    let front = entered.front.clone();
    let stream = match (stream, entered.tls()) {
        (ClientStream::Tcp(socket), Some(tls)) => {
            let connection = entered.connection.clone();
            let shaken = tokio::select! {
                shaken = front.shake_hands(&tls, socket, address) => shaken,
                // Too many connections, or the end: nothing was asked yet.
                () = connection.ended() => return,
            };
            match shaken {
                Some(stream) => stream,
                None => return,
            }
        }
        (stream, _) => stream,
    };
    serve(stream, address, entered).await;
}

/// Serves one client until either side ends it.
pub async fn serve(stream: ClientStream, address: ClientAddress, entered: Entered) {
    let (front, connection) = (entered.front.clone(), entered.connection.clone());
    let address_text = HeaderValue::from_str(&address.to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    let peer = Arc::new(Peer {
        party: match &entered.redirects {
            Some(redirects) => Party::Fetcher(redirects.clone()),
            None => Party::Client,
        },
        is_front: front.fronts.include(address),
        front: front.clone(),
        connection: connection.clone(),
        address,
        address_text,
        scheme: scheme_of(&stream),
        turn: ConnectionTurn::default(),
    });
    stream.set_nodelay();
    let patience = front.limits.header_timeout;
    let first = tokio::select! {
        first = tokio::time::timeout(patience, speaks_http2(&stream)) => first,
        // Too many connections, or the end: nothing was asked yet.
        () = connection.ended() => return,
    };
    match first {
        Ok(Ok(true)) => http2::serve(peer, (stream, entered), Bytes::new()).await,
        Ok(Ok(false)) => serve_http1(peer, (stream, entered), Bytes::new()).await,
        // It closed, or said nothing: there is nobody to answer.
        Ok(Err(_)) | Err(_) => {}
    }
}

/// By which requests come.
fn scheme_of(stream: &ClientStream) -> HeaderValue {
    HeaderValue::from_static(if stream.is_tls() { "https" } else { "http" })
}

/// Serves a hub, or a proxy if nothing was offered to it, that this machine has dialled, which has sent `unread` already, until
/// either side ends it.
pub async fn serve_dialled(
    stream: ClientStream,
    unread: Bytes,
    address: ClientAddress,
    offer: Option<Offer>,
    entered: Entered,
) {
    let connection = entered.connection.clone();
    let address_text = HeaderValue::from_str(&address.to_string())
        .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
    let peer = Arc::new(Peer {
        party: offer.map_or(Party::Client, Party::Hub),
        scheme: scheme_of(&stream),
        is_front: true,
        front: entered.front.clone(),
        connection: connection.clone(),
        address,
        address_text,
        turn: ConnectionTurn::default(),
    });
    connection.note_front();
    if peer.offer().is_some() {
        // A hub sends one request after the other.
        return serve_http1(peer, (stream, entered), unread).await;
    }
    let first = tokio::select! {
        first = first_bytes(&stream, unread, peer.front.limits.header_timeout) => first,
        // Nothing was asked yet.
        () = connection.ended() => return,
    };
    match first {
        Some(first) if first.starts_with(HTTP2) => {
            http2::serve(peer, (stream, entered), first).await;
        }
        Some(first) => serve_http1(peer, (stream, entered), first).await,
        None => {}
    }
}

/// Reads until it is known which HTTP somebody speaks that was dialled; what was read. `None`: it has closed the connection, or has
/// taken longer than `patience` for these few bytes.
async fn first_bytes(stream: &ClientStream, unread: Bytes, patience: Duration) -> Option<Bytes> {
    let mut first = BytesMut::from(&*unread);
    let mut late: Option<Pin<Box<tokio::time::Sleep>>> = None;
    while first.len() < HTTP2.len() && HTTP2.starts_with(&first) {
        if !first.is_empty() && late.is_none() {
            late = Some(Box::pin(tokio::time::sleep(patience)));
        }
        let mut room = [0; HTTP2.len()];
        let mut read = ReadBuf::new(&mut room);
        let outcome = std::future::poll_fn(|cx| {
            if let Poll::Ready(outcome) = stream.poll_read_shared(cx, &mut read) {
                return Poll::Ready(outcome.ok());
            }
            match late.as_mut().map(|late| late.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => Poll::Ready(None),
                _ => Poll::Pending,
            }
        });
        outcome.await?;
        if read.filled().is_empty() {
            return None;
        }
        first.extend_from_slice(read.filled());
    }
    Some(first.freeze())
}

/// Looks at the first bytes without taking them, unless the handshake has settled it. No method other than the preface's begins with `PRI`.
pub(super) async fn speaks_http2(stream: &ClientStream) -> io::Result<bool> {
    if stream.is_tls() {
        // Until there is something to read, nothing is needed to read it.
        std::future::poll_fn(|cx| stream.poll_read_ready(cx)).await?;
        return Ok(stream.has_agreed_on_http2());
    }
    let mut first = [0u8; 3];
    let mut look = PREFACE_LOOK;
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let seen = stream.peek(&mut first).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if seen == 3 || !HTTP2.starts_with(&first[..seen]) || ready.is_read_closed() {
            return Ok(first == HTTP2);
        }
        tokio::time::sleep(look).await;
        look = (look * 2).min(LAST_PREFACE_LOOK);
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
        let framing = if request.headers().contains_key(TRANSFER_ENCODING) {
            Framing::Chunked
        } else {
            Framing::Length(request.body().size_hint().exact().unwrap_or(0))
        };
        let doubt = self.head.take(request.method().as_str(), framing);
        let doubtful = doubt.map(|doubt| {
            Cause::BadRequest(match doubt {
                Doubt::Both => "a request has Content-Length or Transfer-Encoding, not both",
                Doubt::Lost => "nobody knows for sure where this request begins",
            })
        });
        Serving::new(self.peer.clone(), request, doubtful)
    }
}

async fn serve_http1(peer: Arc<Peer>, (stream, entered): (ClientStream, Entered), unread: Bytes) {
    let head = Arc::new(RawHead::default());
    let stream = Arc::new(stream);
    let mut io = ClientIo::new((stream.clone(), entered), peer.clone(), head.clone());
    if !unread.is_empty() {
        peer.connection.head_began();
        head.append(&unread);
        io.unread(unread);
    }
    let mut withdrawn = false;
    while let Some(kept) = converse(&peer, &stream, io, &head).await {
        io = match kept {
            Kept::Crowded(io) => io,
            Kept::Quiet(io) if wakes_up(&io, &peer.connection, &peer.front.limits).await => io,
            Kept::Quiet(io) => {
                if peer.connection.phase() == Phase::Head && !peer.connection.is_ending() {
                    io.reject_now(Cause::HeaderTimeout);
                } else if peer.connection.is_dialled()
                    && matches!(peer.connection.phase(), Phase::Idle | Phase::Head)
                {
                    io.withdraw();
                    withdrawn = true;
                }
                stream.say_goodbye();
                // It is the last that has the socket.
                drop(io);
                break;
            }
        };
    }
    // Whoever is closed for others was not answered. In a tunnel, the socket lives on.
    if peer.connection.shutdown() != Shutdown::Immediate {
        match Arc::into_inner(stream) {
            Some(stream) if withdrawn => linger(&peer.front.connections, stream),
            Some(stream) => part(&peer.front, stream),
            None => {}
        }
    }
}

/// Lets go of a client that has its answer. Were the connection closed with something of the client's unread, the system
/// would reset it and throw away what is still on its way.
fn part(front: &Front, stream: ClientStream) {
    let mut unread = [std::mem::MaybeUninit::uninit()];
    // Tokio would answer from memory.
    let read = socket2::SockRef::from(&stream).peek(&mut unread);
    if matches!(read, Ok(1)) {
        linger(&front.connections, stream);
    }
}

/// What a conversation goes on with.
enum Kept {
    /// Nothing is going on: only the socket is needed until there is.
    Quiet(ClientIo),
    /// The head that is arriving has more headers than hyper has room for, unless it is told to make room. That costs each
    /// request some, so it is told when it is needed.
    Crowded(ClientIo),
}

/// Speaks HTTP/1 until the connection ends, or has to be begun anew.
async fn converse(
    peer: &Arc<Peer>,
    stream: &ClientStream,
    io: ClientIo,
    head: &Arc<RawHead>,
) -> Option<Kept> {
    let (connection, limits) = (&peer.connection, &peer.front.limits);
    let handler = Handler {
        peer: peer.clone(),
        head: head.clone(),
    };
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(limits.max_header.max(MIN_HEADER))
        // Who has said all may wait for an answer. Who has left is seen without reading.
        .half_close(IS_WATCHED);
    if io.is_roomy() {
        builder.max_headers(ROOM_FOR_HEADERS);
    }
    let mut http = builder
        .serve_connection(TokioIo::new(io), handler)
        .with_upgrades();
    let departure = &connection.departure;
    let mut departed = pin!(departed(stream, departure));
    let waker = Waker::from(connection.clone());
    departure.stir();
    let (mut crowded, mut withdrawn) = (false, false);
    let ended = run(connection, limits, |cx, ends| {
        let mut http = Pin::new(&mut http);
        // Of one that was dialled, hyper would close it after an answer that has not said so: the next request is lost then.
        if ends && !connection.is_dialled() {
            http.as_mut().graceful_shutdown();
        }
        if http.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if connection.is_dialled()
            && connection.is_ending()
            && connection.phase() == Phase::Idle
            && connection.is_flushed()
        {
            withdrawn = true;
            return Poll::Ready(());
        }
        crowded = head.take_crowded();
        let left = departure.take_stirred()
            && departed
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_ready();
        let busy = connection.phase() == Phase::Busy;
        if crowded || left || departure.look(stream, busy).is_err() {
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
    let timed_out = match ended {
        Ended::Over if crowded || withdrawn => false,
        Ended::Over | Ended::Ordered => return None,
        Ended::Expired => true,
        Ended::Quiet => false,
    };
    // Absent after an upgrade: then the tunnel has the socket.
    let parts = http.into_parts()?;
    let mut io = parts.io.into_inner();
    if timed_out {
        if connection.phase() == Phase::Head && !parts.read_buf.is_empty() {
            io.reject_now(Cause::HeaderTimeout);
        }
        return None;
    }
    // Empty lines are no head.
    if parts.read_buf.iter().any(|byte| !b"\r\n".contains(byte)) {
        connection.head_began();
    }
    io.unread(parts.read_buf);
    if crowded {
        io.make_room();
        return Some(Kept::Crowded(io));
    }
    Some(Kept::Quiet(io))
}

/// Waits, with next to nothing in hand, until a quiet client sends something (`true`), has to go, or
/// has been idle for too long.
async fn wakes_up(io: &ClientIo, connection: &ConnectionState, limits: &super::Limits) -> bool {
    let left = connection.patience_left(limits);
    let mut timer = pin!(tokio::time::sleep(left.unwrap_or(Duration::MAX)));
    std::future::poll_fn(|cx| {
        if connection.is_ending() || (left.is_some() && timer.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(false);
        }
        io.poll_readable(cx).map(|()| true)
    })
    .await
}

#[derive(PartialEq, Eq)]
enum Ended {
    /// By itself.
    Over,
    /// By an order.
    Ordered,
    /// By a deadline.
    Expired,
    /// Not at all: it is idle.
    Quiet,
}

/// Polls a connection, telling it once when it is to end, and looking now and then at its deadline. One timer per
/// connection, moved only when it fires: a request costs no timer.
async fn run(
    connection: &ConnectionState,
    limits: &super::Limits,
    mut poll: impl FnMut(&mut Context<'_>, bool) -> Poll<()>,
) -> Ended {
    let mut look = FIRST_LOOK;
    let mut timer = pin!(tokio::time::sleep(look));
    let mut registered = false;
    let mut told = false;
    std::future::poll_fn(|cx| {
        if !registered {
            connection.register(cx.waker());
            registered = true;
        }
        if connection.shutdown() == Shutdown::Immediate {
            return Poll::Ready(Ended::Ordered);
        }
        let ends = !told && connection.is_ending();
        told |= ends;
        if poll(cx, ends).is_ready() {
            return Poll::Ready(Ended::Over);
        }
        let mut looked = false;
        while timer.as_mut().poll(cx).is_ready() {
            looked = true;
            let left = connection.patience_left(limits);
            if left.is_some_and(|left| left.is_zero()) {
                return Poll::Ready(Ended::Expired);
            }
            if connection.is_quiet(QUIET) {
                return Poll::Ready(Ended::Quiet);
            }
            look = (look * 2).min(LAST_LOOK);
            // While a worker works there is no deadline, and nobody tells when there is one again.
            let next = left.map_or(look, |left| left.min(look));
            timer.as_mut().reset(tokio::time::Instant::now() + next);
        }
        // A client that may have left is looked at, too.
        if looked && poll(cx, false).is_ready() {
            return Poll::Ready(Ended::Over);
        }
        Poll::Pending
    })
    .await
}
