//! How many turns are waited for at each machine that dials in.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::worker::Dialled;

/// What has one lock: the slots that come from one address under one name.
type Machine = (Arc<str>, IpAddr);

fn machine(slot: &Dialled) -> Machine {
    (slot.name.clone(), slot.peer.ip())
}

#[derive(Default)]
struct Slots {
    /// Ask for a turn. While there are none of these, none are left alone.
    asking: BTreeSet<u64>,
    /// Were told that nobody is free, and are left alone.
    left_alone: BTreeSet<u64>,
}

/// The slots of each machine that were told that nobody is free there.
#[derive(Default)]
pub(super) struct Awaited(HashMap<Machine, Slots>);

impl Awaited {
    /// Whether this slot is to ask for a turn, while so many requests wait.
    pub(super) fn asks(&mut self, slot: &Dialled, key: u64, waiting: usize) -> bool {
        let slots = self.0.entry(machine(slot)).or_default();
        let asks = slots.asking.len() < waiting.max(1);
        if asks {
            slots.asking.insert(key);
        } else {
            slots.left_alone.insert(key);
        }
        asks
    }

    /// This slot does not ask any more, or is gone. Those that need not be left alone any more.
    pub(super) fn over(&mut self, slot: &Dialled, key: u64) -> BTreeSet<u64> {
        let machine = machine(slot);
        let Some(slots) = self.0.get_mut(&machine) else {
            return BTreeSet::new();
        };
        slots.left_alone.remove(&key);
        if !slots.asking.remove(&key) {
            return BTreeSet::new();
        }
        let left_alone = std::mem::take(&mut slots.left_alone);
        if slots.asking.is_empty() {
            self.0.remove(&machine);
        }
        left_alone
    }
}
