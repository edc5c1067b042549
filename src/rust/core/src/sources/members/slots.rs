//! Slots of workers that dial in: members that come by themselves, and are gone with their one connection.

use std::sync::Arc;

use super::member::{Member, Standing};
use super::{Event, Members};
use crate::worker::remote::Remote;
use crate::worker::{Address, Dialled};

impl Members {
    /// Adds a slot that a worker has dialled in with.
    pub fn take_slot(&mut self, slot: Arc<Dialled>) {
        let key = self.next;
        self.next += 1;
        let id = self.free_ids.pop_first().unwrap_or_else(|| {
            // As many as there were at a time.
            u32::try_from(self.members.len() + 1).unwrap_or(u32::MAX)
        });
        let (peer, watched) = (slot.peer, slot.clone());
        let (worker, doubt) = self.worker(id, key, Address::Dialled(peer));
        let remote = Remote::of_slot(self.usage.remote.unwrap_or(true));
        let worker = worker.with_remote(remote).with_dialled(slot);
        let mut member = Member::new(id, Address::Dialled(peer), Arc::new(worker), doubt);
        member.enter(self.table.add(member.worker.clone(), 1));
        self.roster.put(member.entry());
        self.members.insert(key, member);
        let events = self.events.clone();
        tokio::spawn(async move {
            watched.gone().await;
            let _ = events.send((key, Event::Gone));
        });
    }

    /// The slot that is gone by this event.
    pub fn slot_gone(&self, key: u64, event: &Event) -> Option<&Arc<Dialled>> {
        matches!(event, Event::Gone)
            .then(|| self.members.get(&key)?.worker.dialled.as_ref())
            .flatten()
    }

    /// A slot is gone: nothing can be sent to it. Its tunnel, if it has become one, lives on.
    pub(super) fn part(&mut self, key: u64) {
        self.turn_is_over(key);
        let Some(member) = self.members.get_mut(&key) else {
            return;
        };
        member.give_up();
        if let Some(place) = member.place.take() {
            self.table.remove(place);
        }
        member.worker.close_connections();
        if member.worker.tunnels.count() == 0 {
            return self.forget(key);
        }
        member.standing = Standing::Leaving;
        self.roster.put(member.entry());
        let (worker, events) = (member.worker.clone(), self.events.clone());
        tokio::spawn(async move {
            worker.tunnels.closed().await;
            let _ = events.send((key, Event::Drained));
        });
    }
}
