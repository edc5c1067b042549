//! Replacing workers that are healthy, after many requests or with too much memory.

use std::time::{Duration, Instant};

use super::member::Reason;
use super::{Event, Pool};
use crate::ops::status::State;
use crate::signals;
use crate::sources::backoff;

/// Between two looks at the workers' memory, if it is limited.
pub(super) const MEMORY_LOOK: Duration = Duration::from_secs(1);

/// Recycling happens at 90 to 100 % of `max_requests`, so that workers do not leave all at once.
const RECYCLE_JITTER: f64 = 0.1;

impl Pool {
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
        let under_way = !self.of(id, State::Starting).is_empty();
        if due && !under_way && self.positions.contains_key(&id) {
            tracing::info!(worker = id, "recycles: {}", reason.name());
            self.start_unasked(id, Some((generation, reason))).await;
        }
    }

    pub(super) fn look_at_memory(&mut self) {
        let Some(limit) = self.settings.max_memory else {
            return;
        };
        let looks: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.state == State::Ready)
            .filter_map(|(generation, member)| {
                Some((*generation, member.process.as_ref()?.own_memory()))
            })
            .collect();
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let (reply, over) = tokio::sync::oneshot::channel();
            // The system counts the pages of a large process for a while. Without a thread, the next look will do.
            let _ = signals::start_thread("faucet-memory", signals::SMALL_STACK, move || {
                let over = looks
                    .into_iter()
                    .filter(|(_, memory)| memory().is_some_and(|memory| memory > limit));
                let _ = reply.send(over.map(|(generation, _)| generation).collect::<Vec<_>>());
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
