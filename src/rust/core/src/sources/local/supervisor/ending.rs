//! How processes leave: one that is no longer needed, or all of them.

use std::time::Duration;

use tracing::Instrument;

use super::{Event, Supervisor};
use crate::lock::Drained;
use crate::ops::status::State;
use crate::sessions::Sessions;
use crate::sources::{Failure, Reply};
use crate::worker::Worker;

/// How long a worker may take to run its exit hooks before it is killed.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(5);

/// The same for one that is known to be stuck, or has not yet begun to serve.
pub(super) const SHORT_GRACE: Duration = Duration::from_secs(1);

/// Processes of one worker that wait for their sessions, beside the one that serves.
const MOST_DRAINING: usize = 2;

/// How long tunnels may take to close after their worker has drained.
const TUNNEL_GRACE: Duration = Duration::from_secs(5);

/// Waits until a worker that leaves has no more sessions, or ends them when their time is over. What is in flight then
/// goes with the process.
async fn await_sessions(sessions: &Sessions, worker: &Worker, drained: Drained<Worker>) {
    let Some(limit) = sessions.drain_timeout() else {
        return drained.await;
    };
    if tokio::time::timeout(limit, drained).await.is_err() {
        let count = sessions.end_of_worker(worker.generation);
        say_ended(worker.id, count, "`drain_timeout` is over");
    }
}

/// Says that sessions have ended, if some have.
pub(super) fn say_ended(worker: u32, count: usize, why: &str) {
    match count {
        0 => {}
        1 => tracing::warn!(worker, "ends 1 session: {why}"),
        _ => tracing::warn!(worker, "ends {count} sessions: {why}"),
    }
}

impl Supervisor {
    /// Lets a process finish what it does, then end.
    pub(super) fn retire(&mut self, generation: u64) {
        let Some(member) = self.members.get_mut(&generation) else {
            return;
        };
        match (member.state, member.lease_id, member.worker.clone()) {
            (State::Ready, Some(lease_id), Some(worker)) => {
                let id = member.id;
                member.state = State::Draining;
                let drained = self.table.drain(lease_id);
                let (sender, sessions) = (self.sender.clone(), self.sessions.clone());
                let work = async move {
                    match &sessions {
                        None => drained.await,
                        Some(sessions) => await_sessions(sessions, &worker, drained).await,
                    }
                    worker.tunnels.drain();
                    // One that does not close is cut with the process.
                    let _ = tokio::time::timeout(TUNNEL_GRACE, worker.tunnels.closed()).await;
                    let _ = sender.send(Event::Drained(generation));
                };
                tokio::spawn(work.in_current_span());
                self.end_older(id);
            }
            (State::Starting, ..) => self.end(generation, SHORT_GRACE),
            _ => {}
        }
    }

    /// Of the processes of one worker that wait for their sessions, ends the oldest that are too many: with open pages, reload
    /// after reload would leave one more.
    fn end_older(&mut self, id: u32) {
        if self.sessions.is_some() {
            let draining = self.of(id, State::Draining);
            let surplus = draining.len().saturating_sub(MOST_DRAINING);
            for generation in draining.into_iter().take(surplus) {
                self.end(generation, STOP_GRACE);
            }
        }
    }

    /// Tells a process to end, and sees to it that it does.
    pub(super) fn end(&mut self, generation: u64, grace: Duration) {
        let Some(member) = self.members.get_mut(&generation) else {
            return;
        };
        if let Some(lease_id) = member.lease_id {
            // Nothing new; what is in flight keeps its lease until the process is gone.
            drop(self.table.drain(lease_id));
        }
        if let Some(sessions) = &self.sessions {
            say_ended(
                member.id,
                sessions.end_of_worker(generation),
                "its process is ended",
            );
        }
        if let Some(worker) = &member.worker {
            worker.tunnels.drain();
            // httpuv's goodbye waits seconds for a kept-alive connection to end.
            worker.close_connections();
        }
        if member.state != State::Stopping {
            member.state = State::Stopping;
            // One that is about to be forked is told when it is.
            if let Some(process) = &member.process {
                tokio::spawn(process.ender().stop(grace));
            }
        }
    }

    pub(super) fn stop(&mut self, reply: Reply) {
        self.stopping.get_or_insert_with(Vec::new).push(reply);
        self.disappoint();
        self.preload.release_all();
        let all: Vec<(u64, State)> = self
            .members
            .iter()
            .map(|(generation, member)| (*generation, member.state))
            .collect();
        for (generation, state) in all {
            let grace = match state {
                State::Starting => SHORT_GRACE,
                _ => STOP_GRACE,
            };
            self.end(generation, grace);
        }
    }

    /// Tells everyone who waits for workers that there will be none.
    pub(super) fn disappoint(&mut self) {
        if let Some(rollout) = self.rollout.take() {
            let _ = rollout.reply.send(Err(Failure::stopping()));
        }
        for growth in std::mem::take(&mut self.growth) {
            let _ = growth.reply.send(Err(Failure::stopping()));
        }
    }

    pub(super) fn kill(&mut self) {
        self.stopping.get_or_insert_with(Vec::new);
        self.disappoint();
        // What is forked at this moment is dropped as soon as it is known, and that kills it.
        self.members.retain(|_, member| member.process.is_some());
        for member in self.members.values() {
            member.kill();
        }
        self.preload.kill_all();
    }
}
