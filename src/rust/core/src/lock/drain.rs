//! Waiting for the end of work: of one worker, or of the whole table.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::table::{MemberId, Table};

/// Resolves when a draining worker has finished what was in flight. Dropping it stops the waiting,
/// not the draining.
pub struct Drained<W> {
    table: Arc<Table<W>>,
    member: MemberId,
}

impl<W> Drained<W> {
    pub(super) fn new(table: Arc<Table<W>>, member: MemberId) -> Self {
        Self { table, member }
    }
}

impl<W> Future for Drained<W> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let gone = self
            .table
            .with(|state, _| state.is_gone(self.member, cx.waker()));
        if gone {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Resolves when nobody waits and no lease exists.
pub struct Idle<W> {
    table: Arc<Table<W>>,
}

impl<W> Idle<W> {
    pub(super) fn new(table: Arc<Table<W>>) -> Self {
        Self { table }
    }
}

impl<W> Future for Idle<W> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.table.with(|state, _| state.is_idle(cx.waker())) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
