//! An exchange with a worker, within `timeout` if there is one.

use std::time::Duration;

use super::cause::Cause;
use super::exchange::{exchange, Answer, Failed, Terms};
use super::in_flight::InFlight;
use super::pump::Deadline;
use super::sendable::Sendable;
use super::Front;
use crate::pool::Pool;
use crate::worker::{Report, Unwanted};

/// One exchange, limited by `timeout` if there is one.
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
    match pool.limits.timeout {
        None => exchange(in_flight, request, &front.store, terms).await,
        Some(timeout) if in_flight.breaks_off() => {
            Box::pin(until_deadline(front, in_flight, request, terms, timeout)).await
        }
        Some(timeout) => Box::pin(with_deadline(front, in_flight, request, terms, timeout)).await,
    }
}

/// Past the deadline the client gets its `504`, and the exchange is broken off, which the other side sees. Whether the
/// worker is free then is for its source to find out.
async fn until_deadline(
    front: &Front,
    in_flight: InFlight,
    request: Box<Sendable>,
    terms: Terms,
    timeout: Duration,
) -> Result<Answer, Failed> {
    let deadline = Deadline::new(timeout);
    let terms = Terms {
        deadline: Some(deadline),
        ..terms
    };
    let late = in_flight.late();
    let exchange = exchange(in_flight, request, &front.store, terms);
    match tokio::time::timeout_at(deadline.at, exchange).await {
        Ok(outcome) => outcome,
        Err(_) => {
            late.give_up();
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
    timeout: Duration,
) -> Result<Answer, Failed> {
    let store = front.store.clone();
    let deadline = Deadline::new(timeout);
    let terms = Terms {
        deadline: Some(deadline),
        ..terms
    };
    let (worker, number) = (in_flight.worker().clone(), in_flight.own_number());
    let cancellation = in_flight.cancellation();
    let (done, outcome) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        // The receiver is gone after the deadline; then nobody wants the answer.
        let _ = done.send(exchange(in_flight, request, &store, terms).await);
    });
    match tokio::time::timeout_at(deadline.at, outcome).await {
        Ok(Ok(outcome)) => outcome,
        // Its task ended without a word: only the end of the runtime does that.
        Ok(Err(_)) => Err(Failed::Lost(Cause::WorkerDied)),
        Err(_) => {
            match cancellation {
                Some(cancellation) => cancellation.deadline_passed(),
                None => worker.report(Report::Stuck(Unwanted::Deadline, number)),
            }
            Err(Failed::Lost(Cause::Timeout))
        }
    }
}
