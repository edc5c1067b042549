//! Seeing that requests wait, for a source that can have more workers; or that workers do, for whoever brings requests.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::table::{State, Table};
use crate::clock::coarse_millis;

/// Who waits for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Requests in the queue.
    pub waiting: usize,
    /// How long the first of them has waited; zero if there is none.
    pub longest: Duration,
}

impl<W> Table<W> {
    /// Resolves when more than `limit` requests wait. One task at a time may wait for that.
    pub fn longer_than(self: &Arc<Self>, limit: usize) -> LongerThan<W> {
        LongerThan::new(self.clone(), limit)
    }

    /// Who waits now.
    pub fn demand(&self) -> Demand {
        let state = self.lock();
        let longest = state.waiting.first_key_value().map_or(0, |(ticket, _)| {
            coarse_millis().saturating_sub(ticket.since)
        });
        Demand {
            waiting: state.waiting.len(),
            longest: Duration::from_millis(longest),
        }
    }

    /// Leases that exist.
    pub fn leases(&self) -> usize {
        self.lock().leases
    }

    /// Resolves when more than `limit` leases could be given. One task at a time may wait for that.
    pub fn roomier_than(self: &Arc<Self>, limit: usize) -> RoomierThan<W> {
        RoomierThan::new(self.clone(), limit)
    }

    /// Leases that could be given now.
    pub fn room(&self) -> usize {
        self.lock().room()
    }
}

impl<W> State<W> {
    /// Slots that are free, of those who serve.
    pub(super) fn room(&self) -> usize {
        let free = self.free.iter().filter_map(|id| self.members.get(id));
        free.map(|member| member.slots.saturating_sub(member.in_flight) as usize)
            .sum()
    }

    /// Registers `waker` for a queue longer than `limit`; `true` when it is so now.
    pub(super) fn is_longer(&mut self, limit: usize, waker: &Waker) -> bool {
        let longer = self.waiting.len() > limit;
        self.watched = (!longer).then(|| (limit, waker.clone()));
        longer
    }

    /// Registers `waker` for room for more than `limit` leases; `true` when it is so now.
    pub(super) fn is_roomier(&mut self, limit: usize, waker: &Waker) -> bool {
        let roomier = self.room() > limit;
        self.room_watched = (!roomier).then(|| (limit, waker.clone()));
        roomier
    }
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
