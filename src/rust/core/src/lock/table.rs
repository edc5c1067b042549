//! The table itself: who is free, who waits, and the one place where a worker changes hands.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::acquire::{Acquire, Ticket};
use super::drain::{Drained, Idle};
use super::lease::Lease;
use super::named::Named;
use crate::clock::coarse_millis;

/// Names one worker's entry in one table. Never used twice, so a lease that outlives its worker
/// cannot touch the worker's successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(u64);

/// Why a request was not given a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the queue is full")]
    QueueFull,
    #[error("no worker became free in time")]
    Expired,
    #[error("there is no worker left to wait for")]
    NoWorkers,
    #[error("the server is shutting down")]
    Closed,
    /// Of a lease on a named member.
    #[error("the worker is gone")]
    Gone,
}

/// How a member stands towards new leases.
///
/// ```text
/// Serving <-> Suspended
///    \           /
///     v         v
///      Draining -> (gone, once nothing is in flight)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Takes a new lease whenever a slot is free.
    Serving,
    /// Set aside by its source, which will resume or remove it.
    Suspended,
    /// Finishes what is in flight and takes nothing new.
    Draining,
}

pub(super) struct Member<W> {
    pub(super) worker: Arc<W>,
    pub(super) slots: u32,
    pub(super) in_flight: u32,
    pub(super) standing: Standing,
    /// Whether it stands in `free`.
    listed: bool,
    pub(super) named: Named,
    drained: Vec<Waker>,
}

impl<W> Member<W> {
    pub(super) fn has_room(&self) -> bool {
        self.standing == Standing::Serving && self.in_flight < self.slots
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.named.is_idle()
    }
}

/// The lock table. Shared as `Arc<Table<W>>`; every method takes the one mutex for a short time and
/// wakes whoever it must after giving it back.
pub struct Table<W> {
    state: Mutex<State<W>>,
}

pub(super) struct State<W> {
    pub(super) members: BTreeMap<MemberId, Member<W>>,
    /// Members with room. The last one freed is the first one used: its caches are warm, and the
    /// others' memory may rest.
    pub(super) free: Vec<MemberId>,
    /// First come, first served.
    pub(super) waiting: BTreeMap<Ticket, Waker>,
    /// Those that wait for a member that they name, in all.
    pub(super) named_waiting: usize,
    /// Whether the member with the fewest leases is used first, and not the one that was freed last.
    spreads: bool,
    /// Decided, but not yet collected by the waiting request.
    pub(super) decided: BTreeMap<Ticket, Result<MemberId, Refused>>,
    pub(super) queue_limit: usize,
    pub(super) refusing: Option<Refused>,
    next_ticket: u64,
    next_member: u64,
    pub(super) leases: usize,
    idle: Vec<Waker>,
    /// Who is told when the queue is longer than this.
    pub(super) watched: Option<(usize, Waker)>,
    /// Who is told when more leases than this could be given.
    pub(super) room_watched: Option<(usize, Waker)>,
}

/// Wakers collected under the lock, woken after it. Most changes wake one.
#[derive(Default)]
#[must_use]
pub(super) struct Wakes {
    first: Option<Waker>,
    others: Vec<Waker>,
}

impl Wakes {
    pub(super) fn push(&mut self, waker: Waker) {
        match &self.first {
            None => self.first = Some(waker),
            Some(_) => self.others.push(waker),
        }
    }

    pub(super) fn wake(self) {
        self.first
            .into_iter()
            .chain(self.others)
            .for_each(Waker::wake);
    }
}

/// One member as seen from outside.
pub struct MemberView<W> {
    pub id: MemberId,
    pub worker: Arc<W>,
    pub slots: u32,
    pub in_flight: u32,
    /// Leases by [`Table::acquire_on`].
    pub named: u32,
    pub standing: Standing,
}

/// The table at one instant.
pub struct Snapshot<W> {
    /// Requests waiting for a lease.
    pub waiting: usize,
    /// Leases that exist, those of removed workers included.
    pub leases: usize,
    /// Members in the order they were added.
    pub members: Vec<MemberView<W>>,
}

impl<W> Table<W> {
    /// An empty table whose queue holds at most `queue_limit` waiting requests.
    pub fn new(queue_limit: usize) -> Arc<Self> {
        Self::with_order(queue_limit, false)
    }

    /// The same, whose leases are kept for long: each is on the member that has the fewest.
    pub fn spreading(queue_limit: usize) -> Arc<Self> {
        Self::with_order(queue_limit, true)
    }

    fn with_order(queue_limit: usize, spreads: bool) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                members: BTreeMap::new(),
                free: Vec::new(),
                waiting: BTreeMap::new(),
                named_waiting: 0,
                spreads,
                decided: BTreeMap::new(),
                queue_limit,
                refusing: None,
                next_ticket: 0,
                next_member: 0,
                leases: 0,
                idle: Vec::new(),
                watched: None,
                room_watched: None,
            }),
        })
    }

    /// Adds a worker that serves `slots` requests at a time. Waiting requests get it at once.
    pub fn add(&self, worker: Arc<W>, slots: u32) -> MemberId {
        self.add_with(worker, slots, 0)
    }

    /// The same; `requests` is the limit of [`Named`].
    pub(super) fn add_with(&self, worker: Arc<W>, slots: u32, requests: u32) -> MemberId {
        self.with(|state, wakes| {
            let id = MemberId(state.next_member);
            state.next_member += 1;
            state.members.insert(
                id,
                Member {
                    worker,
                    slots: slots.max(1),
                    in_flight: 0,
                    standing: Standing::Serving,
                    listed: false,
                    named: Named::new(requests),
                    drained: Vec::new(),
                },
            );
            state.offer(id, wakes);
            id
        })
    }

    /// Forgets a worker that is gone. Leases on it stay valid objects; giving them back does nothing. Whoever waits for
    /// it by name is refused.
    pub fn remove(&self, id: MemberId) {
        self.with(|state, wakes| state.forget(id, wakes));
    }

    /// Changes how many requests a worker serves at a time. Leases beyond a smaller number stay.
    pub fn resize(&self, id: MemberId, slots: u32) {
        self.with(|state, wakes| {
            if let Some(member) = state.members.get_mut(&id) {
                member.slots = slots.max(1);
                if member.standing == Standing::Serving && !member.has_room() {
                    state.unlist(id);
                } else if member.standing == Standing::Serving {
                    state.offer(id, wakes);
                }
            }
        });
    }

    /// Requests that all workers together serve at a time, those that leave not counted.
    pub fn capacity(&self) -> u32 {
        let state = self.lock();
        let staying = |member: &&Member<W>| member.standing != Standing::Draining;
        let slots = state.members.values().filter(staying);
        // Those elsewhere may claim any number.
        slots.fold(0, |sum, member| sum.saturating_add(member.slots))
    }

    /// Sets a worker aside: no new leases until [`resume`](Self::resume). A draining worker stays draining.
    pub fn suspend(&self, id: MemberId) {
        self.with(|state, _| {
            if let Some(member) = state.members.get_mut(&id) {
                if member.standing == Standing::Serving {
                    member.standing = Standing::Suspended;
                    state.unlist(id);
                }
            }
        });
    }

    /// Takes a worker that was set aside back into service.
    pub fn resume(&self, id: MemberId) {
        self.with(|state, wakes| {
            if let Some(member) = state.members.get_mut(&id) {
                if member.standing == Standing::Suspended {
                    member.standing = Standing::Serving;
                    state.offer(id, wakes);
                    state.offer_named(id, wakes);
                }
            }
        });
    }

    /// Lets a worker finish what is in flight, gives it nothing new but to those who name it, and forgets it. The future
    /// resolves when it is gone; draining happens whether or not it is awaited.
    pub fn drain(self: &Arc<Self>, id: MemberId) -> Drained<W> {
        self.with(|state, wakes| {
            if let Some(member) = state.members.get_mut(&id) {
                member.standing = Standing::Draining;
                state.unlist(id);
                // Those who waited while it was set aside.
                state.offer_named(id, wakes);
                state.forget_if_drained(id, wakes);
            }
        });
        Drained::new(self.clone(), id)
    }

    /// Forgets a worker that serves nobody while nobody waits; whether it was so. Its next request is another's.
    pub fn remove_if_idle(&self, id: MemberId) -> bool {
        self.with(|state, wakes| {
            let member = state.members.get(&id);
            let idle = member.is_some_and(Member::is_idle);
            if idle && state.waiting.is_empty() {
                state.forget(id, wakes);
                return true;
            }
            false
        })
    }

    /// Asks for a lease on any worker, at the end of the queue.
    pub fn acquire(self: &Arc<Self>) -> Acquire<W> {
        Acquire::new(self.clone(), None, None)
    }

    /// Asks again with the ticket of an earlier lease, ahead of everyone who came later. For a
    /// request whose worker turned out to be unreachable before anything was sent.
    pub fn acquire_again(self: &Arc<Self>, ticket: Ticket) -> Acquire<W> {
        Acquire::new(self.clone(), None, Some(ticket))
    }

    /// A lease if a worker is free and nobody waits for it: who asks so takes no place in the queue. `again` is the
    /// ticket of an earlier lease.
    ///
    /// # Errors
    /// [`Refused`] if nobody gets a lease now.
    pub fn acquire_now(
        self: &Arc<Self>,
        again: Option<Ticket>,
    ) -> Result<Option<Lease<W>>, Refused> {
        let granted = self.with(|state, _| {
            if let Some(why) = state.refusing {
                return Err(why);
            }
            let ticket = again.unwrap_or_else(|| state.draw());
            Ok(state
                .grant(ticket)
                .and_then(|id| Some((ticket, id, state.worker(id)?))))
        })?;
        Ok(granted.map(|(ticket, id, worker)| Lease::new(self.clone(), worker, id, ticket, false)))
    }

    /// Refuses every waiting and every coming request, for the given reason.
    pub fn refuse(&self, why: Refused) {
        self.with(|state, wakes| {
            state.refusing = Some(why);
            for (ticket, waker) in std::mem::take(&mut state.waiting) {
                state.decided.insert(ticket, Err(why));
                wakes.push(waker);
            }
            if why != Refused::NoWorkers && state.named_waiting > 0 {
                state.refuse_named(|_| true, why, wakes);
            }
            state.wake_if_idle(wakes);
        });
    }

    /// Refuses those who have waited for `patience`; how long until it is time to look again.
    /// One timer for the whole queue: a timer for each request would cost more than the queue.
    pub fn expire(&self, patience: Duration) -> Duration {
        let patience = patience.as_millis() as u64 + 1;
        self.with(|state, wakes| {
            let now = coarse_millis();
            let mut left = patience;
            let mut expired = Vec::new();
            for ticket in state.waiting.keys() {
                match (ticket.since + patience).checked_sub(now) {
                    None | Some(0) => expired.push(*ticket),
                    Some(more) => left = left.min(more),
                }
            }
            if state.named_waiting > 0 {
                left = left.min(state.expire_named(patience, now, wakes));
            }
            for ticket in expired {
                if let Some(waker) = state.waiting.remove(&ticket) {
                    state.decided.insert(ticket, Err(Refused::Expired));
                    wakes.push(waker);
                }
            }
            state.wake_if_idle(wakes);
            Duration::from_millis(left)
        })
    }

    /// Takes requests again after [`refuse`](Self::refuse).
    pub fn admit(&self) {
        self.with(|state, _| state.refusing = None);
    }

    /// Resolves when nobody waits and no lease exists.
    pub fn idle(self: &Arc<Self>) -> Idle<W> {
        Idle::new(self.clone())
    }

    /// Requests waiting for a lease now.
    pub fn waiting(&self) -> usize {
        self.lock().all_waiting()
    }

    /// Whether a newcomer would have a worker at once.
    pub fn has_room(&self) -> bool {
        let state = self.lock();
        !state.free.is_empty() && state.waiting.is_empty()
    }

    /// Leases on a worker; none if it is gone.
    pub fn in_flight(&self, id: MemberId) -> u32 {
        let state = self.lock();
        let member = state.members.get(&id);
        member.map_or(0, |member| member.in_flight + member.named.in_flight)
    }

    /// The table at this instant.
    pub fn snapshot(&self) -> Snapshot<W> {
        let state = self.lock();
        let members = state
            .members
            .iter()
            .map(|(id, member)| MemberView {
                id: *id,
                worker: member.worker.clone(),
                slots: member.slots,
                in_flight: member.in_flight,
                named: member.named.in_flight,
                standing: member.standing,
            })
            .collect();
        Snapshot {
            waiting: state.all_waiting(),
            leases: state.leases,
            members,
        }
    }

    /// Gives a lease on `id` back.
    pub(super) fn release(&self, id: MemberId, named: bool) {
        self.with(|state, wakes| {
            if named {
                state.release_named(id, wakes);
            } else {
                state.release(id, wakes);
            }
        });
    }

    /// Runs `f` under the lock and wakes whom it named after the lock is given back, so that no
    /// waker ever runs inside.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut State<W>, &mut Wakes) -> T) -> T {
        let mut wakes = Wakes::default();
        let result = f(&mut self.lock(), &mut wakes);
        wakes.wake();
        result
    }

    /// A panic cannot happen half-way through a change of state (no user code runs under the lock),
    /// so a poisoned mutex holds a consistent table.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W> State<W> {
    /// Grants, refuses, or queues `waker`. `again` is the ticket of an earlier lease.
    pub(super) fn enter(
        &mut self,
        again: Option<Ticket>,
        waker: &Waker,
        wakes: &mut Wakes,
    ) -> Result<Result<(Ticket, MemberId), Ticket>, Refused> {
        if let Some(why) = self.refusing {
            return Err(why);
        }
        let ticket = again.unwrap_or_else(|| self.draw());
        if let Some(id) = self.grant(ticket) {
            return Ok(Ok((ticket, id)));
        }
        // A request that comes back had its place already; the limit is for newcomers.
        if again.is_none() && self.all_waiting() >= self.queue_limit {
            return Err(Refused::QueueFull);
        }
        self.waiting.insert(ticket, waker.clone());
        if matches!(self.watched, Some((limit, _)) if self.waiting.len() > limit) {
            if let Some((_, watcher)) = self.watched.take() {
                wakes.push(watcher);
            }
        }
        Ok(Err(ticket))
    }

    pub(super) fn all_waiting(&self) -> usize {
        self.waiting.len() + self.named_waiting
    }

    /// A place at the end of the order of arrival.
    pub(super) fn draw(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket {
            number: self.next_ticket,
            since: coarse_millis(),
        }
    }

    /// A slot for whoever holds `ticket`, if one is free and nobody is overtaken.
    fn grant(&mut self, ticket: Ticket) -> Option<MemberId> {
        // Someone may wait while a worker is free only between a refusal and its collection, so the
        // queue is checked as well: nobody overtakes.
        let overtakes = self
            .waiting
            .first_key_value()
            .is_some_and(|(first, _)| *first < ticket);
        if overtakes {
            return None;
        }
        let at = self.next_free()?;
        let id = self.free[at];
        if !self.take(id) {
            self.free.swap_remove(at);
        }
        Some(id)
    }

    /// Which of `free` is next.
    fn next_free(&self) -> Option<usize> {
        if !self.spreads {
            return self.free.len().checked_sub(1);
        }
        let fewest = |at: &usize| {
            let id = self.free[*at];
            (self.members.get(&id).map(|member| member.in_flight), id)
        };
        (0..self.free.len()).min_by_key(fewest)
    }

    /// Whether `ticket` was decided; if not, who to wake when it is.
    pub(super) fn collect(
        &mut self,
        ticket: Ticket,
        on: Option<MemberId>,
        waker: &Waker,
    ) -> Option<Result<MemberId, Refused>> {
        if let Some(decision) = self.decided.remove(&ticket) {
            return Some(decision);
        }
        let waiting = match on {
            None => self.waiting.get_mut(&ticket),
            Some(id) => {
                let member = self.members.get_mut(&id);
                member.and_then(|member| member.named.waiting.get_mut(&ticket))
            }
        };
        if let Some(waiting) = waiting {
            waiting.clone_from(waker);
        }
        None
    }

    /// The request that held `ticket` left before it had a lease.
    pub(super) fn leave(&mut self, ticket: Ticket, on: Option<MemberId>, wakes: &mut Wakes) {
        match on {
            None if self.waiting.remove(&ticket).is_some() => self.wake_if_idle(wakes),
            None => {
                if let Some(Ok(id)) = self.decided.remove(&ticket) {
                    self.release(id, wakes);
                }
            }
            Some(id) => self.leave_named(ticket, id, wakes),
        }
    }

    /// The worker behind a lease; absent when it was removed between grant and collection.
    pub(super) fn worker(&self, id: MemberId) -> Option<Arc<W>> {
        self.members.get(&id).map(|member| member.worker.clone())
    }

    /// Uses a slot of `id`; whether another one is left. If not, the caller takes it off the list.
    pub(super) fn take(&mut self, id: MemberId) -> bool {
        self.leases += 1;
        let Some(member) = self.members.get_mut(&id) else {
            return false;
        };
        member.in_flight += 1;
        member.listed &= member.has_room();
        member.listed
    }

    fn release(&mut self, id: MemberId, wakes: &mut Wakes) {
        self.leases -= 1;
        if let Some(member) = self.members.get_mut(&id) {
            member.in_flight -= 1;
            match member.standing {
                Standing::Serving => self.offer(id, wakes),
                Standing::Draining if member.is_idle() => self.forget(id, wakes),
                Standing::Draining | Standing::Suspended => {}
            }
        }
        self.wake_if_idle(wakes);
    }

    pub(super) fn forget_if_drained(&mut self, id: MemberId, wakes: &mut Wakes) {
        let drained = self
            .members
            .get(&id)
            .is_some_and(|member| member.standing == Standing::Draining && member.is_idle());
        if drained {
            self.forget(id, wakes);
        }
    }

    /// Gives the free slots of `id` to those who wait; what is left makes it a free member.
    fn offer(&mut self, id: MemberId, wakes: &mut Wakes) {
        while let Some(member) = self.members.get_mut(&id).filter(|member| member.has_room()) {
            let Some((ticket, waker)) = self.waiting.pop_first() else {
                if !std::mem::replace(&mut member.listed, true) {
                    self.free.push(id);
                }
                if matches!(self.room_watched, Some((limit, _)) if self.room() > limit) {
                    if let Some((_, watcher)) = self.room_watched.take() {
                        wakes.push(watcher);
                    }
                }
                return;
            };
            // Someone waits, so this member was full or not serving until now: it is not listed.
            self.take(id);
            self.decided.insert(ticket, Ok(id));
            wakes.push(waker);
        }
    }

    fn unlist(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id) {
            if std::mem::replace(&mut member.listed, false) {
                self.free.retain(|free| *free != id);
            }
        }
    }

    fn forget(&mut self, id: MemberId, wakes: &mut Wakes) {
        self.unlist(id);
        if let Some(member) = self.members.remove(&id) {
            for waker in member.drained {
                wakes.push(waker);
            }
            self.refuse_gone(member.named, wakes);
        }
    }

    /// Registers `waker` for the end of a drain; `true` when it has ended.
    pub(super) fn is_gone(&mut self, id: MemberId, waker: &Waker) -> bool {
        match self.members.get_mut(&id) {
            None => true,
            Some(member) => {
                member.drained.push(waker.clone());
                false
            }
        }
    }

    /// Registers `waker` for the table's next idle moment; `true` when it is idle now.
    pub(super) fn is_idle(&mut self, waker: &Waker) -> bool {
        let idle = self.leases == 0 && self.all_waiting() == 0;
        // Whoever looks again and again is woken once.
        if !idle && !self.idle.iter().any(|known| known.will_wake(waker)) {
            self.idle.push(waker.clone());
        }
        idle
    }

    pub(super) fn wake_if_idle(&mut self, wakes: &mut Wakes) {
        if self.leases == 0 && self.all_waiting() == 0 {
            for waker in std::mem::take(&mut self.idle) {
                wakes.push(waker);
            }
        }
    }
}
