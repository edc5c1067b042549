//! Every answer that faucet itself gives in place of a worker: whose fault it was, and why.

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue, ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{HeaderMap, StatusCode};

use super::fetch::METHODS;
use crate::body::Abort;
use crate::worker::remote;

/// Names the cause of an error that faucet answered itself.
pub const FAUCET_ERROR: HeaderName = remote::ERROR;

/// Why a request was not answered by a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The client's fault; the text says what.
    BadRequest(&'static str),
    HeaderTimeout,
    BodyTimeout,
    BodyTooLarge,
    /// The same of a body that came while no worker was free.
    TooMuchMeanwhile,
    UriTooLong,
    HeaderTooLarge,
    TooManyHeaders,
    /// No pool has a route for the request.
    NoRoute,
    /// It calls a function that is not served.
    NoFunction,
    /// It shows no token, or another one.
    Unauthorized,
    /// A web page of somebody else's has sent it, or it comes by a name that is not this server's.
    Forbidden,
    /// No answer waits at this address: it was fetched, or has expired.
    Gone,
    /// An answer that waits is there to be fetched.
    MethodNotAllowed,
    /// A client may ask for it, but it is not done here; the text says what.
    NotImplemented(&'static str),
    /// Every worker is busy, and the client, a front, does not want to wait.
    Busy,
    QueueFull,
    QueueTimeout,
    NoWorkers,
    Draining,
    TooManyConnections,
    WorkerDied,
    WorkerUnreachable,
    BadResponse,
    /// The worker lives, but could not finish its answer.
    BrokenOff,
    Timeout,
    /// faucet could not keep a body (no space for a temporary file), or had no file for an answer.
    Storage,
    /// There is neither memory nor a file for a request's body now, as others have them.
    Overloaded,
    /// The file that a worker answered with cannot be read.
    FileUnreadable,
    /// The request's body is elsewhere, and cannot be had from there.
    NoSource,
}

impl Cause {
    /// The value of `Faucet-Error`, and of the `cause` label in the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::HeaderTimeout => "header_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge | Self::TooMuchMeanwhile => "body_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::HeaderTooLarge | Self::TooManyHeaders => "header_too_large",
            Self::NoRoute => "no_route",
            Self::NoFunction => "no_function",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotImplemented(_) => "not_implemented",
            Self::Busy => "busy",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::NoWorkers => "no_workers",
            Self::Draining => "draining",
            Self::TooManyConnections => "too_many_connections",
            Self::WorkerDied => "worker_died",
            Self::WorkerUnreachable => "worker_unreachable",
            Self::BadResponse => "bad_response",
            Self::BrokenOff => "broken_off",
            Self::Timeout => "timeout",
            Self::Storage => "storage",
            Self::Overloaded => "overloaded",
            Self::FileUnreadable => "file_unreadable",
            Self::NoSource => remote::NO_SOURCE,
        }
    }

    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::HeaderTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge | Self::TooMuchMeanwhile => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeaderTooLarge | Self::TooManyHeaders => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::NoRoute | Self::NoFunction => StatusCode::NOT_FOUND,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Gone => StatusCode::GONE,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Busy
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::NoWorkers
            | Self::Draining
            | Self::TooManyConnections
            | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::WorkerDied
            | Self::WorkerUnreachable
            | Self::BadResponse
            | Self::BrokenOff
            | Self::NoSource => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Storage => StatusCode::INSUFFICIENT_STORAGE,
            Self::FileUnreadable => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What is wrong, as a clause.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::BadRequest(what) | Self::NotImplemented(what) => what,
            Self::HeaderTimeout => "the request's head did not arrive in time",
            Self::BodyTimeout => "the request's body stopped arriving",
            Self::BodyTooLarge => "the request's body is larger than this server takes",
            Self::TooMuchMeanwhile => {
                "more of the body came than is kept while no worker is free: it has too few for this"
            }
            Self::UriTooLong => "the request's target is too long",
            Self::HeaderTooLarge => "the request's head is larger than this server takes",
            Self::TooManyHeaders => "the request has more headers than this server takes",
            Self::NoRoute => "no app is served at this path",
            Self::NoFunction => "no such function is served here: GET /list tells which are",
            Self::Unauthorized => "a token is needed: Authorization: Bearer TOKEN",
            Self::Forbidden => {
                "without a token, only programs may ask this, by an address or as localhost"
            }
            Self::Gone => "this address can be used once, and for 20 seconds",
            Self::MethodNotAllowed => "this address is there to be fetched from",
            Self::Busy => "every worker is busy",
            Self::QueueFull => "every worker is busy and the queue is full",
            Self::QueueTimeout => "no worker became free in time",
            Self::NoWorkers => "no worker could be started",
            Self::Draining => "the server is shutting down",
            Self::TooManyConnections => "too many connections",
            Self::WorkerDied => "the worker died while it worked on this request",
            Self::WorkerUnreachable => "no worker could be reached",
            Self::BadResponse => "the worker's answer is not HTTP",
            Self::BrokenOff => "the worker could not finish its answer",
            Self::Timeout => "the worker did not answer in time",
            Self::Storage => "no room to keep the body",
            Self::Overloaded => "no memory and no file is left for the body now",
            Self::FileUnreadable => "the file to answer with cannot be read",
            Self::NoSource => "the request's body cannot be had from where it is",
        }
    }

    /// Seconds after which trying again makes sense.
    fn retry_after(self) -> Option<u32> {
        match self {
            Self::Busy
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::TooManyConnections
            | Self::Overloaded => Some(1),
            Self::NoWorkers | Self::Draining => Some(5),
            _ => None,
        }
    }

    /// Whether no worker has seen anything of the request: a front may send it elsewhere.
    pub fn is_unworked(self) -> bool {
        matches!(
            self,
            Self::Busy
                | Self::QueueFull
                | Self::QueueTimeout
                | Self::NoWorkers
                | Self::Draining
                | Self::Overloaded
                | Self::WorkerUnreachable
        )
    }

    /// Whether the connection has to be closed after this answer: the request's framing is in doubt.
    pub fn closes(self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::HeaderTimeout
                | Self::BodyTimeout
                | Self::BodyTooLarge
                | Self::TooMuchMeanwhile
                | Self::UriTooLong
                | Self::HeaderTooLarge
                | Self::TooManyHeaders
                | Self::NotImplemented(_)
                | Self::Draining
                | Self::TooManyConnections
                | Self::Storage
                | Self::Overloaded
                | Self::Unauthorized
                | Self::Forbidden
        )
    }

    /// The body, shaped like plumber's own errors.
    pub fn body(self) -> Bytes {
        self.body_saying(self.explanation())
    }

    /// The same with another explanation.
    pub fn body_saying(self, explanation: &str) -> Bytes {
        let status = self.status();
        let reason = status.canonical_reason().unwrap_or_default();
        let error = format!("{} - {reason}: {explanation}", status.as_u16());
        serde_json::json!({ "error": error }).to_string().into()
    }

    /// Adds what every such answer carries.
    pub fn describe(self, headers: &mut HeaderMap) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(FAUCET_ERROR, HeaderValue::from_static(self.name()));
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if self == Self::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self == Self::MethodNotAllowed {
            headers.insert(ALLOW, METHODS);
        }
    }

    /// A whole HTTP/1.1 response for a connection where no request could be read, and its body's length.
    pub fn raw_response(self, id: &str) -> (Vec<u8>, u64) {
        let (status, body) = (self.status(), self.body());
        let retry = self
            .retry_after()
            .map_or_else(String::new, |seconds| format!("retry-after: {seconds}\r\n"));
        let mut response = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\nfaucet-error: {}\r\nx-request-id: {}\r\n{retry}content-length: {}\r\nconnection: close\r\n\r\n",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default(),
            self.name(),
            id,
            body.len(),
        )
        .into_bytes();
        response.extend_from_slice(&body);
        (response, body.len() as u64)
    }

    /// The cause behind a status with which hyper itself rejects a head.
    pub fn of_rejected_head(status: u16) -> Self {
        match status {
            414 => Self::UriTooLong,
            431 => Self::HeaderTooLarge,
            _ => Self::BadRequest("the request's head is not valid HTTP"),
        }
    }
}

/// Why an answer broke off.
impl From<Abort> for Cause {
    fn from(why: Abort) -> Self {
        match why {
            Abort::WorkerDied => Self::WorkerDied,
            Abort::BrokenOff => Self::BrokenOff,
            Abort::Timeout => Self::Timeout,
            Abort::Storage => Self::Storage,
            Abort::File => Self::FileUnreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_json_like_plumbers() {
        let body = Cause::QueueFull.body();
        let parsed: serde_json::Value = serde_json::from_slice(&body).expect("valid JSON");
        assert_eq!(
            parsed["error"],
            "503 - Service Unavailable: every worker is busy and the queue is full"
        );
    }
}
