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
    /// The pool's. What does not keep it is at fault.
    own: Option<Instant>,
    /// Its time, which each part of what is written bit by bit has.
    timeout: Option<Duration>,
    /// The request's: from then on nobody waits, as if its client had left.
    last: Option<Instant>,
}

impl Deadline {
    /// `timeout` from now on, and `last`. None if there is neither.
    pub fn new(timeout: Option<Duration>, last: Option<Instant>) -> Option<Self> {
        let own = timeout.map(|timeout| Instant::now() + timeout);
        (own.is_some() || last.is_some()).then_some(Self { own, timeout, last })
    }

    /// The earlier of the two.
    pub fn at(self) -> Instant {
        let both = self.own.into_iter().chain(self.last);
        // There is one.
        both.min().unwrap_or_else(Instant::now)
    }

    /// Whether the pool's is the earlier one.
    pub fn is_own(self) -> bool {
        self.own
            .is_some_and(|own| self.last.map_or(true, |last| own <= last))
    }

    /// The pool's, once nobody waits any more.
    pub fn own(self) -> Option<Self> {
        self.own.map(|_| Self { last: None, ..self })
    }

    /// The request's alone, if there is one.
    pub fn without_own(self) -> Option<Self> {
        Self::new(None, self.last)
    }

    /// The same time again, from now on.
    pub fn renewed(self) -> Self {
        Self::new(self.timeout, self.last).unwrap_or(self)
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
        // A faucet there looks after its workers itself, and breaks an answer off when one of them does. If it is gone, the next
        // to connect learns that.
        Err(Stopped::Aborted(Abort::WorkerDied)) if in_flight.breaks_off() => {
            drop(connection);
            let lives = in_flight.is_undone();
            drop(in_flight);
            writer.abort(if lives {
                Abort::BrokenOff
            } else {
                Abort::WorkerDied
            });
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
    let (Pace::Worker(mut deadline) | Pace::Client(mut deadline)) = pace;
    let mut timer = pin!(tokio::time::sleep_until(
        deadline.map_or_else(Instant::now, Deadline::at)
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
                if let Some(passed) = deadline.filter(|deadline| !late && !deadline.is_own()) {
                    writer.abort(Abort::Timeout);
                    deadline = passed.own();
                    if let Some(own) = deadline {
                        timer.as_mut().reset(own.at());
                    }
                    if std::mem::replace(&mut heard, false) {
                        match cancellation.take() {
                            Some(cancellation) => cancellation.client_left(),
                            None if breaks_off => return Err(Stopped::Left),
                            None => {}
                        }
                    }
                    continue;
                }
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
            (Ok(chunk), Pace::Client(_)) => {
                writer.hand_over(chunk);
                writer.room().await;
                if !late {
                    deadline = deadline.map(Deadline::renewed);
                    if let Some(deadline) = deadline {
                        timer.as_mut().reset(deadline.at());
                    }
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
