//! Waiting for a worker, and how long that may take.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::cause::Cause;
use crate::lock::{Acquire, Lease, MemberId, Refused, Table, Ticket};
use crate::pool::Pool;
use crate::worker::Worker;

/// A lease, and how long it was waited for, counted from `arrived`. `ticket` is that of an earlier
/// lease.
pub async fn acquire(
    table: &Arc<Table<Worker>>,
    ticket: Option<Ticket>,
    arrived: Instant,
) -> (Result<Lease<Worker>, Cause>, Duration) {
    let acquire = match ticket {
        None => table.acquire(),
        Some(ticket) => table.acquire_again(ticket),
    };
    let (outcome, waited) = timed(acquire, arrived).await;
    (outcome.map_err(named), waited)
}

/// The same on one worker, or why there is none.
pub async fn acquire_on(
    table: &Arc<Table<Worker>>,
    member: MemberId,
    ticket: Option<Ticket>,
    arrived: Instant,
) -> (Result<Lease<Worker>, Refused>, Duration) {
    timed(table.acquire_on(member, ticket), arrived).await
}

async fn timed(
    mut acquire: Acquire<Worker>,
    arrived: Instant,
) -> (Result<Lease<Worker>, Refused>, Duration) {
    // Most requests find a free worker: they need no clock.
    let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut acquire).poll(cx))).await;
    if let Poll::Ready(outcome) = first {
        return (outcome, Duration::ZERO);
    }
    let outcome = acquire.await;
    (outcome, arrived.elapsed())
}

/// A lease if a worker is free at once.
pub fn acquire_now(
    table: &Arc<Table<Worker>>,
    ticket: Option<Ticket>,
) -> Result<Lease<Worker>, Cause> {
    table.acquire_now(ticket).map_err(named)?.ok_or(Cause::Busy)
}

pub(super) fn named(refused: Refused) -> Cause {
    match refused {
        Refused::QueueFull => Cause::QueueFull,
        Refused::Expired => Cause::QueueTimeout,
        Refused::NoWorkers => Cause::NoWorkers,
        Refused::Closed => Cause::Draining,
        Refused::Gone => Cause::WorkerUnreachable,
    }
}

/// Refuses requests that have waited for too long, and ends sessions whose time is over, until dropped.
pub async fn expire(pool: Arc<Pool>) {
    match &pool.sessions {
        None => expire_waiting(&pool).await,
        Some(sessions) => {
            let expire_sessions = async {
                loop {
                    tokio::time::sleep(sessions.expire()).await;
                }
            };
            tokio::join!(expire_waiting(&pool), expire_sessions);
        }
    }
}

async fn expire_waiting(pool: &Pool) {
    let Some(patience) = pool.limits.queue_timeout else {
        return;
    };
    loop {
        let pause = pool.table.expire(patience);
        tokio::time::sleep(pause).await;
    }
}
