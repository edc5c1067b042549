//! Waiting for a worker, and how long that may take.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::cause::Cause;
use crate::lock::{Lease, Refused, Table, Ticket};
use crate::pool::Pool;
use crate::worker::Worker;

/// A lease, and how long it was waited for, counted from `arrived`. `ticket` is that of an earlier
/// lease.
pub async fn acquire(
    table: &Arc<Table<Worker>>,
    ticket: Option<Ticket>,
    arrived: Instant,
) -> (Result<Lease<Worker>, Cause>, Duration) {
    let mut acquire = match ticket {
        None => table.acquire(),
        Some(ticket) => table.acquire_again(ticket),
    };
    // Most requests find a free worker: they need no clock.
    let first = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut acquire).poll(cx))).await;
    if let Poll::Ready(outcome) = first {
        return (outcome.map_err(named), Duration::ZERO);
    }
    let outcome = acquire.await.map_err(named);
    (outcome, arrived.elapsed())
}

/// A lease if a worker is free at once.
pub fn acquire_now(
    table: &Arc<Table<Worker>>,
    ticket: Option<Ticket>,
) -> Result<Lease<Worker>, Cause> {
    table.acquire_now(ticket).map_err(named)?.ok_or(Cause::Busy)
}

fn named(refused: Refused) -> Cause {
    match refused {
        Refused::QueueFull => Cause::QueueFull,
        Refused::Expired => Cause::QueueTimeout,
        Refused::NoWorkers => Cause::NoWorkers,
        Refused::Closed => Cause::Draining,
        Refused::Gone => Cause::WorkerUnreachable,
    }
}

/// Refuses requests that have waited for too long, until dropped.
pub async fn expire(pool: Arc<Pool>) {
    let Some(patience) = pool.limits.queue_timeout else {
        return;
    };
    loop {
        let pause = pool.table.expire(patience);
        tokio::time::sleep(pause).await;
    }
}
