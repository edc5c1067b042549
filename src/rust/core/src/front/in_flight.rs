//! A request at its worker: the lease it holds, its number there, and how it is called back.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use tokio::time::Instant;

use crate::body::{Flow, Rest};
use crate::gates::Job;
use crate::lock::{Lease, Suspender, Ticket};
use crate::ops::Ops;
use crate::sessions::Hold;
use crate::worker::native::Said;
use crate::worker::{remote, Connection, Native, Remote, Report, Unwanted, Worker};

/// A worker that does not know a request may not have read it yet, or have answered it just now: it is
/// asked again, ever more rarely, until the answer is here.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Between two looks whether a worker that nobody waits for is still there.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// Why a request was given up, in the metrics.
const CLIENT_LEFT: &str = "client_left";
const DEADLINE: &str = "deadline";

/// A request at its worker, for as long as the worker may work on it. Dropping it gives the lease back.
pub struct InFlight {
    /// First: whoever gets the lease next begins a request of its own.
    numbered: Option<Numbered>,
    /// The request's number at its worker.
    number: u64,
    _spent: Spent,
    lease: Lease<Worker>,
    /// If the worker is remote.
    far: Option<Arc<Ops>>,
    /// Others wait where the worker is, too.
    crowded: bool,
    /// What the worker reads of the request's body, only kept open.
    _body: Option<Rest>,
    /// The request's body, if that comes meanwhile.
    flow: Option<Flow>,
    /// The request's session, if it has one.
    session: Option<Hold>,
    /// What it has reserved of the machine, if a hub has sent it.
    job: Option<Job>,
}

/// A request that a native worker knows by its number; known no more once this is dropped.
struct Numbered(Cancellation);

impl Drop for Numbered {
    fn drop(&mut self) {
        if let Some(native) = &self.0.worker.native {
            native.end(self.0.number);
        }
    }
}

/// A slot whose connection is used up is set aside before its lease is given back: nothing can be sent to it.
struct Spent(Option<Box<(Arc<Worker>, Suspender<Worker>)>>);

impl Drop for Spent {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            let (worker, suspender) = &**slot;
            if worker.is_gone() {
                suspender.suspend();
            }
        }
    }
}

impl InFlight {
    pub fn new(lease: Lease<Worker>, ops: &Arc<Ops>) -> Self {
        let number = lease.begin();
        let numbered = lease.native.as_ref().map(|native| {
            native.begin(number);
            Numbered(Cancellation {
                number,
                worker: lease.worker().clone(),
                ops: ops.clone(),
            })
        });
        let far = lease.remote.as_ref().map(|_| ops.clone());
        let spent = Spent(lease.dialled.is_some().then(|| {
            let slot = (lease.worker().clone(), lease.suspender());
            Box::new(slot)
        }));
        Self {
            numbered,
            number,
            _spent: spent,
            lease,
            far,
            crowded: false,
            _body: None,
            flow: None,
            session: None,
            job: None,
        }
    }

    /// The same, for which something is reserved for as long.
    pub fn of_job(mut self, job: Job) -> Self {
        self.job = Some(job);
        self
    }

    /// The same, of a session that lasts for at least as long.
    pub fn of_session(mut self, session: Hold) -> Self {
        self.session = Some(session);
        self
    }

    /// The hold on its session, to keep beyond the lease.
    pub fn take_session(&mut self) -> Option<Hold> {
        self.session.take()
    }

    /// The request's number, if the worker is native and is told.
    pub fn number(&self) -> Option<u64> {
        self.numbered.as_ref().map(|_| self.number)
    }

    /// The same for whoever knows that only this front has numbers for it.
    pub fn own_number(&self) -> u64 {
        self.number
    }

    /// Whose process the worker is, if it is another user's than ours.
    pub fn foreign_user(&self) -> Option<u32> {
        self.lease.native.as_ref()?.foreign
    }

    /// A way to call the request back, if the worker is native.
    pub fn cancellation(&self) -> Option<Cancellation> {
        self.numbered.as_ref().map(|numbered| numbered.0.clone())
    }

    /// Whether nobody has to wait for the answer once it is not wanted: the worker's own faucet sees to what becomes of
    /// the request. For everyone else, it ends when the worker has answered.
    pub fn breaks_off(&self) -> bool {
        self.remote.as_ref().is_some_and(Remote::may_break_off)
    }

    /// Takes note of what a remote worker says of itself.
    pub fn note(&mut self, headers: &HeaderMap) {
        remote::note(self, headers);
        self.crowded = remote::is_crowded(headers);
    }

    /// The worker, to keep beyond the lease.
    pub fn worker(&self) -> &Arc<Worker> {
        self.lease.worker()
    }

    /// Keeps a file open that the worker was told of.
    pub fn keep(&mut self, body: Rest) {
        self._body = Some(body);
    }

    /// The request's body comes meanwhile.
    pub fn hand_on(&mut self, flow: Flow) {
        self.flow = Some(flow);
    }

    /// Whether its body came meanwhile, and broke off.
    pub fn is_undone(&self) -> bool {
        let failed = self.flow.as_ref().and_then(Flow::failed);
        failed.is_some()
    }

    /// Nothing is in flight after all, and the worker is still to be used.
    pub fn into_lease(self) -> Lease<Worker> {
        drop(self.numbered);
        self.lease
    }

    /// Gives the lease back and sets its worker aside.
    pub fn suspend(self) -> Ticket {
        drop(self.numbered);
        self.lease.suspend()
    }

    /// It has others to serve first: whoever waits is to ask it for a turn, or go elsewhere. `had_turn`: it did not keep
    /// its word.
    pub fn occupied(self, had_turn: bool) -> Ticket {
        self.report(if had_turn {
            Report::TurnRefused
        } else {
            Report::Occupied
        });
        self.suspend()
    }

    /// What has to happen if the deadline passes before the exchange is over and it is broken off.
    pub fn late(&self) -> Late {
        Late {
            worker: self.lease.worker().clone(),
            number: self.number,
            suspender: self.lease.suspender(),
            ops: self.far.clone(),
        }
    }

    /// The client has left, and the exchange was broken off.
    pub fn left(self) {
        if let Some(ops) = &self.far {
            ops.metrics.cancelled(CLIENT_LEFT);
        }
    }

    /// The worker broke its connection off. It is set aside until its source has looked after it: whoever
    /// waits must not be handed a worker that is about to be gone.
    pub fn broke_off(self) -> Ticket {
        self.report(Report::Unreachable);
        self.suspend()
    }

    /// The worker passed its deadline, or does not give up what nobody wants.
    pub fn stuck(&self, why: Unwanted) {
        self.report(Report::Stuck(why, self.number));
    }

    /// The worker has answered.
    pub fn served(self) {
        self.answered(self.number);
    }

    /// Its answer was none, or stopped in the middle: the connection is closed, and nobody waits for more. A native worker
    /// says itself when it is free. Any other is set aside until its source has seen that it answers.
    pub fn doubtful(self) {
        let Some(cancellation) = self.cancellation() else {
            self.report(Report::Doubtful);
            self.suspend();
            return;
        };
        cancellation.abandoned();
        tokio::spawn(async move {
            match self.outlived().await {
                Outlived::Free => self.served(),
                Outlived::Gone => drop(self.broke_off()),
                Outlived::Frozen => self.frozen(),
            }
        });
    }

    /// The worker is there and does nothing.
    pub fn frozen(self) {
        self.stuck(Unwanted::Silent);
        self.suspend();
    }

    /// Resolves to what became of a worker that broke its connection off: a native one does that to a response that it
    /// cannot finish. Only a living one says so, and it says when it is free.
    pub async fn outlived(&self) -> Outlived {
        let Some((native, number)) = self.native.as_ref().zip(self.number()) else {
            return Outlived::Gone;
        };
        let limit = native.cancelling().answer_timeout();
        let line = format!("tell {number}\n");
        let mut pause = FIRST_PAUSE;
        while !self.is_cut() {
            match tokio::time::timeout(limit, native.say(&line)).await {
                Ok(Ok(Said::Over)) => return Outlived::Free,
                Ok(Ok(Said::Done)) => {
                    tokio::time::sleep(pause).await;
                    pause = LAST_PAUSE.min(pause * 2);
                }
                Ok(Err(_)) => return Outlived::Gone,
                Err(_) => return Outlived::Frozen,
            }
        }
        Outlived::Gone
    }

    /// A call by gRPC was answered: its connection is everybody's.
    pub fn passed_through(self) {
        self.answered(self.number);
        if self.crowded && self.lease.anyone_waits() {
            self.occupied(false);
        }
    }

    /// The worker has answered: keep the connection if it can be used again, then give the lease back.
    pub async fn finish(mut self, mut connection: Connection, spoilt: bool) {
        // A worker may answer before it has read what comes.
        let flow = self.flow.take();
        let unread = flow.as_ref().is_some_and(|flow| !flow.is_over());
        if !spoilt && !unread && connection.is_reusable().await {
            if flow.is_some() {
                connection.reset_on_close(false);
            }
            self.keep_connection(connection);
        }
        self.answered(self.number);
        if self.crowded && self.lease.anyone_waits() {
            self.occupied(false);
        }
    }
}

impl Deref for InFlight {
    type Target = Worker;

    fn deref(&self) -> &Worker {
        &self.lease
    }
}

/// What became of a native worker that broke its connection off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlived {
    /// It lives, and is at work on nothing.
    Free,
    /// It cannot be asked.
    Gone,
    /// It does not answer.
    Frozen,
}

/// A deadline that has passed for an exchange that is then broken off. The worker is set aside while its lease is still
/// held, so that nobody is handed one that may be at work.
pub struct Late {
    worker: Arc<Worker>,
    number: u64,
    suspender: Suspender<Worker>,
    ops: Option<Arc<Ops>>,
}

impl Late {
    pub fn give_up(self) {
        self.suspender.suspend();
        self.worker
            .report(Report::Stuck(Unwanted::Deadline, self.number));
        if let Some(ops) = &self.ops {
            ops.metrics.cancelled(DEADLINE);
        }
    }
}

/// An exchange that is dropped, and so broken off, when its client leaves. Counts that.
pub struct BreakOff<'a>(Option<&'a Ops>);

impl<'a> BreakOff<'a> {
    pub fn new(ops: &'a Ops) -> Self {
        Self(Some(ops))
    }

    /// The exchange came to its end.
    pub fn unneeded(mut self) {
        self.0 = None;
    }
}

impl Drop for BreakOff<'_> {
    fn drop(&mut self) {
        if let Some(ops) = self.0 {
            ops.metrics.cancelled(CLIENT_LEFT);
        }
    }
}

/// Tells a native worker that its answer to a request is not wanted any more. The exchange goes on until the
/// worker has answered all the same, so that nobody gets a worker that is still busy.
#[derive(Clone)]
pub struct Cancellation {
    worker: Arc<Worker>,
    number: u64,
    ops: Arc<Ops>,
}

impl Cancellation {
    /// The client has left. What the worker shields goes on to its end.
    pub fn client_left(self) {
        self.unwanted(Some(CLIENT_LEFT));
    }

    /// The front has closed the request's connection.
    fn abandoned(self) {
        self.unwanted(None);
    }

    fn unwanted(self, reason: Option<&'static str>) {
        tokio::spawn(async move {
            let Some(native) = &self.worker.native else {
                return;
            };
            tokio::select! {
                biased;
                () = native.over(self.number) => {}
                () = self.after_client(native, reason) => {}
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

    async fn after_client(&self, native: &Native, reason: Option<&'static str>) {
        tokio::select! {
            () = self.call_off(native, reason) => self.give_up(native, Unwanted::ClientLeft),
            () = self.freezes(native) => self.give_up(native, Unwanted::Silent),
        }
    }

    /// Resolves when the worker has had its time to obey, if it must.
    async fn call_off(&self, native: &Native, reason: Option<&'static str>) {
        let cancelling = native.cancelling();
        if !cancelling.cancel {
            self.say(native, &format!("tell {}\n", self.number)).await;
            return std::future::pending().await;
        }
        self.say(native, &format!("interrupt {} left\n", self.number))
            .await;
        if let Some(reason) = reason {
            self.count(native, reason);
        }
        tokio::time::sleep(cancelling.interrupt_timeout).await;
    }

    /// Resolves when the worker has said nothing for `interrupt_timeout`, or some seconds if
    /// that is short. What R computes or shields does not keep its
    /// control socket from answering: who does not is stopped as a whole, and will never end.
    async fn freezes(&self, native: &Native) {
        let limit = native.cancelling().answer_timeout();
        let line = format!("tell {}\n", self.number);
        loop {
            tokio::time::sleep(BETWEEN_LOOKS).await;
            match tokio::time::timeout(limit - BETWEEN_LOOKS, native.say(&line)).await {
                Ok(Ok(_)) => {}
                // It cannot be asked: what that means is seen by whoever waits for its answer.
                Ok(Err(_)) => return std::future::pending().await,
                Err(_) => return,
            }
        }
    }

    async fn after_deadline(&self, native: &Native) {
        let end = Instant::now() + native.cancelling().interrupt_timeout;
        self.count(native, DEADLINE);
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
            self.worker.report(Report::Stuck(why, self.number));
        }
    }
}
