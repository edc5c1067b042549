//! A client's request, from its head to the head of its response.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::Body;
use hyper::header::{HeaderValue, EXPECT};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::answers::{
    called, json, option_refused, own_answer, rejection, tell_elsewhere, tell_front,
};
use super::cause::{Cause, FAUCET_ERROR};
use super::check::check;
use super::connection_state::ConnectionState;
use super::fetch::fetch;
use super::forward::forward;
use super::grpc::CallStatus;
use super::headers::{self, X_REQUEST_ID};
use super::incoming::{discard, Flowing};
use super::invoke::{self, invoke};
use super::management::manage;
use super::offer::Offer;
use super::pass_through::pass_through;
use super::record::{Call, Record};
use super::redirects::Redirects;
use super::reply::Reply;
use super::request_body::RequestBody;
use super::request_id::new_request_id;
use super::route::{find_pool, slash_added};
use super::rpc::Caller;
use super::turn::{self, ConnectionTurn};
use super::within::Origin;
use super::{direct, grpc, Front};
use crate::client_address::ClientAddress;
use crate::ops;
use crate::pool::Pool;
use crate::traces::{self, Span, Traces};
use crate::worker::remote;

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
    pub fn new<B>(peer: Arc<Peer>, request: Request<B>, doubtful: Option<Cause>) -> Self
    where
        B: Into<RequestBody>,
    {
        let http2 = request.version() == Version::HTTP_2;
        let request = request.map(|body| {
            let body: RequestBody = body.into();
            match http2 {
                true => body.of_stream(),
                false => body,
            }
        });
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
    mut request: Request<RequestBody>,
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
    if own && direct::is_for(&request) {
        return direct::give(&peer, request, doubtful, &call);
    }
    let invoked = request.uri().path() == invoke::PATH;
    let http2 = request.version() == Version::HTTP_2;
    let management = front
        .management
        .get()
        .filter(|management| invoked || management.is_for(request.uri().path()));
    let call_by_grpc = http2 && grpc::is_call(&request);
    let rpc = match http2 {
        true => front
            .rpc
            .get()
            .filter(|rpc| rpc.is_for(request.uri().path())),
        false => None,
    };
    let found = match (management, rpc) {
        (None, None) => find_pool(front, &request, own, peer.is_front),
        _ => None,
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
    record.grpc = call_by_grpc.then(CallStatus::default);
    if front.ops.access.is_on() {
        record.line = Some((request.method().clone(), request.uri().clone()));
    }
    if let Some(traces) = &front.traces {
        let traced = !turn && !own && (invoked || found.is_some());
        record.span = traced.then(|| begin_span(traces, &request)).flatten();
    }
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
        (Ok(()), None) => match (management, rpc) {
            // Boxed: it would make every other request larger.
            (Some(management), _) if invoked => {
                let span = record.span.as_deref_mut();
                Box::pin(invoke(&peer, &**management, &mut request, &record.id, span)).await
            }
            (Some(management), _) => {
                Box::pin(manage(&peer, &**management, &mut request, &call)).await
            }
            (None, Some(rpc)) => {
                let id = record.id.clone();
                request.headers_mut().insert(X_REQUEST_ID, id);
                let caller = Caller {
                    front: front.clone(),
                    connection: peer.connection.clone(),
                    origin: Origin::of(&peer),
                };
                let call = std::mem::replace(&mut request, Request::new(RequestBody::empty()));
                Ok(rpc.serve(caller, call).await)
            }
            (None, None) => {
                if names_pool && is_sending(&request) {
                    Box::pin(discard(request.body_mut(), &front.limits)).await;
                }
                match front.management.get().and(called(request.uri().path())) {
                    Some(_) => Err(Cause::NoFunction),
                    None => Err(Cause::NoRoute),
                }
            }
        },
        (Ok(()), Some((visit, _))) if visit.roster.is_draining() => {
            if no_wait && is_sending(&request) {
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
                    if no_wait && is_sending(&request) {
                        // Its front goes on with the connection.
                        Box::pin(discard(request.body_mut(), &front.limits)).await;
                    }
                    Ok(response)
                }
                Ok(None) if visit.is_grpc() => {
                    let passed =
                        pass_through(&peer, visit, &mut request, *prefix, &mut record, no_wait);
                    Box::pin(passed).await
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
        Err(cause) => {
            let rpc = front.rpc.get().filter(|_| call_by_grpc);
            let response = match rpc {
                Some(rpc) => rpc.refuse(cause),
                None => rejection(cause, request.uri().path(), head, http2),
            };
            (response, Some(cause))
        }
    };
    if turn || no_wait {
        let worked = cause.is_none() && record.worker.is_some();
        if let Some(pool) = pool {
            tell_front(pool, &mut response, cause, worked);
        } else if names_pool && matches!(cause, Some(Cause::NoRoute | Cause::NoFunction)) {
            // It knows that others have it.
            tell_elsewhere(&mut response);
        }
    }
    if let Some(why) = record.no_source.take() {
        response.headers_mut().insert(remote::SOURCE, why);
    }
    if matches!(cause, Some(Cause::Busy | Cause::NoSource)) {
        // Nothing came of it here, and it is no news to those who read the log.
        record.line = None;
        record.span = None;
        record.grpc = None;
    }
    // Otherwise it is no gRPC that it is answered with.
    record.grpc = record.grpc.filter(|_| response.status() == StatusCode::OK);
    if let Some(span) = &mut record.span {
        span.note_cause(response.headers().get(FAUCET_ERROR));
    }
    response
        .headers_mut()
        .insert(X_REQUEST_ID, record.id.clone());
    // It is nobody's fault then, and nobody hears of it.
    let cause = cause.filter(|_| !call.has_client_left());
    record.answered(response.status(), cause);
    record.note_trailers(response.headers());
    response.map(|reply| reply.recorded(record, http2))
}

/// What a collector is told of a request, unless that is in a trace that nobody records.
fn begin_span(traces: &Arc<Traces>, request: &Request<RequestBody>) -> Option<Box<Span>> {
    let kind = match request.extensions().get::<Flowing>() {
        Some(_) => traces::Kind::Internal,
        None => traces::Kind::Server,
    };
    traces.begin(request.headers(), request.method(), kind)
}

/// Whether its client is sending its body, and goes on with the connection behind it. One that waits for a word before it does is
/// not, and needs none.
fn is_sending(request: &Request<RequestBody>) -> bool {
    request.version() != Version::HTTP_2
        && !request.body().is_end_stream()
        && !request.headers().contains_key(EXPECT)
}

/// A turn belongs to a connection: in HTTP/2 there is none for one request after the other. And it is for a front itself,
/// not for whoever stands behind a proxy.
fn asks_for_turn(request: &Request<RequestBody>) -> bool {
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
    let name = turn::wait(peer, pool, arrived).await?;
    let body = serde_json::json!({"status": "turn"});
    let mut response = json(StatusCode::OK, body.to_string());
    if let Some(name) = name {
        response.headers_mut().insert(remote::TURN_NAME, name);
    }
    Ok(response)
}
