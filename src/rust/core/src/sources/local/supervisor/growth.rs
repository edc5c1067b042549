//! More workers, and fewer.

use std::collections::HashSet;

use super::Supervisor;
use crate::sources::local::position::Position;
use crate::sources::local::WorkerRange;
use crate::sources::{Failure, Reply};

/// New workers that someone waits for.
pub(super) struct Growth {
    pub(super) pending: HashSet<u64>,
    pub(super) reply: Reply,
}

impl Supervisor {
    pub(super) async fn scale(&mut self, workers: WorkerRange, reply: Reply) {
        if self.stopping.is_some() {
            let _ = reply.send(Err(Failure::stopping()));
            return;
        }
        self.settings.workers = workers;
        self.shrink(workers.max).await;
        self.look_at_idle_later();
        let (mut pending, mut failed) = (HashSet::new(), None);
        let mut id = 0;
        while (self.positions.len() as u32) < workers.min {
            id += 1;
            if self.positions.contains_key(&id) {
                continue;
            }
            let seat = self.resources.budget.seat();
            self.positions.insert(id, Position::new(seat));
            self.table_admits();
            match self.start(id, None).await {
                Ok(generation) => {
                    pending.insert(generation);
                }
                Err(failure) => failed = Some(failure),
            }
        }
        if self.lacks_template() && !self.positions.is_empty() {
            // These load the app themselves; those that come later are forked.
            self.start_template().await;
        }
        if let Some(failure) = failed {
            let _ = reply.send(Err(failure));
        } else if pending.is_empty() {
            let _ = reply.send(Ok(()));
        } else {
            self.growth.push(Growth { pending, reply });
        }
    }

    /// Lets the positions go that are too many: those that serve nobody first, then the last ones.
    pub(super) async fn shrink(&mut self, count: u32) {
        let max_failures = self.settings.max_failures;
        let mut ids: Vec<(bool, u32)> = self
            .positions
            .iter()
            .map(|(id, position)| (position.is_failing(max_failures), *id))
            .collect();
        ids.sort_unstable();
        let surplus: Vec<u32> = ids
            .into_iter()
            .skip(count as usize)
            .map(|(_, id)| id)
            .collect();
        if surplus.is_empty() {
            return;
        }
        // All positions first: a reload that goes on below must not start what leaves.
        self.positions.retain(|id, _| !surplus.contains(id));
        let leaving: Vec<u64> = self
            .members
            .iter()
            .filter(|(_, member)| surplus.contains(&member.id))
            .map(|(generation, _)| *generation)
            .collect();
        for generation in leaving {
            self.retire(generation);
            self.grown(generation, Err(scaled_away()));
            if self.rollout_waits_for(generation) {
                self.roll_next().await;
            }
        }
        self.refuse_if_all_fail();
    }

    /// A process that someone may wait for is ready, or will never be.
    pub(super) fn grown(&mut self, generation: u64, outcome: Result<(), Failure>) {
        let mut waiting = Vec::new();
        for mut growth in std::mem::take(&mut self.growth) {
            let awaited = growth.pending.remove(&generation);
            match &outcome {
                Err(failure) if awaited => {
                    let _ = growth.reply.send(Err(failure.clone()));
                }
                _ if growth.pending.is_empty() => {
                    let _ = growth.reply.send(Ok(()));
                }
                _ => waiting.push(growth),
            }
        }
        self.growth = waiting;
    }

    /// Whoever waits for one of `old` waits for `new` from now on.
    pub(super) fn awaited_instead(&mut self, old: &[u64], new: u64) {
        for growth in &mut self.growth {
            let before = growth.pending.len();
            growth
                .pending
                .retain(|generation| !old.contains(generation));
            if growth.pending.len() < before {
                growth.pending.insert(new);
            }
        }
    }
}

fn scaled_away() -> Failure {
    Failure {
        class: "boot",
        message: "The number of workers was changed again before they were ready.".into(),
        lines: Vec::new(),
    }
}
