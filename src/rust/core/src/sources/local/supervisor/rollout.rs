//! A reload: every process replaced, one after the other.

use std::collections::VecDeque;

use super::member::Reason;
use super::Supervisor;
use crate::ops::status::State;
use crate::sources::{Failure, Reply};

/// A reload on its way through the positions.
pub(super) struct Rollout {
    pub(super) left: VecDeque<u32>,
    pub(super) current: Option<u64>,
    /// It begins when a template has loaded the new code.
    pub(super) awaits_template: bool,
    pub(super) reply: Reply,
}

impl Supervisor {
    pub(super) async fn reload(&mut self, reply: Reply) {
        let refusal = if self.stopping.is_some() {
            Some(Failure::stopping())
        } else if self.rollout.is_some() {
            Some(Failure::reloading())
        } else {
            None
        };
        if let Some(refusal) = refusal {
            let _ = reply.send(Err(refusal));
            return;
        }
        if self.positions.is_empty() {
            // Whoever starts next runs the current code.
            let _ = reply.send(Ok(()));
            return;
        }
        tracing::info!("reload begins");
        self.warned_of_memory = false;
        self.rollout = Some(Rollout {
            left: self.positions.keys().copied().collect(),
            current: None,
            awaits_template: self.preloads(),
            reply,
        });
        if self.preloads() {
            self.start_template().await;
        } else {
            self.roll_next().await;
        }
    }

    /// Replaces the next position's process, or ends the reload.
    pub(super) async fn roll_next(&mut self) {
        loop {
            let Some(rollout) = &mut self.rollout else {
                return;
            };
            let Some(id) = rollout.left.pop_front() else {
                if let Some(rollout) = self.rollout.take() {
                    tracing::info!("reload is complete");
                    let _ = rollout.reply.send(Ok(()));
                }
                return;
            };
            if !self.positions.contains_key(&id) {
                continue;
            }
            if let Some(position) = self.positions.get_mut(&id) {
                position.reset_failures();
            }
            self.table_admits();
            // One that is starting may have read the old code.
            let starting: Vec<u64> = self.of(id, State::Starting);
            for generation in &starting {
                if let Some(member) = self.members.get_mut(generation) {
                    member.replaces = None;
                }
                self.retire(*generation);
            }
            let old = self.of(id, State::Ready).first().copied();
            let replaces = old.map(|old| (old, Reason::Reload));
            match self.start(id, replaces).await {
                Ok(generation) => {
                    self.awaited_instead(&starting, generation);
                    if let Some(rollout) = &mut self.rollout {
                        rollout.current = Some(generation);
                    }
                }
                Err(failure) => {
                    for generation in starting {
                        self.grown(generation, Err(failure.clone()));
                    }
                    self.roll_failed(failure);
                }
            }
            return;
        }
    }

    pub(super) fn rollout_waits_for(&self, generation: u64) -> bool {
        self.rollout
            .as_ref()
            .is_some_and(|rollout| rollout.current == Some(generation))
    }

    /// Goes on with a reload that waited for `generation`.
    pub(super) async fn roll_on(&mut self, generation: u64, outcome: Result<(), Failure>) {
        if !self.rollout_waits_for(generation) {
            return;
        }
        match outcome {
            Ok(()) => self.roll_next().await,
            Err(failure) => self.roll_failed(failure),
        }
    }

    pub(super) fn roll_failed(&mut self, mut failure: Failure) {
        if let Some(rollout) = self.rollout.take() {
            failure.class = "reload";
            failure.message = format!(
                "The new code does not start, the old workers stay. {}",
                failure.message
            );
            let _ = rollout.reply.send(Err(failure));
        }
    }
}
