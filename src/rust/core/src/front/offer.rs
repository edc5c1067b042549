//! What makes a connection an offer: this machine has dialled it, to a hub, which sends requests on it.

use std::sync::Arc;

use super::cause::Cause;
use super::redirects::Redirects;
use crate::gates::{Gates, Job};
use crate::lock::Table;
use crate::worker::Worker;

/// Said on a connection that is taken back, in place of an answer: a request that is on its way was not worked on, and may
/// go anywhere.
pub const WITHDRAWAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    faucet-error: withdrawn\r\n\
    faucet-busy: 1\r\n\
    faucet-workers: 1\r\n\
    content-length: 0\r\n\
    connection: close\r\n\r\n";

/// The terms of an offer.
#[derive(Clone)]
pub struct Offer {
    gates: Arc<Gates>,
    /// Where answers wait whose bodies do not go through the hub.
    redirects: Option<Arc<Redirects>>,
}

impl Offer {
    pub fn new(gates: Arc<Gates>, redirects: Option<Arc<Redirects>>) -> Self {
        Self { gates, redirects }
    }

    pub fn redirects(&self) -> Option<&Arc<Redirects>> {
        self.redirects.as_ref()
    }

    /// Whether a job may begin beside `running` others. A closed gate keeps no machine from its only one, unless it is strict.
    fn admits(&self, running: usize) -> bool {
        self.gates.room() > 0 || (running == 0 && !self.gates.strict())
    }

    /// A job begins, and has ended when what is returned is dropped.
    ///
    /// # Errors
    /// It may not begin now.
    pub fn begin(&self, table: &Table<Worker>) -> Result<Job, Cause> {
        if self.admits(table.leases()) {
            Ok(self.gates.took())
        } else {
            Err(Cause::Busy)
        }
    }

    /// A job whose turn it is begins.
    pub fn begin_turn(&self) -> Job {
        self.gates.took()
    }

    /// Whether a turn may be given to whoever holds a lease now.
    pub fn admits_turn(&self, table: &Table<Worker>) -> bool {
        self.admits(table.leases().saturating_sub(1))
    }

    /// Resolves when a job may begin.
    pub async fn open(&self, table: &Arc<Table<Worker>>) {
        loop {
            let changed = self.gates.changed();
            if self.admits(table.leases()) {
                return;
            }
            tokio::select! {
                () = changed => {}
                () = table.idle() => {}
            }
        }
    }
}
