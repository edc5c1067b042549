//! What a request is answered with: faucet's own answers, what a worker's become, and what other faucets are told in them.

use std::time::Duration;

use hyper::header::{self, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use super::cause::{Cause, FAUCET_ERROR};
use super::exchange::{Answer, AnswerBody};
use super::headers;
use super::reply::Reply;
use super::request_body::RequestBody;
use super::service::Peer;
use super::{tunnel, Front};
use crate::client_address::ClientAddress;
use crate::descriptors::Descriptor;
use crate::functions::Options;
use crate::ops;
use crate::pool::Pool;
use crate::worker::native::{REFUSED, STREAM};
use crate::worker::remote;

/// Health paths: answered here, whatever the workers do.
pub(super) fn own_answer(peer: &Peer, request: &Request<RequestBody>) -> Response<Reply> {
    let front = &peer.front;
    let path = request.uri().path();
    if path == remote::TURN {
        front.ops.metrics.turn("refused");
        front.fronts.note_stranger(peer.address);
    }
    let (status, body) = ops::answer(path, || front.status()).unwrap_or_else(|| {
        let error = serde_json::json!({"error": "404 - Resource Not Found"});
        (StatusCode::NOT_FOUND, error)
    });
    let body = if request.method() == Method::HEAD {
        String::new()
    } else {
        body.to_string()
    };
    json(status, body)
}

pub(super) fn json(status: StatusCode, body: String) -> Response<Reply> {
    let mut response = Response::new(Reply::whole(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// Adds what another faucet's front wants to know. `worked`: a worker has answered.
pub(super) fn tell_front(
    pool: &Pool,
    response: &mut Response<Reply>,
    cause: Option<Cause>,
    worked: bool,
) {
    let status = response.status();
    let crowded = match cause {
        Some(cause) => cause.is_unworked(),
        // With this status it would say that nobody has worked on it.
        None if !worked || status == StatusCode::SERVICE_UNAVAILABLE => false,
        None if response.body().is_coming() => pool.table.waiting() > 0,
        // The worker is free again, or is someone else's by now.
        None => !pool.table.has_room(),
    };
    let headers = response.headers_mut();
    headers.insert(remote::WORKERS, pool.roster.capacity().into());
    if crowded {
        headers.insert(remote::BUSY, HeaderValue::from_static("1"));
    }
    // Its connection is not closed unasked while it may be sending on it.
    if pool.roster.is_draining() && status != StatusCode::SWITCHING_PROTOCOLS {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Tells another faucet's front that the pool is not here, so that its request may go elsewhere.
pub(super) fn tell_elsewhere(response: &mut Response<Reply>) {
    let headers = response.headers_mut();
    headers.insert(remote::WORKERS, HeaderValue::from_static("0"));
    headers.insert(remote::BUSY, HeaderValue::from_static("1"));
}

/// `path` is the request's.
pub(super) fn rejection(cause: Cause, path: &str, head: bool, http2: bool) -> Response<Reply> {
    let body = match cause {
        Cause::NoFunction => {
            let name = called(path).unwrap_or_default();
            cause.body_saying(&format!(
                "no function `{name}` is served here: GET /list tells which are"
            ))
        }
        cause => cause.body(),
    };
    let length = body.len();
    let mut response = Response::new(if head {
        Reply::empty()
    } else {
        Reply::whole(body)
    });
    *response.status_mut() = cause.status();
    let headers = response.headers_mut();
    cause.describe(headers);
    headers.insert(header::CONTENT_LENGTH, length.into());
    if cause.closes() && !http2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The name of the function that is called by a path, as far as names go.
pub(super) fn called(path: &str) -> Option<String> {
    const LONGEST: usize = 64;
    let rest = path.strip_prefix("/functions/")?;
    let name = rest.split('/').next().filter(|name| !name.is_empty())?;
    let decoded = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    let mut shown: String = decoded.chars().take(LONGEST).collect();
    if shown.len() < decoded.len() {
        shown.push_str("...");
    }
    Some(shown)
}

/// What is wrong with a call's options, for a function that has told what it takes; `None` if nothing is, or if that is for its
/// worker to say.
pub(super) fn option_refused(
    pool: &Pool,
    request: &Request<RequestBody>,
) -> Option<Response<Reply>> {
    let signature = pool.roster.signature()?;
    let query = request.uri().query().unwrap_or_default();
    let (error, option) = match Options::parse(query) {
        Err(error) => (error.to_string(), None),
        Ok(options) => {
            let mismatch = signature.check(&options).err()?;
            (mismatch.to_string(), Some(mismatch.option().to_owned()))
        }
    };
    let body = serde_json::json!({"error": error, "option": option}).to_string();
    let length = body.len();
    let body = if request.method() == Method::HEAD {
        String::new()
    } else {
        body
    };
    let mut response = json(StatusCode::BAD_REQUEST, body);
    let headers = response.headers_mut();
    headers.insert(FAUCET_ERROR, HeaderValue::from_static(remote::BAD_OPTION));
    headers.insert(header::CONTENT_LENGTH, length.into());
    Some(response)
}

/// Tells whoever keeps functions what a worker has refused.
pub(super) fn note_refusals(
    front: &Front,
    pool: &Pool,
    headers: &HeaderMap,
    client: ClientAddress,
) {
    if let Some(what) = headers.get(REFUSED) {
        if let Some(management) = front.management.get() {
            management.refused_in_worker(pool, what, client);
        }
    }
}

pub(super) fn respond(
    answer: Answer,
    upgrade: Option<(OnUpgrade, Descriptor)>,
    patience: Option<Duration>,
    for_front: bool,
) -> Response<Reply> {
    let mut headers = answer.headers;
    let error = remote::error_of_function(&headers);
    if matches!(answer.body, AnswerBody::Tunnel(..)) {
        headers::strip_ours(&mut headers);
    } else {
        headers::strip_response(&mut headers);
    }
    if let Some(error) = error {
        headers.insert(remote::ERROR, error);
    }
    let reply = match answer.body {
        AnswerBody::Piece(chunk) => Reply::whole(chunk),
        AnswerBody::Pieces(pieces, trailers) => Reply::pieces(pieces, trailers),
        AnswerBody::Coming(reader) => Reply::spool(reader),
        AnswerBody::Streaming(reader) => {
            if for_front {
                headers.insert(STREAM, HeaderValue::from_static("1"));
            }
            Reply::spool(reader)
        }
        AnswerBody::File(file) => Reply::file(file),
        AnswerBody::Tunnel(worker, guard, session) => {
            if let Some((client, descriptor)) = upgrade {
                tokio::spawn(tunnel::run(
                    client, *worker, descriptor, guard, session, patience,
                ));
            }
            Reply::empty()
        }
    };
    let mut response = Response::new(reply);
    *response.status_mut() = answer.status;
    *response.headers_mut() = headers;
    response
}
