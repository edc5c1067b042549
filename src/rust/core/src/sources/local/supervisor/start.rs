//! How processes come: started, awaited, taken into service.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::ending::SHORT_GRACE;
use super::member::{BootProblem, FirstFailure, Reason};
use super::{Event, SourceEvent, Supervisor};
use crate::ops::status::State;
use crate::sources::local::boot::accepts;
use crate::sources::local::listening;
use crate::sources::local::output::Gate;
use crate::sources::local::position::{Place, Position};
use crate::sources::local::process::{Exit, Process};
use crate::sources::local::sockets;
use crate::sources::local::template::ForkFailed;
use crate::sources::local::templates::why_not_started;
use crate::sources::{Failure, Roster};
use crate::worker::{native, Address, Native, Report, Worker};

/// Between two looks at a worker that was forked, which needs milliseconds to start.
const FORKED_LOOK: Duration = Duration::from_millis(5);

/// Names the function that a worker serves, if it is one.
const FUNCTION: &str = "FAUCET_FUNCTION";

/// The worker whose lines are shown while none is ready.
pub(super) const FIRST: u32 = 1;

/// A forked worker, and its end to come.
pub(super) type ForkedWorker = (Process, oneshot::Receiver<Exit>);

/// Why there is none.
pub(super) struct ForkFailure {
    /// The template that was asked.
    pub(super) serial: u64,
    /// Whether it is that of all pools.
    pub(super) shared: bool,
    pub(super) failed: ForkFailed,
}

impl Supervisor {
    /// Starts a process for `id`. What becomes of the position after a failure is seen to already.
    pub(super) async fn start(
        &mut self,
        id: u32,
        replaces: Option<(u64, Reason)>,
    ) -> Result<u64, Failure> {
        let generation = self.resources.next_generation();
        if let Some(position) = self.positions.get_mut(&id) {
            position.place = Place::Filled;
        }
        match self.launch(id, generation, replaces).await {
            Ok(member) => {
                self.members.insert(generation, member);
                Ok(generation)
            }
            Err(error) => {
                let failure = not_started(id, &self.settings.dir, &error);
                // It has printed nothing.
                self.start_failed(id, replaces, failure.clone(), Gate::default());
                Err(failure)
            }
        }
    }

    /// Starts a process when nobody waits for it.
    pub(super) async fn start_unasked(&mut self, id: u32, replaces: Option<(u64, Reason)>) {
        // A failure is logged, and tried again if it must be.
        let _ = self.start(id, replaces).await;
    }

    /// Sees a process begin to accept connections, and sees it end. One with a `pid` is also found out if it listens where
    /// nobody asks.
    pub(super) fn watch(
        &self,
        generation: u64,
        addresses: Vec<Address>,
        look: Duration,
        memory: impl FnOnce() -> Option<u64> + Send + 'static,
        pid: Option<u32>,
        exit: oneshot::Receiver<Exit>,
    ) {
        let (sender, timeout) = (self.sender.clone(), self.settings.boot_timeout);
        let limited = self.settings.max_memory.is_some() || self.settings.workers.is_elastic();
        let is_function = self.settings.env.contains_key(FUNCTION);
        // One worker's word is enough for an app's documentation; all else may change with its code.
        let asks_for_docs = !is_function && !self.ever_ready;
        let roster = self.roster.clone();
        let (mut booting, exited) = oneshot::channel::<()>();
        let suspect = {
            let sender = sender.clone();
            move |strays| {
                // Fails only when the supervisor is gone.
                let _ = sender.send(Event::ListensElsewhere(generation, strays));
            }
        };
        tokio::spawn(async move {
            // Ends early with the process: what answers on its port then is not ours.
            let ready = tokio::select! {
                address = accepts(&addresses, look) => Ok(address),
                strays = stray(pid, &addresses, &suspect) => Err(BootProblem::Elsewhere(strays)),
                () = tokio::time::sleep(timeout) => Err(late(pid, &addresses).await),
                () = booting.closed() => return,
            };
            if limited && ready.is_ok() {
                // Before the first request, and where it holds nobody up: a large process takes a while.
                let memory = tokio::task::spawn_blocking(memory).await;
                if let Ok(Some(memory)) = memory {
                    let _ = sender.send(Event::MemoryMeasured(generation, memory));
                }
            }
            // Before it counts as ready, so that whoever is told of that finds it.
            match &ready {
                Ok(Address::Unix(socket)) if is_function => ask_function(socket, &roster).await,
                Ok(Address::Unix(socket)) => ask_app(socket, asks_for_docs, &roster).await,
                // Nobody tells of what others serve.
                Ok(_) => roster.set_routes(None),
                Err(_) => {}
            }
            let _ = sender.send(Event::Started(generation, ready));
        });
        let sender = self.sender.clone();
        tokio::spawn(async move {
            if let Ok(exit) = exit.await {
                drop(exited);
                let _ = sender.send(Event::Exited(generation, exit));
            }
        });
    }

    /// A worker was forked; or it was not, and starts as an ordinary process.
    pub(super) async fn forked(
        &mut self,
        generation: u64,
        outcome: Result<ForkedWorker, ForkFailure>,
    ) {
        let Some(mut member) = self.members.remove(&generation) else {
            return;
        };
        let wanted = member.state == State::Starting;
        match outcome {
            Ok((process, exit)) => {
                if !wanted {
                    tokio::spawn(process.ender().stop(SHORT_GRACE));
                }
                let memory = process.own_memory();
                // What it listens at elsewhere may be its template's.
                self.watch(
                    generation,
                    member.addresses(),
                    FORKED_LOOK,
                    memory,
                    None,
                    exit,
                );
                member.process = Some(process);
                self.members.insert(generation, member);
            }
            Err(ForkFailure {
                serial,
                shared,
                failed,
            }) => {
                if matches!(failed, ForkFailed::Silent) {
                    match shared {
                        true => self.resources.lose_shared_template(serial),
                        false => self.lose_template(serial, "does not answer and is replaced"),
                    }
                }
                if !wanted {
                    return;
                }
                tracing::warn!(worker = member.id, "could not be forked: {failed}");
                if let Some(socket) = &member.socket {
                    // A child that nobody got to know may have come as far as this; it ends with its streams.
                    sockets::unbind(socket);
                }
                member.inherited = None;
                match self.spawn_again(generation, &mut member).await {
                    Ok(()) => {
                        self.members.insert(generation, member);
                    }
                    Err(error) => {
                        let failure = not_started(member.id, &self.settings.dir, &error);
                        self.stillborn(generation, &member, failure).await;
                    }
                }
            }
        }
    }

    /// A process will not become a worker.
    pub(super) fn boot_failed(&mut self, generation: u64, problem: BootProblem) {
        if let Some(member) = self.members.get_mut(&generation) {
            member.problem = Some(problem);
            member.kill();
        }
    }

    /// A process listens, but not where the front asks. It may still do so.
    pub(super) fn listens_elsewhere(&self, generation: u64, strays: &[SocketAddr]) {
        if let Some(member) = self.members.get(&generation) {
            tracing::warn!(
                worker = member.id,
                "listens on {}, and not yet on FAUCET_PORT, where faucet waits for it",
                listening::describe(strays)
            );
        }
    }

    /// A process accepts connections.
    pub(super) async fn ready(&mut self, generation: u64, address: Address) {
        let recycle_at = self.recycle_threshold();
        let cancelling = self.settings.cancelling;
        let Some(member) = self.members.get_mut(&generation) else {
            return;
        };
        if member.state != State::Starting {
            return;
        }
        let sender = self.sender.clone();
        let native = match &address {
            Address::Unix(socket) => Some(Native::new(socket, cancelling)),
            Address::Tcp(_) | Address::Dialled(_) | Address::Callers(_) => None,
        };
        let mut worker = Worker::new(
            member.id,
            generation,
            address,
            Box::new(move |worker, report| {
                let event = match report {
                    // Every time from then on: a replacement may fail.
                    Report::Served if recycle_at.is_some_and(|at| worker.requests() >= at) => {
                        Event::RecycleDue(worker.generation, Reason::MaxRequests)
                    }
                    // A worker here is no faucet of its own.
                    Report::Served
                    | Report::Occupied
                    | Report::TurnRefused
                    | Report::Slots(_)
                    | Report::NoFaucet => return,
                    Report::Stuck(..) | Report::Unreachable | Report::Doubtful => {
                        Event::Reported(worker.generation, report)
                    }
                };
                // Fails only when the supervisor is gone.
                let _ = sender.send(event);
            }),
        );
        worker.native = native;
        if self.sessions.is_some() && worker.native.is_none() {
            worker = worker.with_concurrency();
        }
        if let Some(process) = &member.process {
            worker = worker.with_pulse(Box::new(process.pulse()));
        }
        let worker = Arc::new(worker);
        member.state = State::Ready;
        member.boot = Some(member.began.elapsed());
        member.ready_since = Some(Instant::now());
        member.worker = Some(worker.clone());
        member.lease_id = Some(match &self.sessions {
            None => self.table.add(worker, 1),
            Some(sessions) => sessions.add_worker(worker),
        });
        let (id, replaces) = (member.id, member.replaces.take());
        let max_failures = self.settings.max_failures;
        if let Some(position) = self.positions.get_mut(&id) {
            let was_failing = position.is_failing(max_failures);
            position.started();
            if was_failing {
                self.hurry_others();
            }
        }
        self.table_admits();
        if !self.ever_ready {
            self.ever_ready = true;
            self.notify.send(SourceEvent::Ready);
            for member in self.members.values() {
                member.gate.open(&self.ops.log);
            }
            for FirstFailure { id, failure, gate } in std::mem::take(&mut self.first_failures) {
                gate.open(&self.ops.log);
                let still = |position: &Position| position.place == Place::Undecided;
                if self.positions.get(&id).is_some_and(still) {
                    self.start_failed(id, None, failure, gate);
                }
            }
        } else {
            tracing::info!(worker = id, "is ready");
        }
        if let Some((old, reason)) = replaces {
            self.count_restart(id, reason);
            self.retire(old);
        }
        self.grown(generation, Ok(()));
        self.roll_on(generation, Ok(())).await;
    }
}

/// Has a worker tell what its function takes; a whole app may be deployed as one, too.
async fn ask_function(socket: &Path, roster: &Roster) {
    match native::signature(socket).await {
        Some(signature) => roster.set_signature(signature),
        None => ask_app(socket, false, roster).await,
    }
}

/// Has a worker tell of its app.
async fn ask_app(socket: &Path, asks_for_docs: bool, roster: &Roster) {
    if asks_for_docs {
        if let Some(path) = native::docs(socket).await {
            roster.set_docs(path);
        }
    }
    // One that is late leaves what another has said.
    if let Some(routes) = native::routes(socket).await {
        roster.set_routes(routes);
    }
}

/// Resolves when a process seems to listen for good where nobody asks; never for one without `pid`.
async fn stray(
    pid: Option<u32>,
    addresses: &[Address],
    suspect: impl Fn(Vec<SocketAddr>),
) -> Vec<SocketAddr> {
    match (pid, port_of(addresses)) {
        (Some(pid), Some(port)) => listening::elsewhere(pid, port, suspect).await,
        _ => std::future::pending().await,
    }
}

/// Why a process is not ready whose time is over.
async fn late(pid: Option<u32>, addresses: &[Address]) -> BootProblem {
    let strays = match (pid, port_of(addresses)) {
        (Some(pid), Some(port)) => listening::now(pid, port).await,
        _ => Vec::new(),
    };
    match strays.is_empty() {
        true => BootProblem::Timeout,
        false => BootProblem::Elsewhere(strays),
    }
}

fn port_of(addresses: &[Address]) -> Option<u16> {
    addresses.iter().find_map(|address| match address {
        Address::Tcp(address) => Some(address.port()),
        Address::Unix(_) | Address::Dialled(_) | Address::Callers(_) => None,
    })
}

fn not_started(id: u32, dir: &Path, error: &io::Error) -> Failure {
    let why = why_not_started(dir, error);
    Failure::new("boot", format!("Worker {id} could not be started: {why}."))
}
