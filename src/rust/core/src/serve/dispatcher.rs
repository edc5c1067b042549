//! Between the thread that speaks HTTP and the thread that handles requests: one request at a time, and
//! what its client wants to say meanwhile.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::answer::Answer;
use super::request::Request;

/// Breaks off what the handling thread does. Called under the dispatcher's lock, so that it never hits a
/// later request; it must not block, nor come back to the dispatcher.
type Interrupt = Box<dyn Fn() + Send + Sync>;

/// How long the handling thread stays awake for the next request, when requests come as fast as that. A thread
/// that sleeps comes back to cold caches and, on virtual machines, to a processor that was given away: measured,
/// the same R code then takes 1.4 times as long, so that being awake for this long costs less than it saves.
const AWAKE: Duration = Duration::from_micros(250);

/// How a request is known to the dispatcher; the front's own number may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// Why an interrupt is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its client has left: what the handler shields goes on to its end first.
    Left,
    /// Its time is over, shielded or not.
    Deadline,
}

/// What became of a wish to interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Interrupted,
    /// The request had been answered, or was never begun.
    Over,
}

struct Job {
    ticket: Ticket,
    number: Option<u64>,
    request: Request,
    reply: oneshot::Sender<Answer>,
}

/// The request that is being handled.
///
/// `Quiet -> Due -> Interrupted`, or straight from the first to the last when nothing is shielded.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Quiet,
    /// As soon as nothing is shielded any more.
    Due,
    Interrupted,
}

struct Current {
    ticket: Ticket,
    number: Option<u64>,
    reply: Option<oneshot::Sender<Answer>>,
    client_gone: bool,
    shields: u32,
    wish: Wish,
    /// Who wants to know when it is interrupted. Dropped when it is over.
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Default)]
struct State {
    inbox: VecDeque<Job>,
    current: Option<Current>,
    last: u64,
    closed: bool,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// An interrupt was sent for it. It may still be pending.
    pub interrupted: bool,
}

/// The dispatcher.
pub struct Dispatcher {
    state: Mutex<State>,
    arrived: Condvar,
    /// How many requests are in the inbox: for a look without the lock.
    waiting: AtomicUsize,
    /// Whether the last request came soon after the one before, so that staying awake is worth it.
    brisk: AtomicBool,
    interrupt: Interrupt,
}

impl Dispatcher {
    /// `interrupt` breaks off what the handling thread does.
    pub fn new(interrupt: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
            waiting: AtomicUsize::new(0),
            brisk: AtomicBool::new(false),
            interrupt: Box::new(interrupt),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // The handler's side.

    /// The next request; waits at most `patience`. Whoever takes it owes an [`answer`](Self::answer)
    /// and a [`finish`](Self::finish).
    pub fn next(&self, patience: Duration) -> Option<Request> {
        let begun = Instant::now();
        if self.brisk.load(Ordering::Relaxed) {
            self.stay_awake(begun, patience.min(AWAKE));
        }
        let state = self.lock();
        let (mut state, _) = self
            .arrived
            .wait_timeout_while(state, patience, |state| {
                state.inbox.is_empty() && !state.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        self.brisk
            .store(begun.elapsed() < 2 * AWAKE, Ordering::Relaxed);
        let job = state.inbox.pop_front()?;
        self.waiting.store(state.inbox.len(), Ordering::Relaxed);
        state.current = Some(Current {
            ticket: job.ticket,
            number: job.number,
            reply: Some(job.reply),
            client_gone: false,
            shields: 0,
            wish: Wish::Quiet,
            waiting: Vec::new(),
        });
        Some(job.request)
    }

    /// Waits without sleeping; whoever else wants this processor gets it.
    fn stay_awake(&self, since: Instant, time: Duration) {
        while self.waiting.load(Ordering::Relaxed) == 0 && since.elapsed() < time {
            std::thread::yield_now();
        }
    }

    /// Sends the answer, or the head of a stream. Whether there was still one to send.
    pub fn answer(&self, answer: Answer) -> bool {
        let reply = self
            .lock()
            .current
            .as_mut()
            .and_then(|current| current.reply.take());
        match reply {
            Some(reply) => {
                // Nobody may want it any more.
                let _ = reply.send(answer);
                true
            }
            None => false,
        }
    }

    /// The handler is done with its request: no interrupt is sent for it from now on.
    pub fn finish(&self) -> Finished {
        let current = self.lock().current.take();
        Finished {
            interrupted: current.is_some_and(|current| current.wish == Wish::Interrupted),
        }
    }

    /// Whether the client of the request in hand has left, or its deadline has passed.
    pub fn is_cancelled(&self) -> bool {
        self.lock()
            .current
            .as_ref()
            .is_some_and(|current| current.client_gone)
    }

    /// Whether an interrupt was sent for the request in hand.
    pub fn is_interrupted(&self) -> bool {
        self.lock()
            .current
            .as_ref()
            .is_some_and(|current| current.wish == Wish::Interrupted)
    }

    /// Whether a request is in hand.
    pub fn is_busy(&self) -> bool {
        self.lock().current.is_some()
    }

    /// From here on a client that leaves does not interrupt, until as many [`unshield`](Self::unshield).
    pub fn shield(&self) {
        if let Some(current) = &mut self.lock().current {
            current.shields += 1;
        }
    }

    /// Ends a shield; an interrupt that is due happens now.
    pub fn unshield(&self) {
        if let Some(current) = &mut self.lock().current {
            current.shields = current.shields.saturating_sub(1);
            if current.shields == 0 && current.wish == Wish::Due {
                self.strike(current);
            }
        }
    }

    /// Whether the other side is gone, so that no request will come.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    // The connection's side.

    pub(super) fn submit(
        &self,
        number: Option<u64>,
        request: Request,
    ) -> (Ticket, oneshot::Receiver<Answer>) {
        let (reply, answer) = oneshot::channel();
        let mut state = self.lock();
        state.last += 1;
        let ticket = Ticket(state.last);
        state.inbox.push_back(Job {
            ticket,
            number,
            request,
            reply,
        });
        self.waiting.store(state.inbox.len(), Ordering::Relaxed);
        drop(state);
        self.arrived.notify_one();
        (ticket, answer)
    }

    /// The connection of a request is gone.
    pub(super) fn abandon(&self, ticket: Ticket) {
        let mut state = self.lock();
        state.inbox.retain(|job| job.ticket != ticket);
        self.waiting.store(state.inbox.len(), Ordering::Relaxed);
        if let Some(current) = state.current.as_mut().filter(|now| now.ticket == ticket) {
            self.wish(current, Why::Left);
        }
    }

    /// Interrupts a request, if it is in flight, as soon as its handler lets it.
    pub(super) async fn interrupt(&self, number: u64, why: Why) -> Outcome {
        let struck = {
            let mut state = self.lock();
            // One that was not begun is not begun.
            state.inbox.retain(|job| job.number != Some(number));
            self.waiting.store(state.inbox.len(), Ordering::Relaxed);
            let Some(current) = Self::find(&mut state, number) else {
                return Outcome::Over;
            };
            self.wish(current, why);
            if current.wish == Wish::Interrupted {
                return Outcome::Interrupted;
            }
            let (waiting, struck) = oneshot::channel();
            current.waiting.push(waiting);
            struck
        };
        match struck.await {
            Ok(()) => Outcome::Interrupted,
            Err(_) => Outcome::Over,
        }
    }

    /// Lets a handler know that its client has left. Whether it is still at work.
    pub(super) fn tell(&self, number: u64) -> bool {
        let mut state = self.lock();
        let current = Self::find(&mut state, number);
        current.map(|current| current.client_gone = true).is_some()
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }

    fn find(state: &mut State, number: u64) -> Option<&mut Current> {
        state
            .current
            .as_mut()
            .filter(|current| current.number == Some(number))
    }

    fn wish(&self, current: &mut Current, why: Why) {
        current.client_gone = true;
        match current.wish {
            Wish::Quiet | Wish::Due if current.shields == 0 || why == Why::Deadline => {
                self.strike(current);
            }
            Wish::Quiet => current.wish = Wish::Due,
            Wish::Due | Wish::Interrupted => {}
        }
    }

    fn strike(&self, current: &mut Current) {
        current.wish = Wish::Interrupted;
        (self.interrupt)();
        for waiting in current.waiting.drain(..) {
            // Whoever asked may be gone.
            let _ = waiting.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::sync::Arc;

    use hyper::{HeaderMap, Method, Uri};

    use super::*;
    use crate::body::Buffered;

    const NOW: Duration = Duration::ZERO;

    fn request() -> Request {
        Request {
            method: Method::GET,
            target: Uri::from_static("/"),
            headers: HeaderMap::new(),
            body: Buffered::default(),
            inlet: None,
        }
    }

    /// A dispatcher, and how often it has interrupted.
    fn dispatcher() -> (Dispatcher, Arc<AtomicU32>) {
        let count = Arc::new(AtomicU32::new(0));
        let counted = count.clone();
        let dispatcher = Dispatcher::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        (dispatcher, count)
    }

    #[tokio::test]
    async fn an_interrupt_hits_its_own_request_and_no_other() {
        let (dispatcher, count) = dispatcher();
        let (_, _first) = dispatcher.submit(Some(1), request());
        let (_, _second) = dispatcher.submit(Some(2), request());
        assert!(dispatcher.next(NOW).is_some());
        assert_eq!(dispatcher.interrupt(7, Why::Left).await, Outcome::Over);
        assert!(!dispatcher.finish().interrupted);
        assert_eq!(dispatcher.interrupt(1, Why::Left).await, Outcome::Over);
        assert!(dispatcher.next(NOW).is_some());
        assert_eq!(dispatcher.interrupt(1, Why::Deadline).await, Outcome::Over);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert_eq!(
            dispatcher.interrupt(2, Why::Left).await,
            Outcome::Interrupted
        );
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(dispatcher.is_cancelled());
        assert!(dispatcher.finish().interrupted);
    }

    #[tokio::test]
    async fn a_request_is_interrupted_once() {
        let (dispatcher, count) = dispatcher();
        let (ticket, _answer) = dispatcher.submit(Some(1), request());
        assert!(dispatcher.next(NOW).is_some());
        assert_eq!(
            dispatcher.interrupt(1, Why::Left).await,
            Outcome::Interrupted
        );
        assert_eq!(
            dispatcher.interrupt(1, Why::Deadline).await,
            Outcome::Interrupted
        );
        dispatcher.abandon(ticket);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn one_that_was_not_begun_never_is() {
        let (dispatcher, count) = dispatcher();
        let (_, answer) = dispatcher.submit(Some(1), request());
        assert_eq!(dispatcher.interrupt(1, Why::Left).await, Outcome::Over);
        assert!(dispatcher.next(NOW).is_none());
        assert!(answer.await.is_err());
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_shield_delays_an_interrupt_but_not_a_deadline() {
        let (dispatcher, count) = dispatcher();
        let dispatcher = Arc::new(dispatcher);
        let (_, _answer) = dispatcher.submit(Some(1), request());
        assert!(dispatcher.next(NOW).is_some());
        dispatcher.shield();
        dispatcher.shield();
        let asked = dispatcher.clone();
        let wish = tokio::spawn(async move { asked.interrupt(1, Why::Left).await });
        while !dispatcher.is_cancelled() {
            tokio::task::yield_now().await;
        }
        dispatcher.unshield();
        assert_eq!(count.load(Ordering::Relaxed), 0);
        dispatcher.unshield();
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert_eq!(wish.await.expect("no panic"), Outcome::Interrupted);
        dispatcher.finish();

        let (_, _answer) = dispatcher.submit(Some(2), request());
        assert!(dispatcher.next(NOW).is_some());
        dispatcher.shield();
        assert_eq!(
            dispatcher.interrupt(2, Why::Deadline).await,
            Outcome::Interrupted
        );
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_shield_hears_of_the_end() {
        let (dispatcher, count) = dispatcher();
        let dispatcher = Arc::new(dispatcher);
        let (_, _answer) = dispatcher.submit(Some(1), request());
        assert!(dispatcher.next(NOW).is_some());
        dispatcher.shield();
        let asked = dispatcher.clone();
        let wish = tokio::spawn(async move { asked.interrupt(1, Why::Left).await });
        while !dispatcher.is_cancelled() {
            tokio::task::yield_now().await;
        }
        dispatcher.finish();
        assert_eq!(wish.await.expect("no panic"), Outcome::Over);
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn telling_interrupts_nobody() {
        let (dispatcher, count) = dispatcher();
        let (_, _answer) = dispatcher.submit(Some(1), request());
        assert!(!dispatcher.tell(1));
        assert!(dispatcher.next(NOW).is_some());
        assert!(!dispatcher.is_cancelled());
        assert!(dispatcher.tell(1));
        assert!(dispatcher.is_cancelled());
        assert_eq!(count.load(Ordering::Relaxed), 0);
    }
}
