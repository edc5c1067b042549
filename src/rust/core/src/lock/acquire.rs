//! Waiting for a lease.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::lease::Lease;
use super::table::{MemberId, Refused, Table};

/// A request's place in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket {
    pub(super) number: u64,
    /// When it was drawn, on the coarse clock: who comes back has waited since then.
    pub(super) since: u64,
}

/// Resolves to a [`Lease`]. Dropping it leaves the queue; if a worker had been handed over in that
/// very moment, it goes to whoever waits next.
#[must_use = "nothing is acquired until this is awaited"]
pub struct Acquire<W> {
    table: Arc<Table<W>>,
    /// The only member that will do.
    on: Option<MemberId>,
    place: Place,
}

/// `New -> Queued -> Done`, or `New -> Done` when a worker is free.
enum Place {
    New(Option<Ticket>),
    Queued(Ticket),
    Done,
}

impl<W> Acquire<W> {
    pub(super) fn new(table: Arc<Table<W>>, on: Option<MemberId>, again: Option<Ticket>) -> Self {
        Self {
            table,
            on,
            place: Place::New(again),
        }
    }
}

impl<W> Future for Acquire<W> {
    type Output = Result<Lease<W>, Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let (ticket, id, worker) = match this.place {
            Place::New(again) => {
                let entered = this.table.with(|state, wakes| {
                    let entered = match this.on {
                        None => state.enter(again, cx.waker(), wakes)?,
                        Some(id) => state.enter_on(id, again, cx.waker())?,
                    };
                    match entered {
                        Ok((ticket, id)) => Ok(Some((ticket, id, state.worker(id)))),
                        Err(ticket) => {
                            this.place = Place::Queued(ticket);
                            Ok(None)
                        }
                    }
                });
                match entered {
                    Ok(Some(granted)) => granted,
                    Ok(None) => return Poll::Pending,
                    Err(why) => {
                        this.place = Place::Done;
                        return Poll::Ready(Err(why));
                    }
                }
            }
            Place::Queued(ticket) => {
                let decided = this.table.with(|state, _| {
                    state
                        .collect(ticket, this.on, cx.waker())
                        .map(|decision| decision.map(|id| (id, state.worker(id))))
                });
                match decided {
                    None => return Poll::Pending,
                    Some(Ok((id, worker))) => (ticket, id, worker),
                    Some(Err(why)) => {
                        this.place = Place::Done;
                        return Poll::Ready(Err(why));
                    }
                }
            }
            Place::Done => panic!("Acquire polled after completion"),
        };
        match worker {
            Some(worker) => {
                this.place = Place::Done;
                let lease = Lease::new(this.table.clone(), worker, id, ticket, this.on.is_some());
                Poll::Ready(Ok(lease))
            }
            None => {
                // The worker was removed between grant and collection: back to the queue, same place.
                this.table.release(id, this.on.is_some());
                this.place = Place::New(Some(ticket));
                Pin::new(this).poll(cx)
            }
        }
    }
}

impl<W> Drop for Acquire<W> {
    fn drop(&mut self) {
        if let Place::Queued(ticket) = self.place {
            self.table
                .with(|state, wakes| state.leave(ticket, self.on, wakes));
        }
    }
}
