//! What must hold for a request before anything is done for it.

use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Version};

use super::authority;
use super::cause::Cause;
use super::request_body::RequestBody;
use crate::heads;

/// Whether a request may be served, by its head alone.
pub fn check(request: &Request<RequestBody>) -> Result<(), Cause> {
    if request.method() == Method::CONNECT {
        return Err(Cause::BadRequest("this server is no forward proxy"));
    }
    let headers = request.headers();
    if heads::has_too_many(headers) {
        return Err(Cause::TooManyHeaders);
    }
    check_target(request)?;
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    match request.version() {
        Version::HTTP_11 if host.is_none() || hosts.next().is_some() => {
            return Err(Cause::BadRequest("a request has exactly one Host header"));
        }
        Version::HTTP_10 if hosts.next().is_some() => {
            return Err(Cause::BadRequest("a request has at most one Host header"));
        }
        Version::HTTP_2 => check_http2(request)?,
        _ => {}
    }
    // It is empty where a client knows no name of ours (RFC 9112, 3.2).
    let named = host.filter(|host| !host.is_empty());
    if named.is_some_and(|host| !authority::is_valid(host.as_bytes())) {
        return Err(Cause::BadRequest("the Host header is not a host"));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_some_and(|first| !chunked(first)) || codings.next().is_some() {
        return Err(Cause::NotImplemented(
            "of all transfer codings, chunked alone is served",
        ));
    }
    Ok(())
}

/// A path, a whole URL, or `*` for OPTIONS (RFC 9112, 3.2).
fn check_target(request: &Request<RequestBody>) -> Result<(), Cause> {
    let uri = request.uri();
    match (uri.scheme(), uri.authority()) {
        (None, Some(_)) => Err(Cause::BadRequest(
            "the request's target is neither a path nor a URL",
        )),
        (_, Some(name)) if !authority::is_valid(name.as_str().as_bytes()) => {
            Err(Cause::BadRequest("the request's authority is not a host"))
        }
        _ if uri.path() == "*" && request.method() != Method::OPTIONS => {
            Err(Cause::BadRequest("only OPTIONS is for the whole server"))
        }
        _ => Ok(()),
    }
}

/// `:authority`, `Host`, or both if they say the same (RFC 9113, 8.3.1).
fn check_http2(request: &Request<RequestBody>) -> Result<(), Cause> {
    let authority = request
        .uri()
        .authority()
        .map(|name| name.as_str().as_bytes());
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    let agreed = match (authority, host) {
        (Some(authority), Some(host)) => authority.eq_ignore_ascii_case(host),
        (None, None) => false,
        _ => true,
    };
    let named = authority.or(host).unwrap_or_default();
    if hosts.next().is_some() || !agreed || named.is_empty() {
        return Err(Cause::BadRequest("a request says once whom it is for"));
    }
    Ok(())
}
