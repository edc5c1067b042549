//! A request on its way to a worker: its body is there or comes, a lease is waited for, the worker answers.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::HeaderValue;
use hyper::{Request, Response};
use tokio::sync::Notify;

use super::answers::{note_refusals, respond};
use super::cause::Cause;
use super::deadline::{before, deadline_of, exchange_within};
use super::direct::{Elsewhere, Handover};
use super::exchange::Failed;
use super::fetch::{may_be_redirected, redirect, Whose};
use super::in_flight::{BreakOff, Cancellation, InFlight};
use super::incoming::{cause_of, discard, sendable, take_upgrade, Flowing, Prepared, Wishes};
use super::offer::Offer;
use super::queue;
use super::record::{Call, Record};
use super::reply::Reply;
use super::request_body::RequestBody;
use super::service::Peer;
use super::session_request::SessionRequest;
use super::Front;
use crate::body::{BufferError, Buffered, Inflow};
use crate::heads;
use crate::lock::{Lease, Ticket};
use crate::ops::printable;
use crate::ops::status::Kind;
use crate::pool::Pool;
use crate::sessions::take_cookies;
use crate::worker::{is_known_to_http_workers, Worker};

/// How long who sends a body waits for a worker that is about to come, before what comes is taken in all the same.
const STARTING: Duration = Duration::from_secs(5);

/// How many workers of this machine may turn out unreachable before a request gives up. Elsewhere, it is looked for
/// until it has waited for too long.
const MAX_ATTEMPTS: usize = 5;

/// Buffers the body, waits for a worker unless there is `no_wait`, and lets it answer.
pub(super) async fn forward(
    peer: &Arc<Peer>,
    pool: &Arc<Pool>,
    request: &mut Request<RequestBody>,
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
    let deadline = deadline_of(request.headers())?;
    let flow = Flowing::of(request, peer.is_front).filter(|_| pool.limits.streams);
    let mut handover = Handover::of(request, no_wait);
    if let Some(handover) = &mut handover {
        if handover.is_input() {
            peer.connection.let_stall();
        }
        let reached = async { Ok(handover.reach(front, flow.is_some()).await) };
        before(deadline, Box::pin(reached))
            .await?
            .map_err(|why| no_source(record, &why))?;
    }
    let prepared = sendable(
        peer,
        pool,
        request,
        prefix,
        record,
        call,
        Wishes {
            upgrade: upgrade.as_ref(),
            flow,
            deadline,
        },
    );
    let Prepared {
        mut request,
        mut inflow,
    } = match before(deadline, prepared).await {
        Ok(prepared) => prepared,
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
    let arrived = if request.complete().is_some_and(Buffered::is_empty) {
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
    let (mut ticket, mut leased) = (None, None);
    let mut attempts = 0;
    loop {
        let turn = match leased.take() {
            None if had_turn => peer.turn.take(),
            leased => leased,
        };
        let handover = &mut handover;
        let takes = handover
            .as_ref()
            .is_some_and(|handover| handover.is_to_take());
        let kept = handover.as_ref().and_then(|handover| handover.input());
        let kept = kept.cloned();
        let acquire = async {
            match turn {
                Some(lease) => (Ok(lease), Duration::ZERO),
                None if no_wait && (takes || !had_turn) => {
                    (queue::acquire_now(&pool.table, ticket), Duration::ZERO)
                }
                None => match &mut session {
                    None => match &mut inflow {
                        None => queue::acquire(&pool.table, ticket, arrived).await,
                        // Boxed for the same reason as the next.
                        Some(inflow) => {
                            let inflowing =
                                inflowing(front, pool, inflow, kept, (ticket, arrived), true);
                            Box::pin(inflowing).await
                        }
                    },
                    // Boxed: it would make every request to other pools larger.
                    Some(session) => Box::pin(session.acquire(pool, ticket, arrived)).await,
                },
            }
        };
        let (lease, waited) = match deadline {
            None => acquire.await,
            Some(at) => {
                let acquired = Box::pin(tokio::time::timeout_at(at, acquire)).await;
                acquired.unwrap_or_else(|_| (Err(Cause::Timeout), arrived.elapsed()))
            }
        };
        record.queue = record.queue.max(waited);
        let lease = lease?;
        if let Some(handover) = handover {
            let taken = Box::pin(handover.take(front, &record.id, inflow.take())).await;
            inflow = taken.map_err(|why| no_source(record, &why))?;
        }
        if let Some(inflow) = inflow.take() {
            request.body = inflow.into();
        }
        if let Some(handover) = handover {
            record.input = handover.choose(front, pool, lease.worker(), &mut request);
        }
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
                note_refusals(front, pool, &answer.headers, peer.address);
                let kept = match handover {
                    Some(handover) => handover.kept(&answer)?,
                    None => None,
                };
                let upgrade = upgrade.map(|(client, _)| client).zip(tunnel);
                let mut response = respond(answer, upgrade, limits.idle_timeout, no_wait);
                if let Some(handover) = handover {
                    response = handover.keep(front, response);
                }
                if let Some(kept) = kept {
                    response.extensions_mut().insert(kept);
                }
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
            Err(Failed::Occupied(again, unsent)) => (Ok(again), unsent),
            Err(Failed::Unreachable(again, unsent)) => {
                attempts += usize::from(!remote);
                (Ok(again), unsent)
            }
            Err(Failed::Unsourced(lease, unsent, why)) => {
                if let Some(handover) = handover {
                    handover.refused(front, &why);
                }
                (Err(lease), unsent)
            }
        };
        // Nothing is in flight any more: a client that leaves now, or has left, just leaves.
        call.commit(false);
        if call.has_client_left() || attempts == MAX_ATTEMPTS {
            return Err(Cause::WorkerUnreachable);
        }
        request = unsent;
        match again {
            Err(lease) => leased = Some(lease),
            Ok(_) if remote && has_waited(pool, arrived) => return Err(Cause::QueueTimeout),
            Ok(again) => ticket = Some(again),
        }
        if let Some(handover) = handover {
            handover.reconsider(&mut request);
        }
        if let Some(flow) = request.flow() {
            // What comes is taken in again: whoever sends it must not have to wait for us.
            inflow = Some(flow.take_back().ok_or(Cause::WorkerDied)?);
        }
    }
}

/// Whether a request has waited for a worker for as long as it may.
fn has_waited(pool: &Pool, arrived: Instant) -> bool {
    let most = pool.limits.queue_timeout;
    most.is_some_and(|most| arrived.elapsed() >= most)
}

/// The body of a request cannot be had from where it is: whoever has sent that is told why.
fn no_source(record: &mut Record, why: &str) -> Cause {
    let why = HeaderValue::from_str(&printable::one_line(why.to_owned()));
    record.no_source = why.ok();
    Cause::NoSource
}

/// A lease, while what comes of the request's body is taken in: whoever sends that does not wait for a worker, and can be a
/// worker that somebody else waits for. `patient`: not while a worker is about to come that nobody has.
pub(super) async fn inflowing(
    front: &Front,
    pool: &Pool,
    inflow: &mut Inflow,
    kept: Option<Elsewhere>,
    (ticket, arrived): (Option<Ticket>, Instant),
    patient: bool,
) -> (Result<Lease<Worker>, Cause>, Duration) {
    let stop = Notify::new();
    // While one is about to come that nobody has, nobody has to give up another one for it.
    let begun = Instant::now();
    let (memory, most) = (front.limits.body_memory, pool.limits.max_body);
    // Of one that has not come yet nobody has anything, either.
    let capacity = || pool.roster.capacity().max(1) as usize;
    let may_wait = |held| {
        // What is kept elsewhere needs nothing here, and is to come past this server if it can.
        patient
            && (held >= memory || kept.as_ref().is_some_and(Elsewhere::may_stay))
            && pool.table.leases() < capacity()
            && begun.elapsed() < STARTING
    };
    let mut filling = pin!(inflow.fill(&front.store, memory, most, &stop, may_wait));
    let mut acquire = pin!(queue::acquire(&pool.table, ticket, arrived));
    let (lease, waited) = tokio::select! {
        biased;
        acquired = acquire.as_mut() => {
            stop.notify_one();
            match filling.await {
                Ok(()) => acquired,
                Err(error) => (Err(meanwhile(error)), acquired.1),
            }
        }
        filled = filling.as_mut() => match filled {
            Ok(()) => acquire.await,
            Err(error) => (Err(meanwhile(error)), arrived.elapsed()),
        },
    };
    (lease, waited)
}

/// What is wrong with a body that comes while a worker is waited for.
fn meanwhile(error: BufferError) -> Cause {
    match error {
        BufferError::TooLarge(_) => Cause::TooMuchMeanwhile,
        error => cause_of(error),
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
