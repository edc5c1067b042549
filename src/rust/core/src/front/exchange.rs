//! One request on one worker: from the lease to the last byte of the response.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderMap, CONTENT_LENGTH, UPGRADE};
use hyper::http::response::Parts;
use hyper::upgrade::Upgraded;
use hyper::{Method, Response, StatusCode};

use super::cause::Cause;
use super::in_flight::InFlight;
use super::pump::{pump, Deadline, Pace, Patience};
use super::sendable::{Onward, Sendable};
use crate::body::{is_shortage, spool, FileBody, Pieces, SpoolReader, Store};
use crate::environment::SystemError;
use crate::lock::{Lease, Ticket};
use crate::sessions::Hold;
use crate::worker::native::{FILE, STREAM};
use crate::worker::remote::{is_refusal, is_without_source, skip, KEPT, SOURCE};
use crate::worker::{Connection, Remote, Report, SendFailed, Silent, TunnelGuard, Worker};

/// What applies to an exchange.
#[derive(Clone, Copy)]
pub struct Terms {
    /// How much of the answer's body stays in memory, in bytes.
    pub body_memory: u64,
    /// How long a worker may leave what it has begun without a byte.
    pub patience: Option<Duration>,
    /// Limits bodies that are still coming when the answer's head is there.
    pub deadline: Option<Deadline>,
}

/// Up to this length, in bytes, an answer is not charged to the memory for bodies: each connection may have one.
const LITTLE: u64 = 16 * 1024;

/// How long the few bytes behind a refusal may take.
const SKIP: Duration = Duration::from_secs(1);

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
    Pieces(Box<Pieces>, Option<HeaderMap>),
    /// On its way; a task of its own holds the lease.
    Coming(SpoolReader),
    /// The same, written bit by bit for a client that listens.
    Streaming(SpoolReader),
    /// Open, and the lease is given back.
    File(FileBody),
    /// `101`: the lease is given back, the tunnel counted, its session kept.
    Tunnel(Box<Upgraded>, TunnelGuard, Option<Hold>),
}

/// Why there is no answer.
pub enum Failed {
    /// Nothing was sent, and the worker is set aside: ask again with this ticket.
    Unreachable(Ticket, Box<Sendable>),
    /// The faucet there has refused it without working on it, and is set aside: the same.
    Occupied(Ticket, Box<Sendable>),
    /// The faucet there cannot have its body from where it was told to, for the reason in these headers, and has worked on nothing.
    /// The worker is still this request's.
    Unsourced(Lease<Worker>, Box<Sendable>, Box<HeaderMap>),
    /// The worker may have worked on it: the client has to know.
    Lost(Cause),
}

/// Sends `request` to the worker of `in_flight` and returns its answer. Whoever starts this must let it
/// run to its end, whatever becomes of the client: it holds the lease.
pub async fn exchange(
    mut in_flight: InFlight,
    mut request: Box<Sendable>,
    store: &Store,
    terms: Terms,
) -> Result<Answer, Failed> {
    let may_switch = request.headers.contains_key(UPGRADE);
    request.tell(&mut in_flight);
    // A worker takes of what comes when it wants some.
    let patience = terms.patience.filter(|_| request.flow().is_none());
    let (mut connection, response) = match send(&in_flight, &mut request, store, patience).await {
        Ok(sent) => sent,
        Err(None) => {
            in_flight.report(Report::Unreachable);
            request.untell(&in_flight);
            return Err(Failed::Unreachable(in_flight.suspend(), request));
        }
        Err(Some(cause)) => {
            return Err(match (request.failed(), cause) {
                (Some(failed), _) => undone(in_flight, failed),
                (None, Cause::WorkerDied) => died(in_flight),
                (None, cause) => doubtful(in_flight, cause),
            });
        }
    };

    if in_flight.remote.is_some() {
        in_flight.note(response.headers());
        // Only who was told of a source can lack it.
        if request.headers.contains_key(SOURCE) && is_without_source(response.headers()) {
            request.untell(&in_flight);
            let why = Box::new(response.into_parts().0.headers);
            // Its body has no end: nothing else is sent on that connection.
            drop(connection);
            return Err(Failed::Unsourced(in_flight.into_lease(), request, why));
        }
        if is_refusal(response.status(), response.headers()) {
            return Err(Box::pin(refused(in_flight, connection, response, request)).await);
        }
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if !may_switch {
            return Err(doubtful(in_flight, Cause::BadResponse));
        }
        return Box::pin(switch(in_flight, connection, response)).await;
    }

    // httpuv sends a body where there must be none (to HEAD, at least); those bytes must not meet
    // the next response.
    let bodiless = request.method == Method::HEAD
        || matches!(
            response.status(),
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    let (parts, mut body) = response.into_parts();
    let native = in_flight.number().is_some();
    if native && parts.headers.contains_key(FILE) {
        let head = request.method == Method::HEAD;
        return Box::pin(from_file(
            in_flight,
            connection,
            parts,
            body,
            head,
            store,
            terms.patience,
        ))
        .await;
    }
    let length = body.size_hint().exact();
    // faucet's server knows what HEAD is, and when it streams; and so does whoever keeps to the protocol of slots.
    let ours = native || in_flight.remote.as_ref().is_some_and(Remote::is_exact);
    let streamed = ours && !bodiless && parts.headers.contains_key(STREAM);
    let body_memory = terms.body_memory;
    let fits = |length| length <= body_memory && (length <= LITTLE || !store.is_full());
    let body = if !streamed && length.is_some_and(fits) {
        match whole(&mut connection, &mut body, store, terms.patience).await {
            Ok(body) => {
                // The same goes for a body that the app has announced to be empty: it is sent a moment later.
                let spoilt = (bodiless || length == Some(0)) && !ours;
                in_flight.finish(connection, spoilt).await;
                body
            }
            Err(Broken::Silent) => return Err(doubtful(in_flight, Cause::BrokenOff)),
            Err(Broken::Off) => return Err(died(in_flight)),
        }
    } else {
        let (writer, reader) = spool(store, body_memory, length);
        let long = length.is_some_and(|length| length > 0);
        if !streamed && long && !bodiless && writer.prepare_file().is_err() {
            // Nobody will read it, and the worker is free when it has written it.
            drop(reader);
            let pace = Pace::Worker(terms.deadline);
            let patience = Patience::Always(terms.patience);
            tokio::spawn(pump(in_flight, connection, body, writer, pace, patience));
            return Err(Failed::Lost(Cause::Storage));
        }
        let (pace, answer) = if streamed {
            let kept = request.onward == Some(Onward::Kept) && parts.headers.contains_key(KEPT);
            let deadline = terms.deadline.and_then(|deadline| match kept {
                // Its bytes are none of ours: the agent sees to their time.
                true => deadline.without_own(),
                false => Some(deadline.renewed()),
            });
            let pace = Pace::Client(deadline);
            (pace, AnswerBody::Streaming(reader))
        } else {
            (Pace::Worker(terms.deadline), AnswerBody::Coming(reader))
        };
        let patience = match length {
            // It is written as things happen, and the worker is asked when nobody listens any more.
            _ if streamed => Patience::Always(None),
            Some(_) => Patience::Always(terms.patience),
            None if native => Patience::Always(None),
            None => Patience::Unheard(terms.patience),
        };
        tokio::spawn(pump(in_flight, connection, body, writer, pace, patience));
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
    store: &Store,
    patience: Option<Duration>,
) -> Result<(Connection, Response<Incoming>), Option<Cause>> {
    // Once sent, the request is another worker's business no more: it may be what this one died of.
    let mut lost = None;
    let mut kept = worker.take_connection();
    loop {
        let reused = kept.is_some();
        let mut connection = match kept.take() {
            Some(connection) => connection,
            // Boxed, like all that is rare on a request's way: it would make every request larger.
            None => {
                let mut connection = Box::pin(worker.connect()).await.map_err(|_| lost)?;
                if worker.remote.is_some() || worker.is_concurrent() {
                    // For those of this machine with one connection each there is a reserve.
                    connection.count(store.descriptors());
                }
                connection
            }
        };
        let is_remote = worker.remote.is_some();
        if is_remote && request.flow().is_some() {
            // Whoever does not read would not see an end behind what waits to be read.
            connection.reset_on_close(true);
        }
        match attempt(&mut connection, request, is_remote, patience).await {
            Ok(response) => return Ok((connection, response)),
            Err(SendFailed::Unsent | SendFailed::Stale) if !request.is_whole() => {
                return Err(Some(Cause::WorkerDied));
            }
            Err(SendFailed::Unsent) if reused => {}
            Err(SendFailed::Unsent) => return Err(lost),
            // Either the worker closed an idle connection, or it died at work. Only if it takes a new
            // connection it lives; elsewhere that may be its successor, at the same address.
            Err(SendFailed::Stale)
                if reused && worker.remote.is_none() && request.method.is_idempotent() =>
            {
                lost = Some(Cause::WorkerDied);
            }
            Err(SendFailed::Stale | SendFailed::Died | SendFailed::Broken(_)) => {
                return Err(Some(Cause::WorkerDied));
            }
            Err(SendFailed::Garbled(_)) => return Err(Some(Cause::BadResponse)),
            Err(SendFailed::Silent) => return Err(Some(Cause::BrokenOff)),
        }
    }
}

/// Sends the request once. After [`SendFailed::Unsent`] and [`SendFailed::Stale`] it can be sent again, and so it can
/// after a refusal, to which it may come if `refusable`.
async fn attempt(
    connection: &mut Connection,
    request: &mut Sendable,
    refusable: bool,
    patience: Option<Duration>,
) -> Result<Response<Incoming>, SendFailed> {
    let spare = (refusable || connection.may_be_stale()).then(|| request.headers.clone());
    let headers = std::mem::take(&mut request.headers);
    let (why, unsent) = match connection.send(request.request(headers), patience).await {
        Ok(response) => {
            let (status, headers) = (response.status(), response.headers());
            let again = |_: &HeaderMap| is_refusal(status, headers) || is_without_source(headers);
            if let Some(spare) = spare.filter(again) {
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
    in_flight: InFlight,
    mut connection: Connection,
    response: Response<Incoming>,
    mut request: Box<Sendable>,
) -> Failed {
    let had_turn = connection.has_turn();
    let mut body = response.into_body();
    let skipped = tokio::time::timeout(SKIP, skip(&mut connection, &mut body)).await;
    // One that waits to have the request's body has no end.
    if matches!(skipped, Ok(true)) && request.flow().is_none() {
        in_flight.keep_connection(connection);
    }
    request.untell(&in_flight);
    Failed::Occupied(in_flight.occupied(had_turn), request)
}

/// The worker switches protocols: its connection becomes a tunnel, and the lease is given back.
async fn switch(
    mut in_flight: InFlight,
    mut connection: Connection,
    mut response: Response<Incoming>,
) -> Result<Answer, Failed> {
    let upgrade = hyper::upgrade::on(&mut response);
    let Ok(upgraded) = connection.drive(upgrade).await else {
        return Err(died(in_flight));
    };
    let tunnel = in_flight.tunnels.enter();
    let session = in_flight.take_session().map(Hold::into_tunnel);
    in_flight.served();
    let (parts, _) = response.into_parts();
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body: AnswerBody::Tunnel(Box::new(upgraded), tunnel, session),
    })
}

/// Why a body did not come to its end.
enum Broken {
    Off,
    Silent,
}

impl From<Silent> for Broken {
    fn from(_: Silent) -> Self {
        Self::Silent
    }
}

async fn whole(
    connection: &mut Connection,
    body: &mut Incoming,
    store: &Store,
    patience: Option<Duration>,
) -> Result<AnswerBody, Broken> {
    let (mut pieces, mut trailers) = (None::<Box<Pieces>>, None);
    while !body.is_end_stream() {
        match connection.drive_patiently(body.frame(), patience).await? {
            None => break,
            Some(frame) => match frame.map_err(|_| Broken::Off)?.into_data() {
                Ok(chunk) if pieces.is_none() && body.is_end_stream() => {
                    return Ok(AnswerBody::Piece(if chunk.len() as u64 <= LITTLE {
                        chunk
                    } else {
                        let mut charge = store.charge();
                        charge.force(chunk.len() as u64);
                        charge.over(chunk)
                    }));
                }
                Ok(chunk) => pieces.get_or_insert_with(Box::default).force(chunk, store),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
    Ok(match (pieces, trailers) {
        (None, None) => AnswerBody::Piece(Bytes::new()),
        (pieces, trailers) => AnswerBody::Pieces(pieces.unwrap_or_default(), trailers),
    })
}

/// The body of the response is a file. It is opened before the lease is given back: what a later request
/// does to the file's name is of no matter to this one.
async fn from_file(
    in_flight: InFlight,
    mut connection: Connection,
    mut parts: Parts,
    mut body: Incoming,
    head: bool,
    store: &Store,
    patience: Option<Duration>,
) -> Result<Answer, Failed> {
    loop {
        match connection.drive_patiently(body.frame(), patience).await {
            Ok(None) => break,
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_))) => return Err(died(in_flight)),
            Err(Silent) => return Err(doubtful(in_flight, Cause::BrokenOff)),
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
            Some((
                FileBody::open(path.clone(), in_flight.foreign_user(), store).await,
                path,
            ))
        }
    };
    let worker = in_flight.id;
    in_flight.finish(connection, false).await;
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
        Some((Err(error), _)) if is_shortage(&error) => {
            return Err(Failed::Lost(Cause::Storage));
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

/// An answer that is none, or stopped in the middle.
fn doubtful(in_flight: InFlight, cause: Cause) -> Failed {
    in_flight.doubtful();
    Failed::Lost(cause)
}

/// The request's body broke off, and the connection with it: that was not the worker's fault.
fn undone(in_flight: InFlight, cause: Cause) -> Failed {
    if in_flight.breaks_off() {
        in_flight.left();
        return Failed::Lost(cause);
    }
    match died(in_flight) {
        Failed::Lost(Cause::BrokenOff) => Failed::Lost(cause),
        failed => failed,
    }
}

/// The connection ended before the answer did; so has the worker, or it has thrown the request out.
fn died(in_flight: InFlight) -> Failed {
    let lives = in_flight.lives();
    if lives && in_flight.number().is_some() {
        return doubtful(in_flight, Cause::BrokenOff);
    }
    in_flight.broke_off();
    Failed::Lost(if lives {
        Cause::BrokenOff
    } else {
        Cause::WorkerDied
    })
}
