//! The lock table: waiting requests in, leases out.
//!
//! It knows no HTTP, no process and no socket. A *source* adds workers to a [`Table`] and takes them
//! away; whoever wants to send a request asks for a [`Lease`] with [`Table::acquire`] and holds it
//! until the worker has finished.
//!
//! The promises kept here, each with a test beside it:
//!
//! 1. at most `slots` leases exist on a worker;
//! 2. requests are served first come, first served, and no worker idles while someone waits;
//! 3. the queue is bounded;
//! 4. a lease on a named member ([`Table::acquire_on`]) waits for no other member, and is refused when that one is gone;
//! 5. nothing leaks: a lease and a place in the queue are both given back by `Drop`.
//!
//! Nothing polls (the one timer is for those who wait too long): a waiting request is woken by the very release that frees its worker.

mod acquire;
mod demand;
mod drain;
mod lease;
mod named;
mod table;

#[cfg(test)]
mod tests;

pub use acquire::{Acquire, Ticket};
pub use demand::{Demand, LongerThan};
pub use drain::{Drained, Idle};
pub use lease::{Lease, Suspender};
pub use table::{MemberId, MemberView, Refused, Snapshot, Standing, Table};
