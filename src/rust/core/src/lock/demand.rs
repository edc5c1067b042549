//! Seeing that requests wait, for a source that can have more workers; or that workers do, for whoever brings requests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::table::Table;

/// Who waits for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Requests in the queue.
    pub waiting: usize,
    /// How long the first of them has waited; zero if there is none.
    pub longest: Duration,
}

/// Resolves when the queue is longer than a number. Dropping it stops the waiting.
#[must_use = "nothing is watched until this is awaited"]
pub struct LongerThan<W> {
    table: Arc<Table<W>>,
    limit: usize,
}

impl<W> LongerThan<W> {
    pub(super) fn new(table: Arc<Table<W>>, limit: usize) -> Self {
        Self { table, limit }
    }
}

impl<W> Future for LongerThan<W> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let longer = self
            .table
            .with(|state, _| state.is_longer(self.limit, cx.waker()));
        if longer {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Resolves when more leases than a number could be given. Dropping it stops the waiting.
#[must_use = "nothing is watched until this is awaited"]
pub struct RoomierThan<W> {
    table: Arc<Table<W>>,
    limit: usize,
}

impl<W> RoomierThan<W> {
    pub(super) fn new(table: Arc<Table<W>>, limit: usize) -> Self {
        Self { table, limit }
    }
}

impl<W> Future for RoomierThan<W> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let roomier = self
            .table
            .with(|state, _| state.is_roomier(self.limit, cx.waker()));
        if roomier {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
