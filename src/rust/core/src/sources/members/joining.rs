//! Who is to be a member, and how those who are new become some.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::member::{Member, Standing};
use super::Members;
use crate::tls::Peer;
use crate::worker::{Address, Remote};

/// Of so many members that are found at once, each has a line in the log when it joins.
const FEW: usize = 16;

impl Members {
    /// Has a member at each of these addresses and at no other; how many are new, and how many leave.
    pub fn want(
        &mut self,
        wanted: impl IntoIterator<Item = (Address, Option<Peer>)>,
    ) -> (usize, usize) {
        let wanted: BTreeMap<_, _> = wanted.into_iter().collect();
        let gone: Vec<u64> = self
            .members
            .iter()
            .filter(|(_, member)| !wanted.contains_key(&member.address))
            .filter(|(_, member)| member.standing != Standing::Leaving)
            .map(|(key, _)| *key)
            .collect();
        let is_new = |address: &&Address| !self.wanted.contains_key(*address);
        let new = wanted.keys().filter(is_new).count();
        self.wanted = wanted;
        for key in &gone {
            self.leave(*key);
        }
        self.join_missing();
        (new, gone.len())
    }

    /// A member that leaves keeps its address until it is gone: its process must not have two locks.
    pub(super) fn join_missing(&mut self) {
        if self.usage.exclusive && !self.members.is_empty() {
            return;
        }
        let missing: Vec<_> = self
            .wanted
            .iter()
            .filter(|(address, _)| !self.by_address.contains_key(address))
            .map(|(address, peer)| (address.clone(), peer.clone()))
            .collect();
        let few = missing.len() <= FEW;
        for (address, peer) in missing {
            let key = self.add(address, peer);
            if let (true, Some(member)) = (few, self.members.get_mut(&key)) {
                member.announced = true;
            }
            self.look_at(key);
        }
    }

    /// Adds a member that is there for certain.
    pub fn enter_unseen(&mut self, address: SocketAddr) {
        let address = Address::Tcp(address);
        let key = self.add(address.clone(), None);
        self.wanted.insert(address, None);
        self.enter(key);
    }

    fn add(&mut self, address: Address, peer: Option<Peer>) -> u64 {
        let key = self.next;
        self.next += 1;
        let id = u32::try_from(self.next).unwrap_or(u32::MAX);
        let (mut worker, doubt) = self.worker(id, key, address.clone());
        if let Some(cancel) = self.usage.remote {
            let remote = Remote::new(cancel)
                .with_peer(peer.or_else(|| self.usage.peer.clone()))
                .with_pool(self.usage.pool.clone());
            worker = worker.with_remote(remote);
        }
        let member = Member::new(id, address.clone(), Arc::new(worker), doubt);
        self.roster.put(member.entry());
        self.members.insert(key, member);
        self.by_address.insert(address, key);
        key
    }
}
