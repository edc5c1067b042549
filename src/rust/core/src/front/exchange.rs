//! One request on one worker: from the lease to the last byte of the response.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderMap, HeaderValue, CONTENT_LENGTH, UPGRADE};
use hyper::http::response::Parts;
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, Uri};

use super::cause::Cause;
use super::flight::Flight;
use super::pump::{pump, Deadline, Pace};
use crate::body::{spool, Buffered, FileBody, SpoolReader};
use crate::environment::SystemError;
use crate::lock::Ticket;
use crate::worker::native::{BODY_FILE, FILE, REQUEST_NUMBER, STREAM};
use crate::worker::remote::{is_refusal, skip, NO_WAIT, WAIT};
use crate::worker::{Connection, Outgoing, Remote, Report, SendFailed, TunnelGuard, Worker};

/// How long the few bytes behind a refusal may take.
const SKIP: Duration = Duration::from_secs(1);

/// A complete request, ready to be sent, and to be sent again.
pub struct Sendable {
    pub method: Method,
    pub target: Uri,
    pub headers: HeaderMap,
    pub body: Buffered,
}

impl Sendable {
    fn request(&self, headers: HeaderMap) -> Request<Outgoing> {
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
    fn tell(&mut self, flight: &mut Flight) {
        if flight.remote.is_some() {
            self.headers.insert(WAIT, NO_WAIT);
        }
        let Some(number) = flight.number() else {
            return;
        };
        self.headers.insert(REQUEST_NUMBER, number.into());
        if let Some(rest) = self.body.rest() {
            if let Ok(value) = HeaderValue::try_from(rest.to_string()) {
                self.headers.insert(BODY_FILE, value);
                flight.keep(rest);
            }
        }
    }

    /// The next worker may be of another kind.
    fn untell(&mut self, flight: &Flight) {
        if flight.remote.is_some() {
            self.headers.remove(WAIT);
        }
        if flight.number().is_some() {
            self.headers.remove(REQUEST_NUMBER);
            self.headers.remove(BODY_FILE);
        }
    }
}

/// What a worker answered.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: AnswerBody,
}

pub enum AnswerBody {
    /// Here already, in one piece, and the lease is given back.
    Piece(Bytes),
    /// The same in several.
    Pieces(VecDeque<Bytes>, Option<HeaderMap>),
    /// On its way; a task of its own holds the flight.
    Coming(SpoolReader),
    /// The same, written bit by bit for a client that listens.
    Streaming(SpoolReader),
    /// Open, and the lease is given back.
    File(FileBody),
    /// `101`: the lease is given back, the tunnel counted.
    Tunnel(Box<Upgraded>, TunnelGuard),
}

/// Why there is no answer.
pub enum Failed {
    /// Nothing was sent, and the worker is set aside: ask again with this ticket.
    Unreachable(Ticket, Box<Sendable>),
    /// The faucet there has refused it without working on it, and is set aside: the same.
    Occupied(Ticket, Box<Sendable>),
    /// The worker may have worked on it: the client has to know.
    Lost(Cause),
}

/// Sends `request` to the worker of `flight` and returns its answer. Whoever starts this must let it
/// run to its end, whatever becomes of the client: it holds the flight.
///
/// `deadline` limits bodies that are still coming when this returns.
pub async fn exchange(
    mut flight: Flight,
    mut request: Box<Sendable>,
    body_memory: u64,
    deadline: Option<Deadline>,
) -> Result<Answer, Failed> {
    let may_switch = request.headers.contains_key(UPGRADE);
    request.tell(&mut flight);
    let (mut connection, response) = match send(&flight, &mut request).await {
        Ok(sent) => sent,
        Err(None) => {
            flight.report(Report::Unreachable);
            request.untell(&flight);
            return Err(Failed::Unreachable(flight.suspend(), request));
        }
        Err(Some(Cause::WorkerDied)) => return Err(died(flight)),
        Err(Some(cause)) => return Err(nonsense(flight, cause)),
    };

    if flight.remote.is_some() {
        flight.note(response.headers());
        if is_refusal(response.status(), response.headers()) {
            return Err(Box::pin(refused(flight, connection, response, request)).await);
        }
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if !may_switch {
            return Err(nonsense(flight, Cause::BadResponse));
        }
        return Box::pin(switch(flight, connection, response)).await;
    }

    // httpuv sends a body where there must be none (to HEAD, at least); those bytes must not meet
    // the next response.
    let bodiless = request.method == Method::HEAD
        || matches!(
            response.status(),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    let (parts, mut body) = response.into_parts();
    let native = flight.number().is_some();
    if native && parts.headers.contains_key(FILE) {
        let head = request.method == Method::HEAD;
        return Box::pin(from_file(flight, connection, parts, body, head)).await;
    }
    let length = body.size_hint().exact();
    // faucet's server knows what HEAD is, and when it streams.
    let ours = native || flight.remote.as_ref().is_some_and(Remote::is_faucet);
    let streamed = ours && !bodiless && parts.headers.contains_key(STREAM);
    let body = if !streamed && length.is_some_and(|length| length <= body_memory) {
        match whole(&mut connection, &mut body).await {
            Ok(body) => {
                flight.landed(connection, bodiless && !ours).await;
                body
            }
            Err(_) => return Err(died(flight)),
        }
    } else {
        let (writer, reader) = spool(body_memory, length);
        let (pace, answer) = if streamed {
            let pace = Pace::Client(deadline.map(Deadline::renewed));
            (pace, AnswerBody::Streaming(reader))
        } else {
            (Pace::Worker(deadline), AnswerBody::Coming(reader))
        };
        tokio::spawn(pump(flight, connection, body, writer, pace));
        answer
    };
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    })
}

/// Gets the request to the worker and a head back. `Err(None)`: nothing was sent, and the request is
/// as it was.
async fn send(
    worker: &Worker,
    request: &mut Sendable,
) -> Result<(Connection, Response<Incoming>), Option<Cause>> {
    // Once sent, the request is another worker's business no more: it may be what this one died of.
    let mut lost = None;
    let mut kept = worker.take_connection();
    loop {
        let reused = kept.is_some();
        let mut connection = match kept.take() {
            Some(connection) => connection,
            // Boxed, like all that is rare on a request's way: it would make every request larger.
            None => Box::pin(worker.connect()).await.map_err(|_| lost)?,
        };
        match attempt(&mut connection, request, worker.remote.is_some()).await {
            Ok(response) => return Ok((connection, response)),
            Err(SendFailed::Unsent) if reused => {}
            Err(SendFailed::Unsent) => return Err(lost),
            // Either the worker closed an idle connection, or it died at work. Only if it takes a new
            // connection it lives.
            Err(SendFailed::Stale) if reused && request.method.is_idempotent() => {
                lost = Some(Cause::WorkerDied);
            }
            Err(SendFailed::Stale | SendFailed::Died | SendFailed::Broken(_)) => {
                return Err(Some(Cause::WorkerDied));
            }
            Err(SendFailed::Garbled(_)) => return Err(Some(Cause::BadResponse)),
        }
    }
}

/// Sends the request once. After [`SendFailed::Unsent`] and [`SendFailed::Stale`] it can be sent again, and so it can
/// after a refusal, to which it may come if `refusable`.
async fn attempt(
    connection: &mut Connection,
    request: &mut Sendable,
    refusable: bool,
) -> Result<Response<Incoming>, SendFailed> {
    let spare = (refusable || connection.may_be_stale()).then(|| request.headers.clone());
    let headers = std::mem::take(&mut request.headers);
    let (why, unsent) = match connection.send(request.request(headers)).await {
        Ok(response) => {
            if let Some(spare) = spare.filter(|_| is_refusal(response.status(), response.headers()))
            {
                request.headers = spare;
            }
            return Ok(response);
        }
        Err(failed) => failed,
    };
    match unsent.map(|unsent| unsent.into_parts().0.headers).or(spare) {
        Some(headers) => {
            request.headers = headers;
            Err(why)
        }
        // Repeating it could do harm.
        None => Err(match why {
            SendFailed::Unsent | SendFailed::Stale => SendFailed::Died,
            why => why,
        }),
    }
}

/// The faucet there has nobody free, or takes nothing any more. The request is as it was.
async fn refused(
    flight: Flight,
    mut connection: Connection,
    response: Response<Incoming>,
    mut request: Box<Sendable>,
) -> Failed {
    let had_turn = connection.has_turn();
    let mut body = response.into_body();
    let skipped = tokio::time::timeout(SKIP, skip(&mut connection, &mut body)).await;
    if matches!(skipped, Ok(true)) {
        flight.keep_connection(connection);
    }
    request.untell(&flight);
    Failed::Occupied(flight.occupied(had_turn), request)
}

/// The worker switches protocols: its connection becomes a tunnel, and the lease is given back.
async fn switch(
    flight: Flight,
    mut connection: Connection,
    mut response: Response<Incoming>,
) -> Result<Answer, Failed> {
    let upgrade = hyper::upgrade::on(&mut response);
    let Ok(upgraded) = connection.drive(upgrade).await else {
        return Err(died(flight));
    };
    let tunnel = flight.tunnels.enter();
    flight.report(Report::Served);
    let (parts, _) = response.into_parts();
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body: AnswerBody::Tunnel(Box::new(upgraded), tunnel),
    })
}

async fn whole(
    connection: &mut Connection,
    body: &mut Incoming,
) -> Result<AnswerBody, hyper::Error> {
    let (mut chunks, mut trailers) = (VecDeque::new(), None);
    while !body.is_end_stream() {
        match connection.drive(body.frame()).await {
            None => break,
            Some(frame) => match frame?.into_data() {
                Ok(chunk) if chunks.is_empty() && body.is_end_stream() => {
                    return Ok(AnswerBody::Piece(chunk));
                }
                Ok(chunk) => chunks.push_back(chunk),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
    Ok(AnswerBody::Pieces(chunks, trailers))
}

/// The body of the response is a file. It is opened before the lease is given back: what a later request
/// does to the file's name is of no matter to this one.
async fn from_file(
    flight: Flight,
    mut connection: Connection,
    mut parts: Parts,
    mut body: Incoming,
    head: bool,
) -> Result<Answer, Failed> {
    while let Some(frame) = connection.drive(body.frame()).await {
        if frame.is_err() {
            return Err(died(flight));
        }
    }
    parts.headers.remove(CONTENT_LENGTH);
    let none = matches!(
        parts.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    let path = parts.headers.remove(FILE).filter(|_| !none);
    let opened = match path {
        None => None,
        Some(path) => {
            let path = PathBuf::from(OsStr::from_bytes(path.as_bytes()));
            Some((FileBody::open(path.clone()).await, path))
        }
    };
    let worker = flight.id;
    flight.landed(connection, false).await;
    let body = match opened {
        None => AnswerBody::Piece(Bytes::new()),
        Some((Ok(file), _)) => {
            parts.headers.insert(CONTENT_LENGTH, file.rest().into());
            if head {
                AnswerBody::Piece(Bytes::new())
            } else {
                AnswerBody::File(file)
            }
        }
        Some((Err(error), path)) => {
            tracing::error!(worker, file = %path.display(), "cannot be read: {}", SystemError(&error));
            return Err(Failed::Lost(Cause::FileUnreadable));
        }
    };
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body,
    })
}

/// An answer that is none. It is the worker's last word all the same: it is free now.
fn nonsense(flight: Flight, cause: Cause) -> Failed {
    flight.report(Report::Served);
    Failed::Lost(cause)
}

fn died(flight: Flight) -> Failed {
    flight.broke_off();
    Failed::Lost(Cause::WorkerDied)
}

#[cfg(test)]
mod tests {
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
