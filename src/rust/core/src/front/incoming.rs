//! A client's request as a worker will see it.

use std::borrow::Cow;
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, Uri, Version};
use tokio::time::Instant;

use super::cause::Cause;
use super::connection_state::{ConnectionState, Receiving};
use super::draining::Draining;
use super::headers::{self, X_REQUEST_ID};
use super::limits::Limits;
use super::record::{Call, Record};
use super::request_body::{RequestBody, RequestBodyError};
use super::sendable::{Sendable, SendableBody};
use super::service::Peer;
use crate::body::{is_shortage, BufferError, Buffered, Inflow, Pieces};
use crate::environment::SystemError;
use crate::pool::Pool;
use crate::sources::replicas::Destination;
use crate::traces::drop_unsound;
use crate::worker::native::FLOW;

/// Up to this length, in bytes, a body that is there is taken as it is.
const LITTLE: u64 = 16 * 1024;

/// The client's wish to switch protocols, if it is one that can be tunnelled.
///
/// Anything but a WebSocket's handshake (RFC 6455, 4.1) is an offer, not a need: such a client is served over HTTP/1.1
/// (RFC 9110, 7.8). httpuv would hang up on it.
pub fn take_upgrade(request: &mut Request<RequestBody>) -> Option<(OnUpgrade, HeaderValue)> {
    let wanted = request.headers().get(header::UPGRADE)?.clone();
    let switches = request.version() == Version::HTTP_11
        && *request.method() == Method::GET
        && headers::connection_lists(request.headers(), "upgrade")
        && wanted.as_bytes().eq_ignore_ascii_case(b"websocket")
        && request.headers().contains_key(header::SEC_WEBSOCKET_KEY)
        && request.body().is_end_stream();
    switches.then(|| (hyper::upgrade::on(request), wanted))
}

/// What a request asks for besides its answer.
pub struct Wishes<'a> {
    /// To switch protocols, and to which.
    pub upgrade: Option<&'a (OnUpgrade, HeaderValue)>,
    pub flow: Option<Flowing>,
    pub deadline: Option<Instant>,
}

/// The request as the worker will see it, its body complete unless it [flows](Flowing). `prefix` is how much of its path leads to the pool.
pub async fn sendable(
    peer: &Peer,
    pool: &Pool,
    request: &mut Request<RequestBody>,
    prefix: usize,
    record: &mut Record,
    call: &Call,
    wishes: Wishes<'_>,
) -> Result<Prepared, Cause> {
    let Wishes {
        upgrade,
        flow,
        deadline,
    } = wishes;
    let mut headers = std::mem::take(request.headers_mut());
    headers::strip_request(&mut headers, peer.front.limits.underscores_in_headers);
    if let Some(authority) = request.uri().authority() {
        // HTTP/2's `:authority`, or an absolute target: either way `Host` has no say (RFC 9112, 3.2.2).
        if let Ok(host) = HeaderValue::from_str(authority.as_str()) {
            headers.insert(header::HOST, host);
        }
    }
    if request.version() == Version::HTTP_2 {
        join_cookies(&mut headers);
    }
    record.client = headers::forward(
        &mut headers,
        &peer.front.trusted,
        // Whom one has dialled one believes.
        peer.offer().is_some(),
        peer.address,
        &peer.address_text,
        &peer.scheme,
    );
    if let Some(prefix) = pool.prefix() {
        headers::add_prefix(&mut headers, prefix);
    }
    headers.insert(X_REQUEST_ID, record.id.clone());
    match &record.span {
        Some(span) => span.tell(&mut headers),
        None => drop_unsound(&mut headers),
    }
    if let Some(destination) = pool.destination() {
        headers.insert(header::HOST, destination.host.clone());
    }
    if let Some((_, protocol)) = upgrade {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, protocol.clone());
    }
    let mut inflow = None;
    let body = if request.body().is_end_stream() {
        Buffered::default()
    } else if let Some(all) = little(peer, pool, request.body_mut(), flow) {
        all
    } else if let Some(flow) = flow {
        let body = std::mem::replace(request.body_mut(), RequestBody::empty());
        inflow = Some(inflow_of(peer, body, flow).await?);
        Buffered::default()
    } else {
        let http2 = request.version() == Version::HTTP_2;
        let head = http2.then(|| size_of(&headers));
        Box::pin(read_body(
            peer,
            pool.limits.max_body,
            request.body_mut(),
            call,
            head,
        ))
        .await?
    };
    let target = origin_form(request.uri(), prefix, pool.destination())?;
    if body.is_empty()
        && inflow.is_none()
        && matches!(
            *request.method(),
            Method::POST | Method::PUT | Method::PATCH
        )
    {
        // RFC 9110 (8.6): where a body is expected, its absence is said.
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    let request = Box::new(Sendable {
        method: request.method().clone(),
        target,
        headers,
        body: SendableBody::Complete(body),
        deadline,
        onward: None,
    });
    Ok(Prepared { request, inflow })
}

/// A request as the worker will see it.
pub struct Prepared {
    pub request: Box<Sendable>,
    /// Its body, if that comes meanwhile.
    pub inflow: Option<Inflow>,
}

/// How a request's body is handed on while it comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flowing {
    /// A worker is asked for once something has come.
    Begun,
    /// A worker is asked for first: who sends it does not send anything before.
    Awaited,
    /// The same, as something has come, and is kept elsewhere.
    Kept,
}

impl Flowing {
    /// Whether and how it is, for a request to a pool whose workers read bodies as they come.
    pub fn of(request: &Request<RequestBody>, is_front: bool) -> Option<Self> {
        let own = request.extensions().get::<Self>().copied();
        own.or_else(|| {
            let told = is_front && request.headers().contains_key(FLOW);
            told.then_some(Self::Awaited)
        })
    }
}

/// All of a body of this server's own, if it is there, and so little that nothing has to be waited for, or refused.
fn little(
    peer: &Peer,
    pool: &Pool,
    body: &mut RequestBody,
    flow: Option<Flowing>,
) -> Option<Buffered> {
    let (limits, store) = (&peer.front.limits, &peer.front.store);
    // One that flows has no limit.
    let max = flow.map_or(pool.limits.max_body, |_| u64::MAX);
    let most = LITTLE.min(max).min(limits.body_memory);
    if store.is_full() {
        return None;
    }
    let mut pieces = Pieces::default();
    pieces.force(body.take_within(most)?, store);
    Some(pieces.into())
}

async fn inflow_of(peer: &Peer, body: RequestBody, flow: Flowing) -> Result<Inflow, Cause> {
    let front = &peer.front;
    // A stage has limits of its own, and may compute for long; and a front looks after its client.
    let is_clients = !body.is_within() && flow == Flowing::Begun;
    let patience = front.limits.idle_timeout.filter(|_| is_clients);
    let body = Draining::new(body);
    let source = BodyExt::map_err(body, |error| BufferError::Broken(error.to_string()));
    let mut inflow = Inflow::new(Box::pin(source), patience);
    if flow == Flowing::Begun {
        let begun = inflow.begin(&front.store, front.limits.body_memory);
        begun.await.map_err(cause_of)?;
    }
    Ok(inflow)
}

/// A body that is seen to arrive.
struct Watched<'a> {
    body: &'a mut RequestBody,
    receiving: Receiving<&'a ConnectionState>,
    /// Set when it ends with its connection or its stream.
    left: &'a mut bool,
}

impl Body for Watched<'_> {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let frame = ready!(Pin::new(&mut *self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => self
                .receiving
                .received(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) => *self.left = error.is_departure(),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a head takes, in bytes, more or less.
fn size_of(headers: &HeaderMap) -> u64 {
    headers.iter().fold(0, |sum, (name, value)| {
        sum + (name.as_str().len() + value.len()) as u64
    })
}

/// Completes a body of at most `max` bytes. `head` is what is charged for the request meanwhile, `None` in HTTP/1: one connection of HTTP/2 may have
/// many.
pub async fn read_body(
    peer: &Peer,
    max: u64,
    body: &mut RequestBody,
    call: &Call,
    head: Option<u64>,
) -> Result<Buffered, Cause> {
    const BROKEN_OFF: Cause = Cause::BadRequest("the request's body broke off");
    let (limits, store) = (&peer.front.limits, &peer.front.store);
    if store.is_exhausted() {
        return Err(Cause::Overloaded);
    }
    let mut charge = store.charge();
    charge.force(head.unwrap_or(0));
    // A stage has limits of its own, and may compute for long.
    let patience = limits.idle_timeout.filter(|_| !body.is_within());
    let mut left = false;
    let watched = Watched {
        body: &mut *body,
        receiving: peer.connection.receive(),
        left: &mut left,
    };
    let read = Buffered::read_from(watched, store, limits.body_memory, max, patience);
    let read = tokio::select! {
        biased;
        read = read => read,
        () = peer.connection.evicted() => return Err(Cause::TooManyConnections),
    };
    if left {
        call.client_left();
        return Err(BROKEN_OFF);
    }
    read.map_err(cause_of)
}

/// What a client is told of a body that could not be had.
pub fn cause_of(error: BufferError) -> Cause {
    match error {
        BufferError::TooLarge(_) => Cause::BodyTooLarge,
        BufferError::Stalled(_) => Cause::BodyTimeout,
        BufferError::Broken(_) => Cause::BadRequest("the request's body is not valid HTTP"),
        // Those who have the files are clients, too: no news to those who read the log.
        BufferError::Storage(error) if is_shortage(&error) => Cause::Overloaded,
        BufferError::Storage(error) => {
            tracing::error!("a request's body cannot be kept: {}", SystemError(&error));
            Cause::Storage
        }
    }
}

/// Reads a body for nothing: a connection that is closed with bytes unread is reset, and a front that is still sending
/// would not learn that its request can go elsewhere.
pub async fn discard(body: &mut RequestBody, limits: &Limits) {
    let patience = limits.header_timeout;
    while let Ok(Some(Ok(_))) = tokio::time::timeout(patience, body.frame()).await {}
}

/// HTTP/2 may split cookies, HTTP/1 may not (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let cookies: Vec<&[u8]> = headers
        .get_all(header::COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if cookies.len() > 1 {
        if let Ok(cookie) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
            headers.insert(header::COOKIE, cookie);
        }
    }
}

/// Path and query alone: what a server, not a proxy, is asked (RFC 9112, 3.2.1). All of it ASCII, as not every server's
/// parser takes more: what is not becomes what it means (RFC 3987, 3.1).
///
/// The first `prefix` bytes of the path are left out.
fn origin_form(uri: &Uri, prefix: usize, destination: Option<&Destination>) -> Result<Uri, Cause> {
    let target = uri.path_and_query().map_or("/", |path| path.as_str());
    let ascii = target.is_ascii();
    if ascii && uri.scheme().is_none() && prefix == 0 && destination.is_none() {
        return Ok(uri.clone());
    }
    let rest = target.get(prefix..).unwrap_or(target);
    // What is left of `/sales?id=1`.
    let target = if let Some(destination) = destination {
        let target = destination.target(rest);
        Cow::Owned(target.ok_or(Cause::BadRequest(
            "the request's path leads out of what is served here",
        ))?)
    } else if rest.starts_with('/') || rest == "*" {
        Cow::Borrowed(rest)
    } else {
        Cow::Owned(format!("/{rest}"))
    };
    let parsed = if ascii {
        target.parse()
    } else {
        percent_encoded(&target).parse()
    };
    parsed.map_err(|_| Cause::BadRequest("the request's target is not valid"))
}

fn percent_encoded(target: &str) -> String {
    let mut encoded = String::with_capacity(target.len() * 3);
    for byte in target.bytes() {
        if byte.is_ascii() {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
