//! Workers that are whatever a name resolves to: replicas of a Kubernetes service, as a rule. Someone else starts and
//! stops them.
//!
//! The name is looked up again and again. An address becomes a worker once it accepts connections, and drains when it is
//! not found any more; a lookup that finds nothing changes nothing. A worker that cannot be reached is set aside and
//! looked at until it can.

mod destination;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod lookup;
mod target;

pub use destination::Destination;
pub use lookup::{look_up, Found, NotFound};
pub use target::{Host, Target};

use std::collections::BTreeSet;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::members::{Consequence, Event, Members, Usage};
use super::{Command, Failure, Notifier, Reply, Roster, SourceContext, SourceEvent, SourceHandle};
use crate::clock::until;
use crate::ops::status::{LookupState, LookupStatus};
use crate::ops::Ops;
use crate::tls::{ClientTls, Peer};
use crate::worker::Address;

/// Records that live shorter are not looked up more often, and after a failure the next lookup comes this soon.
const SHORTEST_REFRESH: Duration = Duration::from_secs(5);

/// Between two lookups that were asked for by what happened.
const LOOKUP_PAUSE: Duration = Duration::from_secs(1);

/// Where replicas are found and how they are used.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub target: Target,
    /// Requests that a replica is given at a time, unless it says itself how many it takes.
    pub slots: u32,
    /// Between two lookups; `None` for the records' own time to live.
    pub refresh: Option<Duration>,
    /// What must answer with 2xx before a replica is used.
    pub ready_path: Option<String>,
    /// A DNS server to ask in place of those in resolv.conf.
    pub dns: Option<SocketAddr>,
    /// How long it may take until there is a first worker.
    pub boot_timeout: Duration,
    /// Whether replicas that run faucet are made to give up requests that nobody waits for.
    pub cancel: bool,
    /// Who is believed if it is reached with TLS: those of a file (PEM), or the system's CAs.
    pub ca: Option<PathBuf>,
}

impl Settings {
    /// One request at a time, as workers take it, and half a minute for the first to be there.
    pub fn of(target: Target) -> Self {
        Self {
            target,
            slots: 1,
            refresh: None,
            ready_path: None,
            dns: None,
            boot_timeout: Duration::from_secs(30),
            cancel: true,
            ca: None,
        }
    }
}

type Looking = Pin<Box<dyn Future<Output = Result<Found, NotFound>> + Send>>;

/// Finds replicas and looks after them, for one pool.
pub struct Replicas {
    settings: Settings,
    members: Members,
    happened: mpsc::UnboundedReceiver<(u64, Event)>,
    commands: mpsc::UnboundedReceiver<Command>,
    roster: Arc<Roster>,
    ops: Arc<Ops>,
    notify: Notifier,
    ever_ready: bool,
    /// Why nothing is ever looked up.
    unable: Option<Failure>,
    looking: Option<Looking>,
    /// When the next lookup begins; never for what needs none.
    next_look: Option<Instant>,
    last_look: Option<Instant>,
    state: LookupState,
    message: String,
    since: SystemTime,
    /// Those who asked for a lookup.
    waiting: Vec<Reply>,
}

impl Replicas {
    /// `tls` is what certificates are looked at with, if they have some, or why there is none.
    pub fn new(
        settings: Settings,
        tls: Result<Option<Arc<ClientTls>>, Failure>,
        context: SourceContext,
    ) -> (Self, SourceHandle) {
        let SourceContext {
            table,
            roster,
            ops,
            // Settings with sessions are refused: a cookie would have to outlive lookups.
            sessions: _,
            notify,
        } = context;
        let usage = Usage {
            slots: settings.slots,
            remote: Some(settings.cancel),
            peer: tls
                .as_ref()
                .ok()
                .and_then(Option::as_ref)
                .map(|tls| Peer::new(tls.clone(), settings.target.host_name())),
            authority: settings.target.authority().to_owned(),
            pool: None,
            ready_path: settings.ready_path.clone(),
            exclusive: *settings.target.host() == Host::Loopback,
        };
        let (members, happened) = Members::new(usage, table, roster.clone());
        let (sender, commands) = mpsc::unbounded_channel();
        let handle = SourceHandle::new(move |command| {
            // Fails only when this source is gone.
            let _ = sender.send(command);
        });
        let replicas = Self {
            settings,
            members,
            happened,
            commands,
            roster,
            ops,
            notify,
            ever_ready: false,
            unable: tls.err(),
            looking: None,
            next_look: None,
            last_look: None,
            state: LookupState::Pending,
            message: String::new(),
            since: SystemTime::now(),
            waiting: Vec::new(),
        };
        (replicas, handle)
    }

    /// Runs until it is told to stop. The replicas go on without it.
    pub async fn run(mut self) {
        let mut boot = pin!(tokio::time::sleep(self.settings.boot_timeout));
        let mut booting = true;
        if let Some(failure) = &self.unable {
            booting = false;
            self.notify.send(SourceEvent::BootFailed(failure.clone()));
        }
        self.look();
        self.publish();
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    None | Some(Command::Kill) => break,
                    Some(Command::Stop(reply)) => {
                        self.members.say_goodbye(&mut self.commands).await;
                        // Before the answer, after which nobody is to see one.
                        self.members.forget_all();
                        let _ = reply.send(Ok(()));
                        return;
                    }
                    Some(Command::Reload(reply)) => if let Some(failure) = &self.unable {
                        let _ = reply.send(Err(failure.clone()));
                    } else {
                        self.waiting.push(reply);
                        self.look();
                    }
                    // It has never stopped trying.
                    Some(Command::KeepTrying) => {}
                    Some(Command::Scale(_, reply)) => {
                        let _ = reply.send(Err(Failure::new(
                            "unsupported",
                            "These workers are not the server's own: scale them where they are started, \
                             with `kubectl scale deployment` for example.",
                        )));
                    }
                },
                Some((key, event)) = self.happened.recv() => {
                    match self.members.handle(key, event) {
                        Consequence::None => {}
                        Consequence::Entered => self.entered(),
                        Consequence::Lost => self.look_soon(),
                    }
                }
                found = or_never(self.looking.as_mut()) => {
                    self.looking = None;
                    self.looked(found);
                }
                () = until(self.next_look) => self.look(),
                () = boot.as_mut(), if booting => {
                    booting = false;
                    if !self.ever_ready {
                        self.notify.send(SourceEvent::BootFailed(self.boot_failure()));
                    }
                }
            }
        }
        self.members.forget_all();
    }

    fn entered(&mut self) {
        if !std::mem::replace(&mut self.ever_ready, true) {
            self.notify.send(SourceEvent::Ready);
        }
        self.ops.log.ring();
    }

    /// Begins a lookup, unless one is under way.
    fn look(&mut self) {
        self.next_look = None;
        if self.looking.is_none() && self.unable.is_none() {
            self.last_look = Some(Instant::now());
            let (target, dns) = (self.settings.target.clone(), self.settings.dns);
            self.looking = Some(Box::pin(async move { look_up(&target, dns).await }));
        }
    }

    /// A worker is lost: maybe its successor is there already.
    fn look_soon(&mut self) {
        if self.settings.target.is_address() || self.looking.is_some() {
            return;
        }
        let soon = self
            .last_look
            .map_or_else(Instant::now, |last| last + LOOKUP_PAUSE);
        self.next_look = Some(self.next_look.map_or(soon, |next| next.min(soon)));
    }

    fn looked(&mut self, found: Result<Found, NotFound>) {
        let answer = match &found {
            Ok(_) => Ok(()),
            Err(problem) => Err(Failure::new("lookup", self.complaint(problem))),
        };
        let refresh = self.settings.refresh;
        let pause = match found {
            Ok(found) => {
                self.found(found.addresses);
                found
                    .ttl
                    .map(|ttl| refresh.unwrap_or(ttl.max(SHORTEST_REFRESH)))
            }
            Err(problem) => {
                self.not_found(&problem);
                // Whoever looks rarely does not want to be without workers for so long.
                Some(refresh.map_or(SHORTEST_REFRESH, |refresh| refresh.min(SHORTEST_REFRESH)))
            }
        };
        // From the beginning of this one: how long DNS took does not add to it.
        let began = self.last_look.unwrap_or_else(Instant::now);
        self.next_look = pause.map(|pause| began + pause);
        for reply in self.waiting.drain(..) {
            let _ = reply.send(answer.clone());
        }
        self.publish();
    }

    fn found(&mut self, addresses: BTreeSet<SocketAddr>) {
        let target = &self.settings.target;
        let count = addresses.len();
        let first = self.state == LookupState::Pending;
        let (new, gone) = self.members.want(
            addresses
                .into_iter()
                .map(|address| (Address::Tcp(address), None)),
        );
        if new + gone > 0 && !target.is_address() {
            let plural = if count == 1 { "" } else { "es" };
            let change = match (new, gone) {
                (new, 0) if new == count => String::new(),
                (new, 0) => format!(": {new} new"),
                (0, gone) => format!(": {gone} gone"),
                (new, gone) => format!(": {new} new, {gone} gone"),
            };
            tracing::info!("{target} has {count} address{plural}{change}");
        }
        if first && count == 1 && matches!(target.host(), Host::Name(_)) {
            tracing::info!(
                "{target} has one address, so there is one worker: replicas in Kubernetes have an address each if \
                 their Service is headless (clusterIP: None)"
            );
        }
        if !matches!(self.state, LookupState::Ok | LookupState::Pending) {
            tracing::info!("{target} resolves again");
        }
        self.enter(LookupState::Ok, String::new());
    }

    fn not_found(&mut self, problem: &NotFound) {
        let state = match problem {
            NotFound::Empty(_) => LookupState::Empty,
            NotFound::Failed(_) => LookupState::Failed,
        };
        if state != self.state {
            let kept = match self.members.wanted() {
                0 => "there are no workers".to_owned(),
                1 => "the address known last is kept".to_owned(),
                count => format!("the {count} addresses known last are kept"),
            };
            tracing::warn!("{}: {kept}", self.complaint(problem));
        }
        self.enter(state, problem.to_string());
    }

    fn complaint(&self, problem: &NotFound) -> String {
        let target = &self.settings.target;
        format!("{target} cannot be looked up: {problem}")
    }

    fn enter(&mut self, state: LookupState, message: String) {
        if state != self.state {
            self.since = SystemTime::now();
        }
        self.state = state;
        self.message = message;
        self.ops.metrics.lookup(state);
    }

    fn publish(&self) {
        self.roster.set_lookup(LookupStatus {
            url: self.settings.target.to_string(),
            state: self.state,
            message: self.message.clone(),
            since: self.since,
            addresses: self.members.wanted(),
        });
        self.ops.log.ring();
    }

    fn boot_failure(&self) -> Failure {
        let target = &self.settings.target;
        let seconds = self.settings.boot_timeout.as_secs_f64();
        let seen = match (self.members.wanted(), self.members.refusal()) {
            (0, _) if self.message.is_empty() => match self.settings.dns {
                Some(dns) => format!("the DNS server {dns} has not answered"),
                None => "no DNS server has answered".to_owned(),
            },
            (0, _) => format!("it cannot be looked up: {}", self.message),
            (1, Some(refusal)) => refusal.to_owned(),
            (count, Some(refusal)) => {
                format!("none of its {count} addresses is, such as {refusal}")
            }
            (count, None) => format!("none of its addresses ({count}) has been reached"),
        };
        Failure::new(
            "boot",
            format!("No replica of {target} was ready within {seconds} s: {seen}."),
        )
    }
}

/// What `work` comes to, if there is any.
async fn or_never<F: Future + Unpin>(work: Option<F>) -> F::Output {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}
