//! Leases on a member that is named: beside those that its slots are for, and with a limit of their own.
//!
//! A pool whose sessions stay in one process keeps a slot for each session, and takes a lease by name for each of its
//! requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use super::acquire::{Acquire, Ticket};
use super::lease::Lease;
use super::table::{Member, MemberId, Refused, Standing, State, Table, Wakes};

/// Leases by [`Table::acquire_on`] on one member, which take none of its slots.
#[derive(Default)]
pub(super) struct Named {
    limit: u32,
    pub(super) in_flight: u32,
    pub(super) waiting: BTreeMap<Ticket, Waker>,
}

impl Named {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty()
    }
}

impl<W> Member<W> {
    /// The same for who names it: it serves those that it has until it is gone.
    pub(super) fn has_named_room(&self) -> bool {
        self.standing != Standing::Suspended && self.named.in_flight < self.named.limit
    }
}

impl<W> Table<W> {
    /// Adds a worker with `slots` for leases that are kept for long, and up to `requests` more at a time for those who name it.
    pub fn add_sticky(&self, worker: Arc<W>, slots: u32, requests: u32) -> MemberId {
        self.add_with(worker, slots, requests)
    }

    /// Asks for a lease on one member, beside those that its slots are for: it may have so many at a time as
    /// [`add_sticky`](Self::add_sticky) said. While it serves or drains they are granted, while it is set aside they wait, and
    /// when it is gone they are [`Refused::Gone`]. Queue, limits, and order among those who name the same member are as for
    /// [`acquire`](Self::acquire); that no other worker starts is no reason to refuse them.
    ///
    /// `again` is the ticket of an earlier lease.
    pub fn acquire_on(self: &Arc<Self>, id: MemberId, again: Option<Ticket>) -> Acquire<W> {
        Acquire::new(self.clone(), Some(id), again)
    }

    /// A lease that takes a slot of one member, if that has room now. Who asks so takes no place in the queue.
    pub fn acquire_slot_of(self: &Arc<Self>, id: MemberId) -> Option<Lease<W>> {
        let (ticket, worker) = self.with(|state, _| {
            let member = state.members.get(&id)?;
            if state.refusing.is_some() || !member.has_room() {
                return None;
            }
            let worker = member.worker.clone();
            if !state.take(id) {
                state.free.retain(|free| *free != id);
            }
            Some((state.draw(), worker))
        })?;
        Some(Lease::new(self.clone(), worker, id, ticket, false))
    }

    /// The first member that fits.
    pub fn find(&self, fits: impl Fn(&W) -> bool) -> Option<MemberId> {
        let state = self.lock();
        let mut members = state.members.iter();
        let (id, _) = members.find(|(_, member)| fits(&member.worker))?;
        Some(*id)
    }

    /// How a member stands; none if it is gone.
    pub fn standing(&self, id: MemberId) -> Option<Standing> {
        self.lock().members.get(&id).map(|member| member.standing)
    }

    /// Leases by [`acquire_on`](Self::acquire_on) now, those who wait for one among them.
    pub fn named(&self) -> usize {
        let state = self.lock();
        let members = state.members.values();
        let held: u32 = members.map(|member| member.named.in_flight).sum();
        held as usize + state.named_waiting
    }
}

impl<W> State<W> {
    /// The same for whoever names a member.
    pub(super) fn enter_on(
        &mut self,
        id: MemberId,
        again: Option<Ticket>,
        waker: &Waker,
    ) -> Result<Result<(Ticket, MemberId), Ticket>, Refused> {
        if let Some(why) = self.refusing.filter(|why| *why != Refused::NoWorkers) {
            return Err(why);
        }
        let ticket = again.unwrap_or_else(|| self.draw());
        let full = again.is_none() && self.all_waiting() >= self.queue_limit;
        let member = self.members.get_mut(&id).ok_or(Refused::Gone)?;
        let first = member.named.waiting.first_key_value();
        if member.has_named_room() && !first.is_some_and(|(first, _)| *first < ticket) {
            member.named.in_flight += 1;
            self.leases += 1;
            return Ok(Ok((ticket, id)));
        }
        if full {
            return Err(Refused::QueueFull);
        }
        member.named.waiting.insert(ticket, waker.clone());
        self.named_waiting += 1;
        Ok(Err(ticket))
    }

    /// The request that held `ticket` left before it had a lease on `id`.
    pub(super) fn leave_named(&mut self, ticket: Ticket, id: MemberId, wakes: &mut Wakes) {
        let member = self.members.get_mut(&id);
        if member.is_some_and(|member| member.named.waiting.remove(&ticket).is_some()) {
            self.named_waiting -= 1;
            self.forget_if_drained(id, wakes);
            self.wake_if_idle(wakes);
        } else if let Some(Ok(id)) = self.decided.remove(&ticket) {
            self.release_named(id, wakes);
        }
    }

    pub(super) fn release_named(&mut self, id: MemberId, wakes: &mut Wakes) {
        self.leases -= 1;
        if let Some(member) = self.members.get_mut(&id) {
            member.named.in_flight -= 1;
            self.offer_named(id, wakes);
            self.forget_if_drained(id, wakes);
        }
        self.wake_if_idle(wakes);
    }

    /// Gives what `id` has room for to those who wait for it by name.
    pub(super) fn offer_named(&mut self, id: MemberId, wakes: &mut Wakes) {
        while let Some(member) = self
            .members
            .get_mut(&id)
            .filter(|member| member.has_named_room())
        {
            let Some((ticket, waker)) = member.named.waiting.pop_first() else {
                return;
            };
            member.named.in_flight += 1;
            self.named_waiting -= 1;
            self.leases += 1;
            self.decided.insert(ticket, Ok(id));
            wakes.push(waker);
        }
    }

    /// Refuses those who wait for a member by name, if their ticket is one of `which`.
    pub(super) fn refuse_named(
        &mut self,
        which: impl Fn(&Ticket) -> bool,
        why: Refused,
        wakes: &mut Wakes,
    ) {
        let mut emptied = Vec::new();
        for (id, member) in &mut self.members {
            let waiting = std::mem::take(&mut member.named.waiting);
            for (ticket, waker) in waiting {
                if which(&ticket) {
                    self.named_waiting -= 1;
                    self.decided.insert(ticket, Err(why));
                    wakes.push(waker);
                } else {
                    member.named.waiting.insert(ticket, waker);
                }
            }
            emptied.push(*id);
        }
        for id in emptied {
            self.forget_if_drained(id, wakes);
        }
    }

    /// Refuses those who have waited for `patience`; how long until the next one has. Both in milliseconds.
    pub(super) fn expire_named(&mut self, patience: u64, now: u64, wakes: &mut Wakes) -> u64 {
        let due = |ticket: &Ticket| ticket.since + patience <= now;
        self.refuse_named(due, Refused::Expired, wakes);
        let members = self.members.values();
        let left = members.flat_map(|member| member.named.waiting.keys());
        left.map(|ticket| ticket.since + patience - now)
            .min()
            .unwrap_or(patience)
    }

    /// Refuses those who waited for a member that is forgotten.
    pub(super) fn refuse_gone(&mut self, named: Named, wakes: &mut Wakes) {
        self.named_waiting -= named.waiting.len();
        for (ticket, waker) in named.waiting {
            self.decided.insert(ticket, Err(Refused::Gone));
            wakes.push(waker);
        }
    }
}
