//! Calls of a service that speaks gRPC itself: they are passed on as they come, in both directions, with their trailers. A
//! call takes its lease before its first message is read, as nobody here knows when it has said enough, and gives it back with
//! the last byte of its answer, or when either side leaves: then its stream is reset, by which a service knows.
//!
//! A proxy passes a call on to an agent, which passes it on to the service. An agent that has others to serve first refuses a
//! call before it reads any of it, and it goes elsewhere, or there again once it is its turn.

mod answer;
mod input;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{HeaderValue, TE};
use hyper::{HeaderMap, Method, Request, Response, Uri};
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::answer::Answer;
use self::input::{Input, Outgoing};
use super::arriving::Arriving;
use super::cause::{Cause, FAUCET_ERROR};
use super::forward::inflowing;
use super::in_flight::{BreakOff, InFlight};
use super::record::Record;
use super::reply::Reply;
use super::request_body::RequestBody;
use super::service::Peer;
use super::{grpc, headers, queue};
use crate::body::{Flow, Inflow};
use crate::lock::{Lease, Ticket};
use crate::pool::Pool;
use crate::worker::remote::{self, is_refusal};
use crate::worker::{CallBody, CallSender, Connection, Worker};

/// What came of one attempt to have a worker answer a call.
enum Outcome {
    Answered(Box<Answered>),
    /// It has done nothing with it, and is set aside: ask again with this ticket.
    Again(Ticket),
}

struct Answered {
    response: Response<Incoming>,
    in_flight: InFlight,
    /// Held by whoever waits for the answer.
    guard: oneshot::Sender<()>,
}

/// Passes a call on, and its answer back.
pub async fn pass_through(
    peer: &Peer,
    pool: &Arc<Pool>,
    request: &mut Request<RequestBody>,
    prefix: usize,
    record: &mut Record,
    no_wait: bool,
) -> Result<Response<Reply>, Cause> {
    if !grpc::is_call(request) {
        return Err(Cause::NotImplemented(
            "this is a service of gRPC, and is called by that",
        ));
    }
    let started = record.started();
    let left = grpc::timeout(request.headers()).map_err(Cause::BadRequest)?;
    let own = left.map(|left| Instant::from_std(started) + left);
    let turn = request.headers().get(remote::TURN_NAME);
    let mut turn = turn
        .filter(|_| no_wait)
        .and_then(|name| peer.front.fronts.take_turn(name, pool));
    let (call, mut inflow) = Call::new(peer, pool, request, prefix, record)?;
    let mut ticket = None;
    loop {
        let (lease, waited) = match turn.take() {
            Some(lease) => (Ok(lease), Duration::ZERO),
            None if no_wait => (queue::acquire_now(&pool.table, ticket), Duration::ZERO),
            None => by(own, call.wait(&mut inflow, ticket, started)).await?,
        };
        record.queue = record.queue.max(waited);
        let lease = lease?;
        record.worker = Some(lease.id);
        let limit = pool.limits.timeout.map(|limit| Instant::now() + limit);
        let deadline = own.into_iter().chain(limit).min();
        let unwanted = BreakOff::new(&pool.ops);
        let flow = inflow.flow();
        let outcome = call.send(lease, &flow, deadline).await;
        unwanted.unneeded();
        match outcome? {
            Outcome::Answered(answered) => {
                let Answered {
                    response,
                    in_flight,
                    guard,
                } = *answered;
                let (mut parts, body) = response.into_parts();
                // It is an agent's word, and no service's.
                let error = parts
                    .headers
                    .remove(FAUCET_ERROR)
                    .filter(|_| pool.keeps_path());
                headers::strip_response(&mut parts.headers);
                parts
                    .headers
                    .extend(error.map(|error| (FAUCET_ERROR, error)));
                let answer = Answer::new(body, in_flight, deadline, guard);
                return Ok(Response::from_parts(parts, answer.into_reply()));
            }
            Outcome::Again(again) => ticket = Some(again),
        }
        // It has been read of, though it was refused.
        inflow = flow.take_back().ok_or(Cause::BrokenOff)?;
        let most = pool.limits.queue_timeout;
        if most.is_some_and(|most| started.elapsed() >= most) {
            return Err(Cause::QueueTimeout);
        }
    }
}

/// What is there by a deadline.
async fn by<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Cause> {
    match deadline {
        None => Ok(work.await),
        Some(at) => {
            let work = tokio::time::timeout_at(at, work);
            work.await.map_err(|_| Cause::Timeout)
        }
    }
}

/// A call as a worker will see it.
struct Call<'a> {
    peer: &'a Peer,
    pool: &'a Arc<Pool>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    input: Input,
}

impl<'a> Call<'a> {
    fn new(
        peer: &'a Peer,
        pool: &'a Arc<Pool>,
        request: &mut Request<RequestBody>,
        prefix: usize,
        record: &mut Record,
    ) -> Result<(Self, Inflow), Cause> {
        let uri = target(pool, request.uri().path(), prefix)?;
        let mut given = std::mem::take(request.headers_mut());
        headers::strip_request(&mut given, true);
        record.client = headers::forward(
            &mut given,
            &peer.front.trusted,
            peer.offer().is_some(),
            peer.address,
            &peer.address_text,
            &peer.scheme,
        );
        given.insert(headers::X_REQUEST_ID, record.id.clone());
        // Without it there would be no trailers.
        given.insert(TE, HeaderValue::from_static("trailers"));
        let body = std::mem::replace(request.body_mut(), RequestBody::empty());
        let patience = peer.front.limits.idle_timeout;
        // It has its patience while somebody reads it.
        let body = Arriving::new(body, peer.connection.clone(), None);
        let (input, inflow) = Input::of(body, patience);
        let call = Self {
            peer,
            pool,
            method: request.method().clone(),
            uri,
            headers: given,
            input,
        };
        Ok((call, inflow))
    }

    /// Waits for a worker, and takes in what comes meanwhile: other calls on the same connection could not go on if nobody did.
    async fn wait(
        &self,
        inflow: &mut Inflow,
        ticket: Option<Ticket>,
        arrived: std::time::Instant,
    ) -> (Result<Lease<Worker>, Cause>, Duration) {
        self.input.set_waits(true);
        let (lease, waited) = inflowing(
            &self.peer.front,
            self.pool,
            inflow,
            None,
            (ticket, arrived),
            false,
        )
        .await;
        self.input.set_waits(false);
        (
            lease.map_err(|cause| self.input.broken().unwrap_or(cause)),
            waited,
        )
    }

    /// Has the worker of a lease answer.
    async fn send(
        &self,
        lease: Lease<Worker>,
        flow: &Flow,
        deadline: Option<Instant>,
    ) -> Result<Outcome, Cause> {
        let mut in_flight = InFlight::new(lease, &self.pool.ops);
        let turn = match self.pool.keeps_path() {
            true => turn_of(&in_flight),
            false => None,
        };
        let had_turn = turn.is_some();
        let descriptors = self.peer.front.store.descriptors();
        let connecting = in_flight.service.sender(in_flight.worker(), descriptors);
        let Ok(mut sender) = by(deadline, connecting).await? else {
            return self.unreachable(in_flight);
        };
        let (guard, left) = oneshot::channel();
        if self.pool.keeps_path() {
            flow.keep(&self.peer.front.store);
        }
        let body = Box::pin(Outgoing::new(flow.clone(), left));
        let request = self.request(body, deadline, turn.as_ref(), &in_flight);
        let sent = by(deadline, sender.try_send_request(request)).await?;
        let response = match sent {
            Ok(response) => response,
            Err(mut failed) => {
                return match failed.take_message() {
                    // No byte of it was sent.
                    Some(_) => self.unreachable(in_flight),
                    None => Err(self.failed(in_flight, &sender)),
                };
            }
        };
        // A turn was one until here.
        drop(turn);
        if self.pool.keeps_path() {
            in_flight.note(response.headers());
            if is_refusal(response.status(), response.headers()) {
                return Ok(Outcome::Again(in_flight.occupied(had_turn)));
            }
        }
        flow.taken();
        Ok(Outcome::Answered(Box::new(Answered {
            response,
            in_flight,
            guard,
        })))
    }

    /// Nothing was sent: others are looked for, if there may be any.
    fn unreachable(&self, in_flight: InFlight) -> Result<Outcome, Cause> {
        match self.pool.keeps_path() {
            true => Ok(Outcome::Again(in_flight.broke_off())),
            false => {
                in_flight.broke_off();
                Err(Cause::WorkerUnreachable)
            }
        }
    }

    /// There is no answer, nor the head of one.
    fn failed(&self, in_flight: InFlight, sender: &CallSender) -> Cause {
        match self.input.broken() {
            Some(why) => why,
            None if self.pool.keeps_path() && sender.is_closed() => {
                in_flight.broke_off();
                Cause::WorkerDied
            }
            // Whether the service lives, its next call finds out.
            None => Cause::BrokenOff,
        }
    }

    fn request(
        &self,
        body: CallBody,
        deadline: Option<Instant>,
        turn: Option<&Connection>,
        worker: &Worker,
    ) -> Request<CallBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        let mut headers = self.headers.clone();
        if let Some(at) = deadline {
            headers.insert("grpc-timeout", left_until(at));
        }
        if self.pool.keeps_path() {
            if let Some(remote) = &worker.remote {
                remote.tell(&mut headers);
            }
            if let Some(name) = turn.and_then(Connection::turn_name) {
                headers.insert(remote::TURN_NAME, name.clone());
            }
        }
        *request.headers_mut() = headers;
        request
    }
}

/// The connection that a turn was given to, if one was: it is kept until the call has come there.
fn turn_of(worker: &Worker) -> Option<Connection> {
    let (mut turn, mut others) = (None, Vec::new());
    while let Some(connection) = worker.take_connection() {
        match connection.has_turn() {
            true => {
                turn = Some(connection);
                break;
            }
            false => others.push(connection),
        }
    }
    for connection in others {
        worker.keep_connection(connection);
    }
    turn
}

/// Where a call goes.
fn target(pool: &Pool, path: &str, prefix: usize) -> Result<Uri, Cause> {
    const NO_METHOD: Cause = Cause::BadRequest("a call's path is /package.Service/Method");
    let rest = path.get(prefix..).unwrap_or_default();
    let is_method = rest.get(1..).is_some_and(|path| path.contains('/'));
    if !is_method {
        return Err(NO_METHOD);
    }
    // An agent may have another function of the same service: it is told which one is meant.
    let named = pool.keeps_path() && !rest.starts_with(&**pool.name());
    let path = match named {
        true => format!("{}{rest}", pool.name()),
        false => rest.to_owned(),
    };
    let host = pool.destination().and_then(|to| to.host.to_str().ok());
    Uri::builder()
        .scheme("http")
        .authority(host.unwrap_or("localhost"))
        .path_and_query(path)
        .build()
        .map_err(|_| NO_METHOD)
}

/// As `grpc-timeout` has it, in milliseconds or, if these are more than fit, in seconds.
fn left_until(at: Instant) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let left: Duration = at.saturating_duration_since(Instant::now());
    let text = match left.as_millis() {
        millis if millis <= MOST => format!("{millis}m"),
        _ => format!("{}S", u128::from(left.as_secs()).min(MOST)),
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("0m"))
}
