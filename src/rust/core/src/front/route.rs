//! From a request to its pool.

use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::headers;
use super::reply::Reply;
use super::request_body::RequestBody;
use super::Front;
use crate::pool::{Pool, Visit};
use crate::sessions::{cookie_values, Page, Sessions};
use crate::worker::remote;

/// The pool that a request is for, and how much of its path its workers do not see. It is the one that another front names, if
/// one does, or none. What is faucet's own (`own`) goes by that, or else by the whole host's.
pub fn find_pool(
    front: &Front,
    request: &Request<RequestBody>,
    own: bool,
    from_front: bool,
) -> Option<(Visit, usize)> {
    let uri = request.uri();
    let authority = match uri.authority() {
        Some(authority) => Some(authority.as_str().as_bytes()),
        None => request
            .headers()
            .get(header::HOST)
            .map(HeaderValue::as_bytes),
    };
    let named = match from_front {
        true => request.headers().get(remote::POOL),
        false => None,
    };
    let named = named.map(|name| name.to_str().unwrap_or_default());
    let path = match own {
        true => named.unwrap_or("/"),
        false => uri.path(),
    };
    let is_its = |sessions: &Sessions| {
        let (cookies, page) = (cookie_values(request.headers()), page_of(request));
        cookies.iter().any(|cookie| sessions.keeps(cookie, page))
    };
    let pools = &front.pools;
    let (visit, prefix) = pools
        .find_leaving(authority, path, is_its)
        .or_else(|| pools.find(authority, path))
        .or_else(|| match super::grpc::is_call(request) {
            true => pools.find_service(path).map(|visit| (visit, 0)),
            false => None,
        })?;
    // It would be another function's, or nobody's, that has the same beginning.
    if named.is_some_and(|named| *named != **visit.name()) {
        return None;
    }
    let prefix = if visit.keeps_path() { 0 } else { prefix };
    Some((visit, prefix))
}

/// Whether a browser asks for a page.
fn opens_page(request: &Request<RequestBody>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
        && headers::accepts_page(request.headers())
        && !request.headers().contains_key(header::UPGRADE)
}

/// The page that a browser asks for, if it does.
pub fn page_of(request: &Request<RequestBody>) -> Option<Page> {
    opens_page(request).then(|| Page::at(request.uri().path()))
}

/// Sends a browser from `/sales` to `/sales/`, where the page's links lead to what is meant. Only browsers ask for pages.
pub fn slash_added(
    pool: &Pool,
    request: &Request<RequestBody>,
    prefix: usize,
) -> Option<Response<Reply>> {
    let path = request.uri().path();
    if pool.prefix().is_none() || path.len() > prefix {
        return None;
    }
    if !opens_page(request) {
        return None;
    }
    // Relative, so that whatever comes before on the way here stays.
    let last = path.rsplit('/').next().unwrap_or(path);
    let query = request
        .uri()
        .query()
        .map_or(String::new(), |query| format!("?{query}"));
    let location = HeaderValue::try_from(format!("./{last}/{query}")).ok()?;
    let mut response = Response::new(Reply::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, 0.into());
    Some(response)
}
