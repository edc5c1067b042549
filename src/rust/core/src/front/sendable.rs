//! A client's request as a worker gets it.

use hyper::header::HeaderValue;
use hyper::{HeaderMap, Method, Request, Uri};

use super::in_flight::InFlight;
use crate::body::Buffered;
use crate::worker::native::{BODY_FILE, REQUEST_NUMBER};
use crate::worker::remote::{NO_WAIT, POOL, WAIT};
use crate::worker::Outgoing;

/// A complete request, ready to be sent, and to be sent again.
pub struct Sendable {
    pub method: Method,
    pub target: Uri,
    pub headers: HeaderMap,
    pub body: Buffered,
}

impl Sendable {
    pub(super) fn request(&self, headers: HeaderMap) -> Request<Outgoing> {
        let body = if self.body.is_empty() {
            Outgoing::Empty
        } else if headers.contains_key(BODY_FILE) {
            Outgoing::Buffered(Box::new(self.body.beginning()))
        } else {
            Outgoing::Buffered(Box::new(self.body.body()))
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = headers;
        request
    }

    /// Adds what only a native worker is told, or a faucet elsewhere.
    pub(super) fn tell(&mut self, in_flight: &mut InFlight) {
        if let Some(remote) = &in_flight.remote {
            self.headers.insert(WAIT, NO_WAIT);
            if let Some(pool) = remote.pool() {
                self.headers.insert(POOL, pool.clone());
            }
        }
        let Some(number) = in_flight.number() else {
            return;
        };
        self.headers.insert(REQUEST_NUMBER, number.into());
        if let Some(rest) = self.body.rest() {
            if let Ok(value) = HeaderValue::try_from(rest.to_string()) {
                self.headers.insert(BODY_FILE, value);
                in_flight.keep(rest);
            }
        }
    }

    /// The next worker may be of another kind.
    pub(super) fn untell(&mut self, in_flight: &InFlight) {
        if in_flight.remote.is_some() {
            self.headers.remove(WAIT);
            self.headers.remove(POOL);
        }
        if in_flight.number().is_some() {
            self.headers.remove(REQUEST_NUMBER);
            self.headers.remove(BODY_FILE);
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::body::Body;

    use super::*;

    #[test]
    fn a_sendable_makes_the_same_request_twice() {
        let sendable = Sendable {
            method: Method::GET,
            target: Uri::from_static("/a?b"),
            headers: HeaderMap::new(),
            body: Buffered::default(),
        };
        for _ in 0..2 {
            let request = sendable.request(HeaderMap::new());
            assert_eq!(request.uri(), "/a?b");
            assert!(request.body().is_end_stream());
        }
    }
}
