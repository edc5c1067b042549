//! A request at its worker: the lease it holds, and its number there.

use std::ops::Deref;
use std::sync::Arc;

use crate::lock::{Lease, Ticket};
use crate::worker::Worker;

/// A request at its worker, for as long as the worker may work on it. Dropping it gives the lease back.
pub struct Flight {
    /// First: whoever gets the lease next begins a request of its own.
    numbered: Option<Numbered>,
    lease: Lease<Worker>,
}

/// A request that a native worker knows by its number.
struct Numbered {
    worker: Arc<Worker>,
    number: u64,
}

impl Drop for Numbered {
    fn drop(&mut self) {
        if let Some(native) = &self.worker.native {
            native.end(self.number);
        }
    }
}

impl Flight {
    pub fn new(lease: Lease<Worker>) -> Self {
        let numbered = lease.native.as_ref().map(|native| Numbered {
            worker: lease.worker().clone(),
            number: native.begin(),
        });
        Self { numbered, lease }
    }

    /// The request's number, if the worker is native.
    pub fn number(&self) -> Option<u64> {
        self.numbered.as_ref().map(|numbered| numbered.number)
    }

    /// The worker, to keep beyond the lease.
    pub fn worker(&self) -> &Arc<Worker> {
        self.lease.worker()
    }

    /// Gives the lease back and sets its worker aside.
    pub fn suspend(self) -> Ticket {
        drop(self.numbered);
        self.lease.suspend()
    }
}

impl Deref for Flight {
    type Target = Worker;

    fn deref(&self) -> &Worker {
        &self.lease
    }
}
