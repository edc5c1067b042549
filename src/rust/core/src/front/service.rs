//! A client's request, from its head to the head of its response.

use std::future::Future;
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::{Body, Incoming};
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode, Version};

use super::answers::{
    json, option_refused, own_answer, rejection, respond, tell_elsewhere, tell_front,
};
use super::cause::Cause;
use super::check::check;
use super::connection_state::ConnectionState;
use super::deadline::exchange_within;
use super::exchange::Failed;
use super::fetch::{fetch, may_be_redirected, redirect, Whose};
use super::headers::{self, X_REQUEST_ID};
use super::in_flight::{BreakOff, Cancellation, InFlight};
use super::incoming::{discard, sendable, take_upgrade};
use super::management::manage;
use super::offer::Offer;
use super::queue;
use super::record::{Call, Record};
use super::redirects::Redirects;
use super::reply::Reply;
use super::request_id::new_request_id;
use super::route::{find_pool, slash_added};
use super::session_request::SessionRequest;
use super::turn::{self, ConnectionTurn};
use super::Front;
use crate::client_address::ClientAddress;
use crate::heads;
use crate::ops;
use crate::ops::status::Kind;
use crate::pool::Pool;
use crate::sessions::take_cookies;
use crate::worker::{is_known_to_http_workers, remote};

/// How many workers of this machine may turn out unreachable before a request gives up. Elsewhere, it is looked for
/// until it has waited for too long.
const MAX_ATTEMPTS: usize = 5;

/// Who is at the other end of a connection.
pub enum Party {
    Client,
    /// A client that comes for an answer which waits here.
    Fetcher(Arc<Redirects>),
    /// This machine has dialled it.
    Hub(Offer),
}

/// What all requests of one client connection share.
pub struct Peer {
    pub front: Arc<Front>,
    pub connection: Arc<ConnectionState>,
    pub address: ClientAddress,
    pub address_text: HeaderValue,
    /// `https` over TLS.
    pub scheme: HeaderValue,
    /// Whether it may be another faucet's front: then its word is taken.
    pub is_front: bool,
    /// The worker that waits for the next request.
    pub turn: ConnectionTurn,
    pub party: Party,
}

impl Peer {
    /// What was offered to it, if it is a hub.
    pub fn offer(&self) -> Option<&Offer> {
        match &self.party {
            Party::Hub(offer) => Some(offer),
            Party::Client | Party::Fetcher(_) => None,
        }
    }

    /// Counts, logs and renders the answer to a client whose request could not be read.
    pub fn reject(&self, cause: Cause) -> Vec<u8> {
        self.front.reject(cause, self.address)
    }
}

/// A request being served. Hyper drops it when its client leaves. Once a lease is held, the future
/// then moves to a task of its own and goes on until the worker has finished: a lease outlives its client.
pub struct Serving {
    work: Option<Pin<Box<dyn Future<Output = Response<Reply>> + Send>>>,
    call: Arc<Call>,
    connection: Arc<ConnectionState>,
}

impl Serving {
    /// Starts to serve. `doubtful` says what the raw head showed that its headers do not.
    pub fn new(peer: Arc<Peer>, request: Request<Incoming>, doubtful: Option<Cause>) -> Self {
        peer.connection.request_started();
        let call = Arc::new(Call::default());
        Self {
            connection: peer.connection.clone(),
            work: Some(Box::pin(serve(peer, request, doubtful, call.clone()))),
            call,
        }
    }

    /// What its response tells of its client.
    pub fn call(&self) -> &Arc<Call> {
        &self.call
    }
}

impl Future for Serving {
    type Output = Result<Response<Reply>, std::convert::Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        let response = std::task::ready!(work.as_mut().poll(cx));
        self.work = None;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.connection.becomes_tunnel();
        }
        self.connection
            .departure
            .answered(response.body().progress());
        Poll::Ready(Ok(response))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else {
            return;
        };
        self.call.client_left();
        if self.call.is_committed() {
            // Outside a runtime (it is being shut down) there is nobody left to finish for.
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(work);
            }
        }
    }
}

async fn serve(
    peer: Arc<Peer>,
    mut request: Request<Incoming>,
    doubtful: Option<Cause>,
    call: Arc<Call>,
) -> Response<Reply> {
    if let Party::Fetcher(redirects) = &peer.party {
        return fetch(&peer, redirects, request, doubtful, &call);
    }
    let front = &peer.front;
    let id = headers::given_request_id(request.headers()).unwrap_or_else(new_request_id);
    let turn = peer.is_front && asks_for_turn(&request);
    let own = request.uri().path().starts_with(ops::PREFIX);
    let management = front
        .management
        .get()
        .filter(|management| management.is_for(request.uri().path()));
    let found = match management {
        None => find_pool(front, &request, own, peer.is_front),
        Some(_) => None,
    };
    let pool = found.as_ref().map(|(visit, _)| &***visit);
    // Where slots are for sessions, no lease is kept for the next request of a connection.
    let sticky = pool.is_some_and(|pool| pool.sessions.is_some());
    let (turn, own) = (turn && !sticky, own && (sticky || !turn));
    let mut record = Box::new(Record::new(
        pool.map_or(&front.ops, |pool| &pool.ops).clone(),
        peer.connection.clone(),
        call.clone(),
        peer.address,
        id,
    ));
    if front.ops.access.is_on() {
        record.line = Some((request.method().clone(), request.uri().clone()));
    }
    let http2 = request.version() == Version::HTTP_2;
    let head = *request.method() == Method::HEAD;
    let mut no_wait = request.headers().get(remote::WAIT) == Some(&remote::NO_WAIT);
    if no_wait && !peer.is_front {
        no_wait = false;
        front.fronts.note_stranger(peer.address);
    }
    // Its sessions are nowhere else.
    no_wait &= !sticky;
    let names_pool = no_wait && request.headers().contains_key(remote::POOL);
    if (turn || no_wait) && !http2 {
        peer.connection.note_front();
    }

    let outcome = match (doubtful.map_or_else(|| check(&request), Err), &found) {
        (Err(cause), _) => Err(cause),
        (Ok(()), Some((visit, _))) if turn => {
            record.counts = false;
            let outcome = Box::pin(take_turn(&peer, visit, record.started())).await;
            let name = outcome
                .as_ref()
                .map_or_else(|cause| cause.name(), |_| "granted");
            visit.ops.metrics.turn(name);
            outcome
        }
        (Ok(()), _) if own => {
            if !front.ops.access.has_health() && ops::is_check(request.uri().path()) {
                record.line = None;
            }
            Ok(own_answer(&peer, &request))
        }
        (Ok(()), None) => match management {
            // Boxed: it would make every other request larger.
            Some(management) => Box::pin(manage(&peer, &**management, &mut request, &call)).await,
            None => {
                if names_pool && !request.body().is_end_stream() {
                    Box::pin(discard(request.body_mut(), &front.limits)).await;
                }
                Err(Cause::NoRoute)
            }
        },
        (Ok(()), Some((visit, _))) if visit.roster.is_draining() => {
            if no_wait && !request.body().is_end_stream() {
                Box::pin(discard(request.body_mut(), &front.limits)).await;
            }
            Err(Cause::Draining)
        }
        (Ok(()), Some((visit, prefix))) => {
            let admitted = match front.management.get() {
                None => Ok(()),
                Some(management) => {
                    management.admit_call(visit, request.headers_mut(), peer.address)
                }
            };
            let answered = admitted.map(|()| {
                slash_added(visit, &request, *prefix).or_else(|| option_refused(visit, &request))
            });
            match answered {
                Err(cause) => Err(cause),
                Ok(Some(response)) => {
                    if no_wait && !request.body().is_end_stream() {
                        // Its front goes on with the connection.
                        Box::pin(discard(request.body_mut(), &front.limits)).await;
                    }
                    Ok(response)
                }
                Ok(None) => {
                    forward(
                        &peer,
                        visit,
                        &mut request,
                        *prefix,
                        &mut record,
                        &call,
                        no_wait,
                    )
                    .await
                }
            }
        }
    };
    call.commit(false);
    if peer.connection.is_front() && !turn {
        // The one turn that this request had, unless it was used.
        drop(peer.turn.take());
    }

    let (mut response, cause) = match outcome {
        Ok(response) => (response, None),
        Err(cause) => (rejection(cause, head, http2), Some(cause)),
    };
    if turn || no_wait {
        let worked = cause.is_none() && record.worker.is_some();
        if let Some(pool) = pool {
            tell_front(pool, &mut response, cause, worked);
        } else if names_pool && cause == Some(Cause::NoRoute) {
            // It knows that others have it.
            tell_elsewhere(&mut response);
        }
    }
    if cause == Some(Cause::Busy) {
        // Nothing came of it here, and it is no news to those who read the log.
        record.line = None;
    }
    response
        .headers_mut()
        .insert(X_REQUEST_ID, record.id.clone());
    // It is nobody's fault then, and nobody hears of it.
    let cause = cause.filter(|_| !call.has_client_left());
    record.answered(response.status(), cause);
    response.map(|reply| reply.recorded(record, http2))
}

/// A turn belongs to a connection: in HTTP/2 there is none for one request after the other. And it is for a front itself,
/// not for whoever stands behind a proxy.
fn asks_for_turn(request: &Request<Incoming>) -> bool {
    request.uri().path() == remote::TURN
        && *request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && !headers::is_forwarded(request.headers())
}

async fn take_turn(
    peer: &Arc<Peer>,
    pool: &Arc<Pool>,
    arrived: Instant,
) -> Result<Response<Reply>, Cause> {
    if pool.roster.is_draining() {
        return Err(Cause::Draining);
    }
    turn::wait(peer, pool, arrived).await?;
    let body = serde_json::json!({"status": "turn"});
    Ok(json(StatusCode::OK, body.to_string()))
}

/// Buffers the body, waits for a worker unless there is `no_wait`, and lets it answer.
async fn forward(
    peer: &Arc<Peer>,
    pool: &Arc<Pool>,
    request: &mut Request<Incoming>,
    prefix: usize,
    record: &mut Record,
    call: &Call,
    no_wait: bool,
) -> Result<Response<Reply>, Cause> {
    let front = &*peer.front;
    let limits = &front.limits;
    // It may be taken away while the body arrives; then there is a place in the queue for it.
    let had_turn = peer.connection.is_front() && peer.turn.is_for(pool);
    let mut session = match &pool.sessions {
        None if front.pools.has_sticky() => {
            // The cookies of a pool further up.
            drop(take_cookies(request.headers_mut()));
            None
        }
        None => None,
        Some(sessions) => Some(Box::new(SessionRequest::new(sessions, request))),
    };
    let upgrade = take_upgrade(request);
    let tunnel = match &upgrade {
        None => None,
        // Before anything is sent to the worker, which would have to be left alone with its half of the tunnel.
        Some(_) => match front.store.descriptors().take_spare() {
            None => return Err(Cause::TooManyConnections),
            some => some,
        },
    };
    let mut request =
        match sendable(peer, pool, request, prefix, record, call, upgrade.as_ref()).await {
            Ok(sendable) => sendable,
            Err(Cause::Overloaded) if no_wait => {
                Box::pin(discard(request.body_mut(), limits)).await;
                return Err(Cause::Overloaded);
            }
            Err(cause) => return Err(cause),
        };
    if let Some(session) = &mut session {
        session.note_terms(&request.headers);
    }
    let common = is_known_to_http_workers(&request.method);
    let arrived = if request.body.is_empty() {
        record.started()
    } else {
        Instant::now()
    };
    let redirects = peer.offer().and_then(Offer::redirects);
    let redirects = redirects.filter(|_| may_be_redirected(&request.method));
    let mut job = match peer.offer() {
        None => None,
        Some(offer) if had_turn => Some(offer.begin_turn()),
        Some(offer) => Some(offer.begin(&pool.table)?),
    };
    let mut ticket = None;
    let mut attempts = 0;
    loop {
        let turn = if had_turn { peer.turn.take() } else { None };
        let (lease, waited) = match turn {
            Some(lease) => (Ok(lease), Duration::ZERO),
            None if no_wait && !had_turn => {
                (queue::acquire_now(&pool.table, ticket), Duration::ZERO)
            }
            None => match &mut session {
                None => queue::acquire(&pool.table, ticket, arrived).await,
                // Boxed: it would make every request to other pools larger.
                Some(session) => Box::pin(session.acquire(pool, ticket, arrived)).await,
            },
        };
        record.queue = record.queue.max(waited);
        let lease = lease?;
        if !common && !matches!(lease.kind(), Some(Kind::Native | Kind::Faucet)) {
            // It would hang up on it.
            return Err(Cause::NotImplemented(
                "the workers do not know the request's method",
            ));
        }
        record.worker = Some(lease.id);
        let remote = lease.remote.is_some();
        let mut in_flight = InFlight::new(lease, &pool.ops);
        if let Some(job) = job.take() {
            in_flight = in_flight.of_job(job);
        }
        if let Some(hold) = session.as_ref().and_then(|session| session.hold()) {
            in_flight = in_flight.of_session(hold);
        }
        let breaks_off = in_flight.breaks_off();
        call.commit(!breaks_off);
        // Only the log asks for it.
        let sent = record.line.is_some().then(Instant::now);
        let outcome = match in_flight.cancellation() {
            None => {
                let unwanted = breaks_off.then(|| BreakOff::new(&pool.ops));
                let outcome = exchange_within(front, pool, in_flight, request).await;
                unwanted.into_iter().for_each(BreakOff::unneeded);
                outcome
            }
            // Boxed: it would make every request to other workers larger.
            Some(cancellation) => {
                let exchange = exchange_within(front, pool, in_flight, request);
                Box::pin(cancellable(exchange, cancellation, call)).await
            }
        };
        record.in_worker = sent.map(|sent| sent.elapsed());
        let (again, unsent) = match outcome {
            Ok(answer) if heads::has_too_many(&answer.headers) => {
                let (worker, most) = (record.worker, heads::MAX_HEADERS);
                tracing::error!(
                    worker,
                    "an answer with more than {most} headers is not passed on"
                );
                return Err(Cause::BadResponse);
            }
            Ok(answer) => {
                let upgrade = upgrade.map(|(client, _)| client).zip(tunnel);
                let mut response = respond(answer, upgrade, limits.idle_timeout, no_wait);
                if let Some(redirects) = redirects {
                    let whose = Whose {
                        ops: pool.ops.clone(),
                        id: record.id.clone(),
                        worker: record.worker,
                    };
                    response = redirect(front, redirects, whose, response);
                }
                if let Some(session) = &mut session {
                    session.tell(response.headers_mut());
                }
                return Ok(response);
            }
            Err(Failed::Lost(cause)) => return Err(cause),
            Err(Failed::Occupied(again, unsent)) => (again, unsent),
            Err(Failed::Unreachable(again, unsent)) => {
                attempts += usize::from(!remote);
                (again, unsent)
            }
        };
        // Nothing is in flight any more: a client that leaves now, or has left, just leaves.
        call.commit(false);
        if call.has_client_left() || attempts == MAX_ATTEMPTS {
            return Err(Cause::WorkerUnreachable);
        }
        if remote
            && pool
                .limits
                .queue_timeout
                .is_some_and(|most| arrived.elapsed() >= most)
        {
            return Err(Cause::QueueTimeout);
        }
        request = unsent;
        ticket = Some(again);
    }
}

/// An exchange that is cancelled when its client leaves.
async fn cancellable<T>(
    exchange: impl Future<Output = T>,
    cancellation: Cancellation,
    call: &Call,
) -> T {
    let mut exchange = pin!(exchange);
    let mut cancellation = Some(cancellation);
    std::future::poll_fn(|cx| {
        let polled = exchange.as_mut().poll(cx);
        // Whoever leaves has this polled once more, in a task of its own.
        if polled.is_pending() && call.has_client_left() {
            if let Some(cancellation) = cancellation.take() {
                cancellation.client_left();
            }
        }
        polled
    })
    .await
}
