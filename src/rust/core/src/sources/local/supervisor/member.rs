//! A process and what is known of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::app_metrics::Counted;
use crate::lock::MemberId;
use crate::ops::status::State;
use crate::sources::local::boot::ReservedPort;
use crate::sources::local::output::Gate;
use crate::sources::local::process::Process;
use crate::sources::local::scratch::Temporary;
use crate::sources::local::sockets;
use crate::sources::Failure;
use crate::worker::{Address, Worker};

/// A process and what is known of it.
pub(super) struct Member {
    pub(super) id: u32,
    pub(super) state: State,
    /// None until the template has told that it was forked.
    pub(super) process: Option<Process>,
    pub(super) started: SystemTime,
    /// The same moment, on the clock that never jumps.
    pub(super) began: Instant,
    /// How long it took to accept connections.
    pub(super) boot: Option<Duration>,
    pub(super) ready_since: Option<Instant>,
    /// Kept for as long as the process lives: the port is its alone.
    pub(super) port: ReservedPort,
    /// Where it listens if it is native; none if it must not be.
    pub(super) socket: Option<PathBuf>,
    /// What its app counts is kept from its end on. Before its folder is removed.
    pub(super) _counted: Counted,
    /// What its temporary files are in, removed with it.
    pub(super) temporary: Temporary,
    /// The same of the template that it was forked from, which is R's `tempdir()` here, too.
    pub(super) inherited: Option<Arc<Temporary>>,
    /// Its lines may be held back while it starts.
    pub(super) gate: Gate,
    pub(super) worker: Option<Arc<Worker>>,
    pub(super) lease_id: Option<MemberId>,
    /// The process that leaves when this one is ready.
    pub(super) replaces: Option<(u64, Reason)>,
    /// Its last replacement failed: none before this.
    pub(super) recycle_after: Option<Instant>,
    /// Memory that it needed before it had served, in bytes; known if that is limited.
    pub(super) fresh: Option<u64>,
    /// That was over the limit: to replace it helps nothing, and is not done before this.
    pub(super) heavy_until: Option<Instant>,
    /// Since when it has served nobody, and the requests that it had answered, at the last look.
    pub(super) idle_since: Option<Instant>,
    pub(super) requests_seen: u64,
    /// Why it was killed while it started.
    pub(super) problem: Option<BootProblem>,
}

impl Member {
    /// The last lines that it printed.
    pub(super) fn lines(&self) -> Vec<String> {
        let process = self.process.as_ref();
        process.map_or_else(Vec::new, |process| process.tail.lines())
    }

    pub(super) fn kill(&self) {
        if let Some(process) = &self.process {
            process.ender().kill();
        }
    }

    /// Where it may begin to accept connections; once it has, its worker knows which it is.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let tcp = Address::Tcp(self.port.address);
        let unix = self.socket.clone().map(Address::Unix);
        unix.into_iter().chain([tcp]).collect()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            sockets::clear(socket);
        }
    }
}

/// A worker's first start that failed while others might still come up.
pub(super) struct FirstFailure {
    pub(super) id: u32,
    pub(super) failure: Failure,
    /// What it printed may be held back there.
    pub(super) gate: Gate,
}

/// What is wrong with a process that runs, but will not become a worker.
#[derive(Clone, Debug)]
pub(super) enum BootProblem {
    /// It took too long.
    Timeout,
    /// It serves TCP, but must be native.
    NotNative,
    /// It listens, but not where the front asks.
    Elsewhere(Vec<SocketAddr>),
}

/// Why a process is replaced: the `reason` label of `faucet_restarts_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Crashed,
    BootFailed,
    Timeout,
    Cancelled,
    MaxRequests,
    MaxMemory,
    Reload,
}

impl Reason {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crashed => "crashed",
            Self::BootFailed => "boot_failed",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::MaxRequests => "max_requests",
            Self::MaxMemory => "max_memory",
            Self::Reload => "reload",
        }
    }
}
