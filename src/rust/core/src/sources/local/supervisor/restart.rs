//! What follows a death: a restart, at once or later, for as long as the worker is wanted.

use std::time::Instant;

use super::ending::{say_ended, SHORT_GRACE};
use super::look;
use super::member::{BootProblem, FirstFailure, Member, Reason};
use super::start::FIRST;
use super::{Event, SourceEvent, Supervisor};
use crate::lock::Refused;
use crate::ops::status::{Kind, State};
use crate::sources::local::listening;
use crate::sources::local::output::Gate;
use crate::sources::local::position::{Place, Position};
use crate::sources::local::process::Exit;
use crate::sources::Failure;
use crate::worker::{Report, Unwanted};

impl Supervisor {
    pub(super) async fn exited(&mut self, generation: u64, exit: Exit) {
        let Some(member) = self.members.remove(&generation) else {
            return;
        };
        if let Some(lease_id) = member.lease_id {
            self.table.remove(lease_id);
        }
        if let Some(sessions) = &self.sessions {
            let count = sessions.end_of_worker(generation);
            say_ended(
                member.id,
                count,
                &format!("its process {}", exit.describe()),
            );
        }
        if let Some(worker) = &member.worker {
            worker.tunnels.drain();
            // A child may hold its sockets open.
            worker.cut();
        }
        if self.stopping.is_some() || !self.positions.contains_key(&member.id) {
            return;
        }
        match member.state {
            State::Starting => {
                let id = member.id;
                let message = match &member.problem {
                    Some(problem) => self.why_not_ready(&member, problem),
                    None => format!("Worker {id} {} before it was ready.", exit.describe()),
                };
                let failure = Failure {
                    class: "boot",
                    message,
                    lines: member.lines(),
                };
                self.stillborn(generation, &member, failure).await;
            }
            State::Ready => {
                tracing::warn!(worker = member.id, "{}", exit.describe());
                self.ops.metrics.restart(Reason::Crashed.name());
                self.restart_dead(member.id, member.ready_since).await;
            }
            // It was told to go.
            _ => {}
        }
    }

    /// Why a process was killed before it was ready.
    fn why_not_ready(&self, member: &Member, problem: &BootProblem) -> String {
        let id = member.id;
        match problem {
            BootProblem::Timeout => format!(
                "Worker {id} did not accept connections within {} s (`boot_timeout`).",
                self.settings.boot_timeout.as_secs_f64()
            ),
            BootProblem::Elsewhere(strays) if self.settings.worker_type != Some(Kind::Native) => {
                let own = member.port.address;
                let write = match strays.iter().any(|stray| stray.port() == own.port()) {
                    true => "host = \"127.0.0.1\"",
                    false => "port = as.integer(Sys.getenv(\"FAUCET_PORT\"))",
                };
                format!(
                    "Worker {id} listens on {}, and not on the port that it was given in FAUCET_PORT. \
                     Where the app starts its server, write `{write}`.",
                    listening::describe(strays)
                )
            }
            BootProblem::NotNative | BootProblem::Elsewhere(_) => format!(
                "Worker {id} cannot be native (`worker_type = \"native\"`): the app serves TCP itself, \
                 not through `httpuv::runServer()` as plumber's `pr_run()` does."
            ),
        }
    }

    /// A process is gone that was not ready yet.
    pub(super) async fn stillborn(&mut self, generation: u64, member: &Member, failure: Failure) {
        self.grown(generation, Err(failure.clone()));
        self.roll_on(generation, Err(failure.clone())).await;
        self.start_failed(member.id, member.replaces, failure, member.gate.clone());
    }

    /// A serving process is gone. If a replacement is on its way already, that one takes its place.
    pub(super) async fn restart_dead(&mut self, id: u32, ready_since: Option<Instant>) {
        let replaced = self.members.values().any(|member| {
            member.id == id && matches!(member.state, State::Starting | State::Ready)
        });
        let Some(position) = self.positions.get_mut(&id) else {
            return;
        };
        let due = position.died(ready_since.unwrap_or_else(Instant::now));
        let pause = due.at.saturating_duration_since(Instant::now());
        let needed = self.positions.len() <= self.settings.workers.min as usize
            || self.table.demand().waiting > 0;
        if !replaced && !needed && !pause.is_zero() {
            // The next request starts one, if it takes one.
            self.positions.remove(&id);
            tracing::warn!(worker = id, "dies again and again, and is not needed now");
            self.ops.metrics.scaling("down", "failing");
            return;
        }
        let Some(position) = self.positions.get_mut(&id) else {
            return;
        };
        if replaced {
            position.place = Place::Filled;
        } else if pause.is_zero() {
            self.start_unasked(id, None).await;
        } else {
            tracing::warn!(worker = id, "restarts in {:.1} s", pause.as_secs_f64());
            self.later(pause, Event::RestartDue(id, due));
        }
    }

    /// A process did not become ready.
    pub(super) fn start_failed(
        &mut self,
        id: u32,
        replaces: Option<(u64, Reason)>,
        failure: Failure,
        gate: Gate,
    ) {
        let why = failure.reason().to_owned();
        if let Some((old, reason)) = replaces {
            let old = self
                .members
                .get_mut(&old)
                .filter(|member| member.state == State::Ready);
            match (old, self.positions.get_mut(&id)) {
                // Whoever asked for the reload is told.
                (Some(_), _) if reason == Reason::Reload => return,
                (Some(old), Some(position)) => {
                    let pause = position.replacement_failed();
                    old.recycle_after = Some(Instant::now() + pause);
                    tracing::error!(
                        worker = id,
                        "could not be replaced ({}), the old process stays: {} {why}",
                        reason.name(),
                        failure.message
                    );
                    return;
                }
                _ => {}
            }
        }
        if !self.ever_ready {
            // The first boot: an error of `run()`, once it is clear that no worker comes up.
            if let Some(position) = self.positions.get_mut(&id) {
                position.place = Place::Undecided;
            }
            let hope = self
                .positions
                .values()
                .any(|position| position.place == Place::Filled);
            self.first_failures.push(FirstFailure { id, failure, gate });
            if !hope {
                let failure = self.first_failure();
                self.notify.send(SourceEvent::BootFailed(failure));
            }
            return;
        }
        self.ops.metrics.restart(Reason::BootFailed.name());
        let Some(position) = self.positions.get_mut(&id) else {
            return;
        };
        let was_failing = position.is_failing(self.settings.max_failures);
        let due = position.start_failed();
        let failing = position.is_failing(self.settings.max_failures);
        let pause = due.at.saturating_duration_since(Instant::now());
        if failing && !was_failing {
            tracing::error!(
                worker = id,
                "has failed to start {} times in a row, and is tried again from now on at pauses of up to a minute",
                self.settings.max_failures
            );
        }
        tracing::error!(
            "{} Trying again in {:.1} s. {why}",
            failure.message,
            pause.as_secs_f64()
        );
        self.later(pause, Event::RestartDue(id, due));
        self.refuse_if_all_fail();
    }

    /// Of first starts that have all failed, the one to tell of: the last, or the first worker's if that failed in the same
    /// way. Its lines are in the log then, and those of others only if they tell something else.
    fn first_failure(&self) -> Failure {
        let Some(last) = self.first_failures.last() else {
            return Failure::new("boot", "No worker could be started.");
        };
        // Standard output and error are two streams, whose last lines come in either order.
        let says = |one: &FirstFailure, what: &str| {
            one.failure.reason() == what || one.failure.lines.iter().any(|line| line.trim() == what)
        };
        let same = |one: &FirstFailure, other: &FirstFailure| {
            says(one, other.failure.reason()) && says(other, one.failure.reason())
        };
        let first = self.first_failures.iter().find(|failed| failed.id == FIRST);
        let told = first.filter(|first| same(first, last)).unwrap_or(last);
        let mut ways: Vec<&FirstFailure> = first.into_iter().collect();
        for failed in &self.first_failures {
            if !ways.iter().any(|way| same(way, failed)) {
                failed.gate.open(&self.ops.log);
                ways.push(failed);
            }
        }
        told.failure.clone()
    }

    /// No first worker came up, and the server goes on all the same, for other pools: so do the tries.
    pub(super) async fn keep_trying(&mut self) {
        if self.stopping.is_some() || std::mem::replace(&mut self.ever_ready, true) {
            return;
        }
        let failures = std::mem::take(&mut self.first_failures);
        if failures.is_empty() && self.preloads() {
            for position in self.positions.values_mut() {
                position.place = Place::Filled;
            }
            self.retry_template().await;
        }
        for FirstFailure { id, failure, gate } in failures {
            let still = |position: &Position| position.place == Place::Undecided;
            if self.positions.get(&id).is_some_and(still) {
                self.start_failed(id, None, failure, gate);
            }
        }
        self.refuse_if_all_fail();
    }

    /// Waiting for a worker makes no sense while none comes up: one may in a second, or in a week.
    pub(super) fn refuse_if_all_fail(&mut self) {
        let max_failures = self.settings.max_failures;
        // One that has no workers starts some when they are needed.
        let all = !self.positions.is_empty()
            && self
                .positions
                .values()
                .all(|position| position.is_failing(max_failures));
        if all && !self.failing {
            self.failing = true;
            tracing::error!("no worker starts: requests are refused until one does");
            self.table.refuse(Refused::NoWorkers);
        }
    }

    /// One worker came up after many failures: whatever kept all of them from starting may be over.
    pub(super) fn hurry_others(&mut self) {
        let max_failures = self.settings.max_failures;
        let mut due = Vec::new();
        for (id, position) in &mut self.positions {
            if position.is_failing(max_failures) && position.due().is_some() {
                due.push((*id, position.hurry()));
            }
        }
        for (id, due) in due {
            // In the order of other events: the one that came up is told of first.
            let _ = self.sender.send(Event::RestartDue(id, due));
        }
    }

    pub(super) fn table_admits(&mut self) {
        // What was refused because of the end stays refused.
        if self.stopping.is_none() && !self.roster.is_draining() {
            self.failing = false;
            self.table.admit();
        }
    }

    pub(super) fn count_restart(&mut self, id: u32, reason: Reason) {
        self.ops.metrics.restart(reason.name());
        if let Some(position) = self.positions.get_mut(&id) {
            position.restarts += 1;
        }
    }

    pub(super) async fn reported(&mut self, generation: u64, report: Report) {
        let Some(member) = self.members.get_mut(&generation) else {
            return;
        };
        let concurrent = member
            .worker
            .as_ref()
            .is_some_and(|worker| worker.is_concurrent());
        match report {
            Report::Stuck(..) if concurrent => self.spare(generation),
            Report::Stuck(why, number)
                if matches!(member.state, State::Ready | State::Draining) =>
            {
                // It may have answered while the news was on its way, and be at work for someone else.
                if member
                    .worker
                    .as_ref()
                    .is_some_and(|worker| worker.is_over(number))
                {
                    return;
                }
                let (id, was_ready) = (member.id, member.state == State::Ready);
                let reason = match why {
                    Unwanted::Deadline => {
                        tracing::warn!(worker = id, "passed its deadline and is replaced");
                        Reason::Timeout
                    }
                    Unwanted::ClientLeft => {
                        tracing::warn!(
                            worker = id,
                            "does not stop though its client has left, and is replaced"
                        );
                        Reason::Cancelled
                    }
                    Unwanted::Silent => {
                        tracing::warn!(worker = id, "does not answer any more and is replaced");
                        Reason::Timeout
                    }
                };
                self.end(generation, SHORT_GRACE);
                if was_ready && self.stopping.is_none() && self.positions.contains_key(&id) {
                    self.count_restart(id, reason);
                    // A replacement that is on its way already takes its place.
                    if self.of(id, State::Starting).is_empty() {
                        self.start_unasked(id, None).await;
                    }
                }
            }
            Report::Unreachable | Report::Doubtful if member.state == State::Ready => {
                let Some(worker) = member.worker.clone() else {
                    return;
                };
                let (sender, patience) = (
                    self.sender.clone(),
                    self.settings.cancelling.answer_timeout(),
                );
                tokio::spawn(async move {
                    let outcome = match report {
                        // It may be at work for others: that it accepts has to do.
                        Report::Doubtful if !concurrent => look::answers(&worker, patience).await,
                        _ => look::accepts(&worker).await,
                    };
                    let _ = sender.send(Event::Probed(generation, outcome));
                });
            }
            _ => {}
        }
    }

    /// A worker is too slow for one session, and has others: it stays, and gets nothing new until it answers again.
    fn spare(&self, generation: u64) {
        let Some(member) = self.members.get(&generation) else {
            return;
        };
        let (State::Ready, Some(lease_id), Some(worker)) =
            (member.state, member.lease_id, member.worker.clone())
        else {
            return;
        };
        tracing::warn!(
            worker = member.id,
            "does not answer in time: it gets no new sessions and requests until it does"
        );
        self.table.suspend(lease_id);
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let outcome = look::answers_ever(&worker).await;
            let _ = sender.send(Event::Probed(generation, outcome));
        });
    }

    /// What became of a worker that the front has set aside.
    pub(super) fn probed(&mut self, generation: u64, outcome: Result<(), &'static str>) {
        let Some(member) = self.members.get(&generation) else {
            return;
        };
        match (member.state, member.lease_id, outcome) {
            (State::Ready, Some(lease_id), Ok(())) => self.table.resume(lease_id),
            (State::Ready, _, outcome) => {
                let problem = outcome.err().unwrap_or("is in no lock table");
                tracing::warn!(worker = member.id, "{problem} and is replaced");
                member.kill();
            }
            _ => {}
        }
    }
}
