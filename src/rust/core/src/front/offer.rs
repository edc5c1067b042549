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
            if self.gates.strict() {
                // Nor does it open when nothing runs: an idle table would be looked at without end.
                changed.await;
                continue;
            }
            tokio::select! {
                () = changed => {}
                () = table.idle() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Wake, Waker};

    use super::*;
    use crate::gates::{Gate, GateSettings};

    struct Flag(AtomicUsize);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_strict_gate_is_waited_for_though_nothing_runs() {
        let gates = Gates::new(GateSettings {
            gates: vec![Gate::Asked],
            strict: true,
        });
        let (offer, table) = (Offer::new(gates.clone(), None), Table::new(8));
        let flag = Arc::new(Flag(AtomicUsize::new(0)));
        let waker = Waker::from(flag.clone());
        let mut context = Context::from_waker(&waker);
        let mut open = pin!(offer.open(&table));
        assert!(open.as_mut().poll(&mut context).is_pending());
        gates.answer(0, true);
        assert!(flag.0.load(Ordering::SeqCst) > 0);
        assert!(open.as_mut().poll(&mut context).is_ready());
    }
}
