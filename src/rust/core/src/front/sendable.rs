//! A client's request as a worker gets it.

use hyper::header::{HeaderValue, EXPECT};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use tokio::time::Instant;

use super::cause::Cause;
use super::deadline::{deadline_value, DEADLINE};
use super::in_flight::InFlight;
use crate::body::{Buffered, Flow, FlowFailed, Inflow};
use crate::worker::native::{BODY_FILE, FLOW, REQUEST_NUMBER};
use crate::worker::remote::{KEEP, KEEP_IT, PASS_IT_ON, POOL, WAIT};
use crate::worker::Outgoing;

/// The body of a request to a worker.
pub enum SendableBody {
    Complete(Buffered),
    /// It comes meanwhile.
    Flowing(Flow),
}

/// A request, ready to be sent, and to be sent again unless something of a flowing body was taken.
pub struct Sendable {
    pub method: Method,
    pub target: Uri,
    pub headers: HeaderMap,
    pub body: SendableBody,
    /// When nobody waits for the answer any more.
    pub deadline: Option<Instant>,
    /// What becomes of an answer that is a stage's input.
    pub onward: Option<Onward>,
}

/// How a stage of a chain gets what the one before it streams.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Onward {
    /// It is kept at its worker, an agent, for whoever takes it.
    Kept,
    /// It comes here first.
    Passed,
}

impl From<Inflow> for SendableBody {
    fn from(inflow: Inflow) -> Self {
        match inflow.complete() {
            Some(body) => Self::Complete(body),
            None => Self::Flowing(inflow.flow()),
        }
    }
}

const CONTINUE: HeaderValue = HeaderValue::from_static("100-continue");

impl Sendable {
    /// Its body, if that is there already.
    pub fn complete(&self) -> Option<&Buffered> {
        match &self.body {
            SendableBody::Complete(body) => Some(body),
            SendableBody::Flowing(_) => None,
        }
    }

    /// Its body, if that comes meanwhile.
    pub fn flow(&self) -> Option<&Flow> {
        match &self.body {
            SendableBody::Complete(_) => None,
            SendableBody::Flowing(flow) => Some(flow),
        }
    }

    /// Whether it can be sent again.
    pub fn is_whole(&self) -> bool {
        self.flow().map_or(true, |flow| !flow.has_begun())
    }

    /// Why its body has not come to its end, if that is so.
    pub fn failed(&self) -> Option<Cause> {
        Some(match self.flow()?.failed()? {
            FlowFailed::Broken => Cause::BadRequest("the request's body broke off"),
            FlowFailed::Stalled => Cause::BodyTimeout,
        })
    }

    pub(super) fn request(&self, headers: HeaderMap) -> Request<Outgoing> {
        let body = match &self.body {
            SendableBody::Complete(body) if body.is_empty() => Outgoing::Empty,
            SendableBody::Complete(body) if headers.contains_key(BODY_FILE) => {
                Outgoing::Buffered(Box::new(body.beginning()))
            }
            SendableBody::Complete(body) => Outgoing::Buffered(Box::new(body.body())),
            SendableBody::Flowing(flow) => Outgoing::Flowing(flow.clone()),
        };
        let mut request = Request::new(body);
        if let (SendableBody::Flowing(flow), true) = (&self.body, headers.contains_key(EXPECT)) {
            // Whoever refuses it must have had nothing of it: others are to have it whole.
            flow.shut();
            let flow = flow.clone();
            hyper::ext::on_informational(&mut request, move |told| {
                if told.status() == StatusCode::CONTINUE {
                    flow.open();
                }
            });
        }
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = headers;
        request
    }

    /// Adds what only a native worker is told, or a faucet elsewhere.
    pub(super) fn tell(&mut self, in_flight: &mut InFlight) {
        if let Some(at) = self.deadline {
            self.headers.insert(DEADLINE, deadline_value(at));
        }
        if let SendableBody::Flowing(flow) = &self.body {
            self.headers.insert(FLOW, HeaderValue::from_static("1"));
            in_flight.hand_on(flow.clone());
        }
        if let Some(remote) = &in_flight.remote {
            if self.flow().is_some() {
                self.headers.insert(EXPECT, CONTINUE);
            }
            match self.onward {
                None => {}
                Some(Onward::Kept) => drop(self.headers.insert(KEEP, KEEP_IT)),
                Some(Onward::Passed) => drop(self.headers.insert(KEEP, PASS_IT_ON)),
            }
            remote.tell(&mut self.headers);
        }
        let Some(number) = in_flight.number() else {
            return;
        };
        self.headers.insert(REQUEST_NUMBER, number.into());
        // Another user could not open it.
        let rest = match in_flight.foreign_user() {
            None => self.complete().and_then(Buffered::rest),
            Some(_) => None,
        };
        if let Some(rest) = rest {
            if let Ok(value) = HeaderValue::try_from(rest.to_string()) {
                self.headers.insert(BODY_FILE, value);
                in_flight.keep(rest);
            }
        }
    }

    /// The next worker may be of another kind.
    pub(super) fn untell(&mut self, in_flight: &InFlight) {
        self.headers.remove(FLOW);
        if in_flight.remote.is_some() {
            self.headers.remove(WAIT);
            self.headers.remove(KEEP);
            self.headers.remove(POOL);
            self.headers.remove(EXPECT);
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
            body: SendableBody::Complete(Buffered::default()),
            deadline: None,
            onward: None,
        };
        for _ in 0..2 {
            let request = sendable.request(HeaderMap::new());
            assert_eq!(request.uri(), "/a?b");
            assert!(request.body().is_end_stream());
        }
    }
}
