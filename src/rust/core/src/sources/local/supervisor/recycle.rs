//! Replacing workers that are healthy, after many requests or with too much memory.

use std::time::{Duration, Instant};

use super::member::Reason;
use super::{Event, Supervisor};
use crate::ops::status::State;
use crate::signals;
use crate::sources::backoff;

/// Between two looks at the workers' memory, if it is limited.
pub(super) const MEMORY_LOOK: Duration = Duration::from_secs(1);

/// How much a worker that is over the limit from the start may grow until it is replaced all the same.
const GROWTH: u64 = 2;

/// So many times in a row a worker grows beyond the limit at once, before it is said.
const OFTEN: u32 = 3;

/// Recycling happens at 90 to 100 % of `max_requests`, so that workers do not leave all at once.
const RECYCLE_JITTER: f64 = 0.1;

impl Supervisor {
    pub(super) async fn recycle(&mut self, generation: u64, reason: Reason) {
        let Some(member) = self.members.get(&generation) else {
            return;
        };
        let id = member.id;
        let due = member.state == State::Ready
            && self.stopping.is_none()
            && member
                .recycle_after
                .map_or(true, |after| after <= Instant::now());
        // One that still waits for its sessions is to be the only one.
        let under_way = !self.of(id, State::Starting).is_empty()
            || (self.sessions.is_some() && !self.of(id, State::Draining).is_empty());
        let (lived, fresh) = (
            member.ready_since.map(|since| since.elapsed()),
            member.fresh,
        );
        let Some(position) = self.positions.get_mut(&id) else {
            return;
        };
        if due && !under_way {
            tracing::info!(worker = id, "recycles: {}", reason.name());
            let grown =
                reason == Reason::MaxMemory && position.grown(lived.unwrap_or_default()) == OFTEN;
            if let (true, Some(fresh)) = (grown, fresh) {
                self.warn_of_memory("leaves little room above", fresh);
            }
            self.start_unasked(id, Some((generation, reason))).await;
        }
    }

    /// A worker is about to serve, and needs this much memory.
    pub(super) fn memory_measured(&mut self, generation: u64, fresh: u64) {
        if self.settings.workers.is_elastic() {
            self.weighed(fresh);
        }
        let Some(limit) = self.settings.max_memory else {
            return;
        };
        let Some(member) = self.members.get_mut(&generation) else {
            return;
        };
        member.fresh = Some(fresh);
        let Some(position) = self.positions.get_mut(&member.id) else {
            return;
        };
        if let Some(pause) = position.weighed(fresh > limit) {
            member.heavy_until = Some(Instant::now() + pause);
            tracing::info!(
                worker = member.id,
                "needs {} from the start: it is recycled in {:.1} s",
                in_megabytes(fresh),
                pause.as_secs_f64()
            );
            self.warn_of_memory("is less than", fresh);
        }
    }

    /// Says once that a limit was set which makes no sense.
    fn warn_of_memory(&mut self, how: &str, fresh: u64) {
        let limit = self.settings.max_memory.unwrap_or(u64::MAX);
        if !std::mem::replace(&mut self.warned_of_memory, true) {
            tracing::warn!(
                "`max_memory` ({}) {how} what a worker needs before it has served ({}): workers are recycled again and again",
                in_megabytes(limit),
                in_megabytes(fresh)
            );
        }
    }

    pub(super) fn look_at_memory(&mut self) {
        let Some(limit) = self.settings.max_memory else {
            return;
        };
        let now = Instant::now();
        let looks: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.state == State::Ready)
            .filter_map(|(generation, member)| {
                let heavy = member.heavy_until.is_some_and(|until| until > now);
                let grown = member.fresh.filter(|_| heavy);
                let limit = grown.map_or(limit, |fresh| limit.max(fresh.saturating_mul(GROWTH)));
                Some((*generation, limit, member.process.as_ref()?.own_memory()))
            })
            .collect();
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let (reply, over) = tokio::sync::oneshot::channel();
            // The system counts the pages of a large process for a while. Without a thread, the next look will do.
            let _ = signals::start_thread("faucet-memory", signals::SMALL_STACK, move || {
                let over = looks
                    .into_iter()
                    .filter(|(_, limit, memory)| memory().is_some_and(|memory| memory > *limit));
                let _ = reply.send(over.map(|(generation, ..)| generation).collect::<Vec<_>>());
            });
            for generation in over.await.unwrap_or_default() {
                let _ = sender.send(Event::RecycleDue(generation, Reason::MaxMemory));
            }
            tokio::time::sleep(MEMORY_LOOK).await;
            let _ = sender.send(Event::LookAtMemory);
        });
    }

    pub(super) fn recycle_threshold(&self) -> Option<u64> {
        self.settings.max_requests.map(|most| {
            let less = (most as f64 * RECYCLE_JITTER * backoff::jitter()) as u64;
            (most - less).max(1)
        })
    }
}

fn in_megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1 << 20))
}
