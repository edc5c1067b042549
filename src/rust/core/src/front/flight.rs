//! A request at its worker: the lease it holds, its number there, and how it is called back.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::body::Rest;
use crate::lock::{Lease, Ticket};
use crate::ops::Ops;
use crate::worker::native::Said;
use crate::worker::{Connection, Native, Report, Unwanted, Worker};

/// A worker that does not know a request may not have read it yet, or have answered it just now: it is
/// asked again, ever more rarely, until the answer is here.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// A request at its worker, for as long as the worker may work on it. Dropping it gives the lease back.
pub struct Flight {
    /// First: whoever gets the lease next begins a request of its own.
    numbered: Option<Numbered>,
    lease: Lease<Worker>,
    /// What the worker reads of the request's body, only kept open.
    _body: Option<Rest>,
}

/// A request that a native worker knows by its number; known no more once this is dropped.
struct Numbered(Recall);

impl Drop for Numbered {
    fn drop(&mut self) {
        if let Some(native) = &self.0.worker.native {
            native.end(self.0.number);
        }
    }
}

impl Flight {
    pub fn new(lease: Lease<Worker>, ops: &Arc<Ops>) -> Self {
        let numbered = lease.native.as_ref().map(|native| {
            Numbered(Recall {
                number: native.begin(),
                worker: lease.worker().clone(),
                ops: ops.clone(),
            })
        });
        Self {
            numbered,
            lease,
            _body: None,
        }
    }

    /// The request's number, if the worker is native.
    pub fn number(&self) -> Option<u64> {
        self.numbered.as_ref().map(|numbered| numbered.0.number)
    }

    /// A way to call the request back, if the worker is native.
    pub fn recall(&self) -> Option<Recall> {
        self.numbered.as_ref().map(|numbered| numbered.0.clone())
    }

    /// The worker, to keep beyond the lease.
    pub fn worker(&self) -> &Arc<Worker> {
        self.lease.worker()
    }

    /// Keeps a file open that the worker was told of.
    pub fn keep(&mut self, body: Rest) {
        self._body = Some(body);
    }

    /// Gives the lease back and sets its worker aside.
    pub fn suspend(self) -> Ticket {
        drop(self.numbered);
        self.lease.suspend()
    }

    /// The worker broke its connection off. It is set aside until its source has looked after it: whoever
    /// waits must not be handed a worker that is about to be gone.
    pub fn broke_off(self) {
        self.report(Report::Unreachable);
        self.suspend();
    }

    /// Resolves to whether the worker lives and is free, though it broke its connection off: a native one
    /// does that to a response that it cannot finish. Only a living one says so, and it says when.
    pub async fn outlived(&self) -> bool {
        let Some((native, number)) = self.native.as_ref().zip(self.number()) else {
            return false;
        };
        let line = format!("tell {number}\n");
        let mut pause = FIRST_PAUSE;
        loop {
            match native.say(&line).await {
                Ok(Said::Over) => return true,
                Ok(Said::Done) => {
                    tokio::time::sleep(pause).await;
                    pause = LAST_PAUSE.min(pause * 2);
                }
                Err(_) => return false,
            }
        }
    }

    /// The worker has answered: keep the connection if it can be used again, then give the lease back.
    pub async fn landed(self, mut connection: Connection, spoilt: bool) {
        if !spoilt && connection.is_reusable().await {
            self.keep_connection(connection);
        }
        self.report(Report::Served);
    }
}

impl Deref for Flight {
    type Target = Worker;

    fn deref(&self) -> &Worker {
        &self.lease
    }
}

/// Tells a native worker that its answer to a request is not wanted any more. The flight goes on until the
/// worker has answered all the same, so that nobody gets a worker that is still busy.
#[derive(Clone)]
pub struct Recall {
    worker: Arc<Worker>,
    number: u64,
    ops: Arc<Ops>,
}

impl Recall {
    /// The client has left. What the worker shields goes on to its end.
    pub fn client_left(self) {
        tokio::spawn(async move {
            let Some(native) = &self.worker.native else {
                return;
            };
            tokio::select! {
                biased;
                () = native.over(self.number) => {}
                () = self.after_client(native) => {}
            }
        });
    }

    /// The deadline has passed. The worker has `interrupt_timeout` from now on, whatever it says.
    pub fn deadline_passed(self) {
        tokio::spawn(async move {
            let Some(native) = &self.worker.native else {
                return;
            };
            tokio::select! {
                biased;
                () = native.over(self.number) => {}
                () = self.after_deadline(native) => {}
            }
        });
    }

    async fn after_client(&self, native: &Native) {
        let cancelling = native.cancelling();
        if !cancelling.cancel {
            self.say(native, &format!("tell {}\n", self.number)).await;
            return;
        }
        self.say(native, &format!("interrupt {} left\n", self.number))
            .await;
        self.count(native, "client_left");
        tokio::time::sleep(cancelling.interrupt_timeout).await;
        self.give_up(native, Unwanted::ClientLeft);
    }

    async fn after_deadline(&self, native: &Native) {
        let end = Instant::now() + native.cancelling().interrupt_timeout;
        self.count(native, "deadline");
        let line = format!("interrupt {} deadline\n", self.number);
        // The time counts from the deadline: nothing is shielded from it.
        let _ = tokio::time::timeout_at(end, self.say(native, &line)).await;
        tokio::time::sleep_until(end).await;
        self.give_up(native, Unwanted::Deadline);
    }

    /// Resolves when the worker has done what the line asks for, or nothing can be said to it. Then it is as
    /// if it had been said: the worker is either free soon, or of no use any more.
    async fn say(&self, native: &Native, line: &str) {
        let mut pause = FIRST_PAUSE;
        loop {
            match native.say(line).await {
                Ok(Said::Done) => return,
                Ok(Said::Over) => {
                    tokio::time::sleep(pause).await;
                    pause = LAST_PAUSE.min(pause * 2);
                }
                Err(error) => {
                    tracing::debug!(worker = self.worker.id, "cannot be told anything: {error}");
                    return;
                }
            }
        }
    }

    fn count(&self, native: &Native, reason: &'static str) {
        if native.note_cancelled(self.number) {
            self.ops.metrics.cancelled(reason);
        }
    }

    fn give_up(&self, native: &Native, why: Unwanted) {
        if native.note_stuck(self.number) {
            self.worker.report(Report::Stuck(why));
        }
    }
}
