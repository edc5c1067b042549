//! What is answered past a hub: which answers are, what the hub says instead, and what a client gets that comes for one.

use std::sync::Arc;

use http_body::Body;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};

use super::answers::rejection;
use super::cause::Cause;
use super::check::check;
use super::headers::{self, X_REQUEST_ID};
use super::one_time::recorded;
use super::record::Call;
use super::redirects::Redirects;
use super::reply::Reply;
use super::request_body::RequestBody;
use super::request_id::new_request_id;
use super::service::Peer;
use super::Front;
use crate::ops::Ops;
use crate::worker::native::STREAM;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");

/// What an answer's address may be asked by.
pub const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// The request that was answered.
#[derive(Clone)]
pub struct Whose {
    pub ops: Arc<Ops>,
    pub id: HeaderValue,
    pub worker: Option<u32>,
}

/// Whether the answer to a request may wait elsewhere. It is there already, so that the 303's GET is right after any method; but
/// HEAD is about the address itself, and to OPTIONS browsers expect no redirect.
pub fn may_be_redirected(method: &Method) -> bool {
    !matches!(*method, Method::HEAD | Method::OPTIONS)
}

/// Whether an answer is worth an address of its own, and of use there: the links of a page lead from where it is.
fn is_for_elsewhere(response: &Response<Reply>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let kind = kind.map(HeaderValue::as_bytes).unwrap_or_default();
    let is_page = kind
        .get(..9)
        .is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/html"));
    let length = response.body().size_hint().exact();
    response.status() == StatusCode::OK && !is_page && length != Some(0)
}

/// Lets an answer wait for its client, whom the hub is to tell where; as it was if it goes through the hub.
pub fn redirect(
    front: &Front,
    redirects: &Arc<Redirects>,
    whose: Whose,
    response: Response<Reply>,
) -> Response<Reply> {
    let descriptors = front.store.descriptors();
    let most = descriptors.room_for_connections(front.limits.max_connections);
    if !is_for_elsewhere(&response) {
        return response;
    }
    let Some(address) = redirects.address(&whose.ops, most) else {
        return response;
    };
    let mut told = HeaderMap::new();
    for (name, value) in response.headers() {
        if *name == header::SET_COOKIE || is_cors(name) {
            told.append(name.clone(), value.clone());
        }
    }
    let location = redirects.keep(address, whose, response);
    told.insert(header::LOCATION, location);
    told.insert(header::CONTENT_LENGTH, 0.into());
    told.insert(header::CACHE_CONTROL, NO_STORE);
    told.insert(header::REFERRER_POLICY, NO_REFERRER);
    let mut response = Response::new(Reply::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    *response.headers_mut() = told;
    response
}

fn is_cors(name: &HeaderName) -> bool {
    name.as_str().starts_with("access-control-")
}

/// What there is to say of an answer that stays where it is; `None` for a method that is not for it.
pub fn without_body(method: &Method, response: &Response<Reply>) -> Option<Response<Reply>> {
    let mut about = Response::new(Reply::empty());
    match *method {
        Method::HEAD => {
            *about.headers_mut() = response.headers().clone();
            let length = response.body().size_hint().exact();
            if let Some(length) = length {
                about
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, length.into());
            }
        }
        Method::OPTIONS => {
            *about.status_mut() = StatusCode::NO_CONTENT;
            about.headers_mut().insert(header::ALLOW, METHODS);
        }
        _ => return None,
    }
    Some(about)
}

/// Lets scripts of the page that was sent here read the answer, as they could where it was asked for: a browser comes only after
/// the hub's answer was for that page. Behind the redirect it names another origin, or none.
fn share(method: &Method, asked: &HeaderMap, headers: &mut HeaderMap) {
    let Some(origin) = asked.get(header::ORIGIN) else {
        return;
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    if *method != Method::OPTIONS {
        return;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    if let Some(names) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
}

/// Answers a client that comes for an answer.
pub fn fetch(
    peer: &Peer,
    redirects: &Redirects,
    mut request: Request<RequestBody>,
    doubtful: Option<Cause>,
    call: &Arc<Call>,
) -> Response<Reply> {
    let front = &peer.front;
    let method = request.method().clone();
    let found = doubtful
        .map_or_else(|| check(&request), Err)
        .and_then(|()| redirects.find(&method, request.uri().path()));
    let whose = match &found {
        Ok((whose, _)) => whose.clone(),
        Err(_) => Whose {
            ops: front.ops.clone(),
            id: headers::given_request_id(request.headers()).unwrap_or_else(new_request_id),
            worker: None,
        },
    };
    let mut record = recorded(peer, &mut request, call, (whose.ops, whose.id), "/");
    record.worker = whose.worker;
    let http2 = request.version() == Version::HTTP_2;
    let (mut response, cause) = match found {
        Ok((_, response)) => (response, None),
        Err(cause) => {
            let head = method == Method::HEAD;
            (rejection(cause, "", head, http2), Some(cause))
        }
    };
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, record.id.clone());
    // The first are the hub's, which has told them, the other one it would have understood.
    headers.remove(header::SET_COOKIE);
    headers.remove(STREAM);
    // It is never asked for again.
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    headers
        .entry(header::REFERRER_POLICY)
        .or_insert(NO_REFERRER);
    if cause.is_none() {
        share(&method, request.headers(), headers);
    }
    record.answered(response.status(), cause);
    response.map(|reply| reply.recorded(record, http2))
}
