//! A process and what is known of it.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::lock::MemberId;
use crate::ops::status::State;
use crate::sources::local::boot::ReservedPort;
use crate::sources::local::process::Process;
use crate::worker::Worker;

/// A process and what is known of it.
pub(super) struct Member {
    pub(super) id: u32,
    pub(super) state: State,
    pub(super) process: Process,
    pub(super) started: SystemTime,
    pub(super) ready_since: Option<Instant>,
    /// Kept for as long as the process lives: the port is its alone.
    pub(super) port: ReservedPort,
    pub(super) worker: Option<Arc<Worker>>,
    pub(super) lease_id: Option<MemberId>,
    /// The process that leaves when this one is ready.
    pub(super) replaces: Option<(u64, Reason)>,
    /// Its last replacement failed: none before this.
    pub(super) recycle_after: Option<Instant>,
    pub(super) timed_out: bool,
}

/// Why a process is replaced: the `reason` label of `faucet_restarts_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    Crashed,
    BootFailed,
    Timeout,
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
            Self::MaxRequests => "max_requests",
            Self::MaxMemory => "max_memory",
            Self::Reload => "reload",
        }
    }
}
