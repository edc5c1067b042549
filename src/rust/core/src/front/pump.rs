//! A response's body from the worker to the spool, whoever still wants it.

use std::pin::pin;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::HeaderMap;
use tokio::time::Instant;

use super::in_flight::{InFlight, Outlived};
use crate::body::{Abort, SpoolWriter};
use crate::environment::SystemError;
use crate::worker::{Connection, Silent, Unwanted};

/// How long what a worker sends after its deadline is waited for, before its connection is dropped.
/// The source will have replaced the worker long before.
const LATE_ANSWER: Duration = Duration::from_secs(3600);

/// When a worker is late.
#[derive(Clone, Copy)]
pub struct Deadline {
    pub at: Instant,
    timeout: Duration,
}

impl Deadline {
    /// `timeout` from now on.
    pub fn new(timeout: Duration) -> Self {
        Self {
            at: Instant::now() + timeout,
            timeout,
        }
    }

    /// The same time again, from now on.
    pub fn renewed(self) -> Self {
        Self::new(self.timeout)
    }
}

/// Who says how fast a body is read, and when it is late.
#[derive(Clone, Copy)]
pub enum Pace {
    /// The worker, whose lease is given back as soon as it has written everything, by the deadline.
    Worker(Option<Deadline>),
    /// The client: the worker writes for one that listens, without an end maybe. It has its deadline for
    /// each chunk, and the time that it waits for the client is not its own.
    Client(Option<Deadline>),
}

/// When a worker must go on within the time that is given to it.
#[derive(Clone, Copy)]
pub enum Patience {
    /// It has said how much there will be.
    Always(Option<Duration>),
    /// It may have nothing to say for as long as somebody listens: nothing tells that from a body that is stuck.
    Unheard(Option<Duration>),
}

impl Patience {
    fn with(self, heard: bool) -> Option<Duration> {
        match self {
            Self::Always(time) => time,
            Self::Unheard(time) => time.filter(|_| !heard),
        }
    }
}

/// How much of a body that nobody takes is read, in bytes. A worker that cannot be told that has to be read to its end, but
/// there may be none.
const UNHEARD: u64 = 64 << 20;

/// Reads a response to its end, then gives its worker free.
pub async fn pump(
    in_flight: InFlight,
    mut connection: Connection,
    body: Incoming,
    writer: SpoolWriter,
    pace: Pace,
    patience: Patience,
) {
    match copy(&in_flight, &mut connection, body, &writer, pace, patience).await {
        Ok(trailers) => {
            in_flight.finish(connection, false).await;
            writer.finish(trailers);
        }
        // What is closed is the other side's to give up.
        Err(Stopped::Left) => {
            drop(connection);
            in_flight.left();
        }
        Err(Stopped::Late) => {
            writer.abort(Abort::Timeout);
            in_flight.late().give_up();
            drop(connection);
        }
        Err(Stopped::Doubtful(why)) => {
            drop(connection);
            writer.abort(why);
            in_flight.doubtful();
        }
        Err(Stopped::Aborted(why)) => {
            drop(connection);
            let outlived = match why {
                Abort::WorkerDied => in_flight.outlived().await,
                _ => Outlived::Gone,
            };
            match outlived {
                Outlived::Free => {
                    writer.abort(Abort::BrokenOff);
                    in_flight.served();
                }
                Outlived::Frozen => {
                    writer.abort(Abort::BrokenOff);
                    in_flight.frozen();
                }
                Outlived::Gone => {
                    let lives = why == Abort::WorkerDied && in_flight.lives();
                    writer.abort(if lives { Abort::BrokenOff } else { why });
                    in_flight.broke_off();
                }
            }
        }
    }
}

/// Why a response was not read to its end.
enum Stopped {
    Aborted(Abort),
    /// The worker has not finished, but is broken off.
    Doubtful(Abort),
    /// Nobody reads it any more, and it is broken off.
    Left,
    /// The deadline has passed, and it is broken off.
    Late,
}

async fn copy(
    in_flight: &InFlight,
    connection: &mut Connection,
    mut body: Incoming,
    writer: &SpoolWriter,
    pace: Pace,
    patience: Patience,
) -> Result<Option<HeaderMap>, Stopped> {
    let breaks_off = in_flight.breaks_off();
    let (Pace::Worker(deadline) | Pace::Client(deadline)) = pace;
    let mut timer = pin!(tokio::time::sleep_until(
        deadline.map_or_else(Instant::now, |deadline| deadline.at)
    ));
    let mut late = false;
    let (mut heard, mut unheard) = (true, 0);
    let mut cancellation = in_flight.cancellation();
    let mut trailers = None;
    loop {
        let frame = tokio::select! {
            biased;
            frame = connection.drive_patiently(body.frame(), patience.with(heard)) => {
                frame.map_err(|Silent| Stopped::Doubtful(Abort::BrokenOff))?
            }
            () = timer.as_mut(), if deadline.is_some() => {
                if breaks_off {
                    return Err(Stopped::Late);
                }
                if late {
                    return Err(Stopped::Aborted(Abort::Timeout));
                }
                late = true;
                writer.abort(Abort::Timeout);
                match in_flight.cancellation() {
                    Some(cancellation) => cancellation.deadline_passed(),
                    None => in_flight.stuck(Unwanted::Deadline),
                }
                timer.as_mut().reset(Instant::now() + LATE_ANSWER);
                continue;
            }
            () = writer.left(), if heard => {
                heard = false;
                match cancellation.take() {
                    Some(cancellation) => cancellation.client_left(),
                    None if breaks_off => return Err(Stopped::Left),
                    None => {}
                }
                continue;
            }
        };
        let Some(frame) = frame else {
            return Ok(trailers);
        };
        let frame = frame.map_err(|_| Stopped::Aborted(Abort::WorkerDied))?;
        match (frame.into_data(), pace) {
            (Ok(chunk), Pace::Client(deadline)) => {
                writer.hand_over(chunk);
                writer.room().await;
                if let (Some(deadline), false) = (deadline, late) {
                    timer.as_mut().reset(deadline.renewed().at);
                }
            }
            (Ok(chunk), Pace::Worker(_)) if heard => {
                if let Err(error) = writer.push(chunk).await {
                    tracing::error!("a response cannot be kept: {}", SystemError(&error));
                    return Err(Stopped::Doubtful(Abort::Storage));
                }
            }
            (Ok(chunk), Pace::Worker(_)) => {
                unheard += chunk.len() as u64;
                if unheard > UNHEARD {
                    return Err(Stopped::Doubtful(Abort::BrokenOff));
                }
            }
            (Err(frame), _) => trailers = frame.into_trailers().ok(),
        }
    }
}
