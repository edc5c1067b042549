//! An exchange with a worker, within `timeout` and its request's deadline, if there are such; and how a deadline is said.

use std::future::Future;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::HeaderMap;
use tokio::time::Instant;

use super::cause::Cause;
use super::exchange::{exchange, Answer, Failed, Terms};
use super::in_flight::{Cancellation, InFlight};
use super::pump::Deadline;
use super::sendable::Sendable;
use super::Front;
use crate::pool::Pool;
use crate::worker::{Report, Unwanted};

/// On a request: how many seconds are left until nobody waits for its answer any more, all in all.
pub const DEADLINE: HeaderName = HeaderName::from_static("faucet-deadline");

/// A deadline that is further off is none, in seconds: ten years.
const FURTHEST: f64 = 315_360_000.0;

/// What a request says of its deadline.
///
/// # Errors
/// It is no number of seconds.
pub fn deadline_of(headers: &HeaderMap) -> Result<Option<Instant>, Cause> {
    let Some(value) = headers.get(DEADLINE) else {
        return Ok(None);
    };
    let seconds = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    match seconds {
        Some(seconds) if seconds > FURTHEST => Ok(None),
        Some(seconds) if seconds >= 0.0 => {
            Ok(Some(Instant::now() + Duration::from_secs_f64(seconds)))
        }
        _ => Err(Cause::BadRequest(
            "Faucet-Deadline is not a number of seconds",
        )),
    }
}

/// The same, as it is said to whoever is next.
pub fn deadline_value(at: Instant) -> HeaderValue {
    let left = at.saturating_duration_since(Instant::now());
    // Digits are text.
    HeaderValue::try_from(format!("{:.3}", left.as_secs_f64()))
        .unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// Does what comes before an exchange, until a deadline if there is one.
pub async fn before<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, Cause>>,
) -> Result<T, Cause> {
    match deadline {
        None => work.await,
        // Boxed: it would make every request larger.
        Some(at) => match Box::pin(tokio::time::timeout_at(at, work)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Cause::Timeout),
        },
    }
}

/// One exchange, limited by `timeout` and the request's deadline if there are such.
pub async fn exchange_within(
    front: &Front,
    pool: &Pool,
    in_flight: InFlight,
    request: Box<Sendable>,
) -> Result<Answer, Failed> {
    let terms = Terms {
        body_memory: front.limits.body_memory,
        patience: front.limits.idle_timeout,
        deadline: None,
    };
    match Deadline::new(pool.limits.timeout, request.deadline) {
        None => exchange(in_flight, request, &front.store, terms).await,
        Some(deadline) if in_flight.breaks_off() => {
            Box::pin(until_deadline(front, in_flight, request, terms, deadline)).await
        }
        Some(deadline) => Box::pin(with_deadline(front, in_flight, request, terms, deadline)).await,
    }
}

/// Past the deadline the client gets its `504`, and the exchange is broken off, which the other side sees. Whether the
/// worker is free then is for its source to find out.
async fn until_deadline(
    front: &Front,
    in_flight: InFlight,
    request: Box<Sendable>,
    terms: Terms,
    deadline: Deadline,
) -> Result<Answer, Failed> {
    let terms = Terms {
        deadline: Some(deadline),
        ..terms
    };
    let late = in_flight.late();
    let exchange = exchange(in_flight, request, &front.store, terms);
    match tokio::time::timeout_at(deadline.at(), exchange).await {
        Ok(outcome) => outcome,
        Err(_) => {
            if deadline.is_own() {
                late.give_up();
            }
            Err(Failed::Lost(Cause::Timeout))
        }
    }
}

/// Past the deadline the client gets its `504`, and the exchange goes on in a task of its own: the
/// worker is still busy, so its lease stays.
async fn with_deadline(
    front: &Front,
    in_flight: InFlight,
    request: Box<Sendable>,
    terms: Terms,
    deadline: Deadline,
) -> Result<Answer, Failed> {
    let store = front.store.clone();
    let terms = Terms {
        deadline: Some(deadline),
        ..terms
    };
    let (worker, number) = (in_flight.worker().clone(), in_flight.own_number());
    let cancellation = in_flight.cancellation();
    let passed = move |cancellation: Option<Cancellation>| match cancellation {
        Some(cancellation) => cancellation.deadline_passed(),
        None => worker.report(Report::Stuck(Unwanted::Deadline, number)),
    };
    let (done, mut outcome) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        // The receiver is gone after the deadline; then nobody wants the answer.
        let _ = done.send(exchange(in_flight, request, &store, terms).await);
    });
    match tokio::time::timeout_at(deadline.at(), &mut outcome).await {
        Ok(Ok(outcome)) => outcome,
        // Its task ended without a word: only the end of the runtime does that.
        Ok(Err(_)) => Err(Failed::Lost(Cause::WorkerDied)),
        Err(_) => {
            if deadline.is_own() {
                passed(cancellation);
                return Err(Failed::Lost(Cause::Timeout));
            }
            // It is as if the client had left: who sends a request does not say how long a worker may live.
            if let Some(cancellation) = &cancellation {
                cancellation.clone().client_left();
            }
            if let Some(own) = deadline.own() {
                tokio::spawn(async move {
                    if tokio::time::timeout_at(own.at(), outcome).await.is_err() {
                        passed(cancellation);
                    }
                });
            }
            Err(Failed::Lost(Cause::Timeout))
        }
    }
}
