//! The right to send one request to one worker.

use std::ops::Deref;
use std::sync::Arc;

use super::acquire::Ticket;
use super::table::{MemberId, Table};

/// The right to send one request to one worker, given back by `Drop`. Whoever holds it holds it
/// until the worker has answered completely or is gone, whatever became of the client.
#[must_use = "a lease dropped at once locks nothing"]
pub struct Lease<W> {
    table: Arc<Table<W>>,
    worker: Arc<W>,
    member: MemberId,
    ticket: Ticket,
    /// Whether it was asked for by the member's name, and so takes no slot.
    named: bool,
}

impl<W> Lease<W> {
    pub(super) fn new(
        table: Arc<Table<W>>,
        worker: Arc<W>,
        member: MemberId,
        ticket: Ticket,
        named: bool,
    ) -> Self {
        Self {
            table,
            worker,
            member,
            ticket,
            named,
        }
    }

    /// The worker's entry in the table.
    pub fn member(&self) -> MemberId {
        self.member
    }

    /// The place of this lease's request in the order of arrival, for [`Table::acquire_again`].
    pub fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// Whether it is one of [`Table::acquire_on`].
    pub fn is_named(&self) -> bool {
        self.named
    }

    /// The worker this lease is for, to keep beyond the lease.
    pub fn worker(&self) -> &Arc<W> {
        &self.worker
    }

    /// Whether requests wait for a lease on any worker.
    pub fn anyone_waits(&self) -> bool {
        self.table.waiting() > 0
    }

    /// A way to set the worker aside while the lease is someone else's to give back.
    pub fn suspender(&self) -> Suspender<W> {
        Suspender {
            table: self.table.clone(),
            member: self.member,
        }
    }

    /// Gives the lease back and sets its worker aside, so that the same request does not meet it
    /// again. The worker's source decides what becomes of it.
    pub fn suspend(self) -> Ticket {
        self.table.suspend(self.member);
        self.ticket
    }
}

/// Sets one worker aside: see [`Table::suspend`].
pub struct Suspender<W> {
    table: Arc<Table<W>>,
    member: MemberId,
}

impl<W> Suspender<W> {
    pub fn suspend(&self) {
        self.table.suspend(self.member);
    }
}

impl<W> Deref for Lease<W> {
    type Target = W;

    fn deref(&self) -> &W {
        &self.worker
    }
}

impl<W> Drop for Lease<W> {
    fn drop(&mut self) {
        self.table.release(self.member, self.named);
    }
}
