//! What a client's connection is doing, so that doing nothing has an end.

use std::ops::Deref;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use super::departure::Departure;
use super::limits::Limits;
use crate::clock::coarse_millis;

/// A body that is so many bytes longer has made progress. Whoever sends a byte now and then, so as not to be idle, has
/// not: over time that is less than any network carries.
const PROGRESS: usize = 1024;

/// `Head -> Busy -> Idle -> Head -> ...`; a new connection starts in `Head`. From `Busy` it may become a `Tunnel` for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// A request's head is arriving, or the first one has still to begin.
    Head = 0,
    /// Between requests.
    Idle = 1,
    /// At least one request is being served.
    Busy = 2,
    /// It is none of HTTP's any more.
    Tunnel = 3,
}

/// How far a connection is asked to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Shutdown {
    None = 0,
    /// Finish the request in progress, then close. Who may be sending one in this very moment is told so: fronts, on
    /// connections that they keep, and newcomers.
    Lenient = 1,
    /// The same for everyone.
    Graceful = 2,
    /// Close now.
    Immediate = 3,
}

/// How a connection came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Origin {
    #[default]
    Client,
    /// A client who was told that there is something for it: it may come while others are to go.
    Fetcher,
    /// This side has dialled.
    Dialled,
}

/// Shared by a connection's task, its IO, its requests, and the registry of connections. Plain
/// atomics: all of them live on the serving thread.
pub struct ConnectionState {
    phase: AtomicU8,
    /// Milliseconds on [`coarse_millis`] since when the phase lasts.
    since: AtomicU64,
    /// When the client stopped taking bytes; 0 when it has not.
    stalled: AtomicU64,
    /// Whether it may do so for as long as it wants to, until its next request.
    may_stall: AtomicBool,
    /// In HTTP/2, since when the client is in the middle of a frame or a head; 0 when it is not.
    incomplete: AtomicU64,
    requests: AtomicUsize,
    /// Of these, how many have a body that is still arriving.
    receiving: AtomicUsize,
    /// When a body last made progress, on [`coarse_millis`], and what has arrived since.
    progress: AtomicU64,
    arrived: AtomicUsize,
    /// Whether the requests that are still arriving are to be given up, and who is told.
    evicted: AtomicBool,
    eviction: Notify,
    /// Whether every response has been written.
    all_written: AtomicBool,
    /// Where this connection stands in the list of connections.
    place: AtomicUsize,
    shutdown: AtomicU8,
    /// Whether a request has come.
    asked: AtomicBool,
    /// Whether the client is another faucet's front.
    front: AtomicBool,
    origin: Origin,
    pub departure: Departure,
    task: Mutex<Option<Waker>>,
}

impl Default for ConnectionState {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Head as u8),
            since: AtomicU64::new(coarse_millis()),
            stalled: AtomicU64::new(0),
            may_stall: AtomicBool::new(false),
            incomplete: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            receiving: AtomicUsize::new(0),
            progress: AtomicU64::new(0),
            arrived: AtomicUsize::new(0),
            evicted: AtomicBool::new(false),
            eviction: Notify::new(),
            all_written: AtomicBool::new(true),
            place: AtomicUsize::new(0),
            shutdown: AtomicU8::new(Shutdown::None as u8),
            asked: AtomicBool::new(false),
            front: AtomicBool::new(false),
            origin: Origin::default(),
            departure: Departure::default(),
            task: Mutex::new(None),
        }
    }
}

impl ConnectionState {
    /// Of a connection that this side has dialled, for requests that may come at any time.
    pub fn dialled() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Idle as u8),
            origin: Origin::Dialled,
            ..Self::default()
        }
    }

    /// Of a client who comes for what it was told of.
    pub fn fetching() -> Self {
        Self {
            origin: Origin::Fetcher,
            ..Self::default()
        }
    }

    pub fn is_dialled(&self) -> bool {
        self.origin == Origin::Dialled
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Head,
            1 => Phase::Idle,
            2 => Phase::Busy,
            _ => Phase::Tunnel,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.since.store(coarse_millis(), Ordering::Relaxed);
    }

    /// Bytes arrived.
    pub fn bytes_read(&self) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// What follows the last request is the beginning of a head, which came with it.
    pub fn head_began(&self) {
        self.phase.store(Phase::Head as u8, Ordering::Relaxed);
    }

    /// In HTTP/2, whose clients also send what is no request: since when this one is in the middle of a frame or a head,
    /// 0 if it is not.
    pub fn set_incomplete(&self, since: u64) {
        self.incomplete.store(since, Ordering::Relaxed);
    }

    /// How many requests are being served.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// A head is complete.
    pub fn request_started(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.may_stall.store(false, Ordering::Relaxed);
        self.asked.store(true, Ordering::Relaxed);
        self.phase.store(Phase::Busy as u8, Ordering::Relaxed);
        self.all_written.store(false, Ordering::Relaxed);
        self.departure.request_started();
    }

    /// Nothing is left to write now. While a request is being served, its response is still to come.
    pub fn flushed(&self) {
        if !matches!(self.phase(), Phase::Busy | Phase::Tunnel) {
            self.all_written.store(true, Ordering::Relaxed);
        }
    }

    pub fn is_flushed(&self) -> bool {
        self.all_written.load(Ordering::Relaxed)
    }

    /// A response has been handed over, or its request was dropped.
    pub fn request_ended(&self) {
        let last = self.requests.fetch_sub(1, Ordering::Relaxed) == 1;
        if last && self.phase() != Phase::Tunnel {
            self.enter(Phase::Idle);
        }
    }

    /// The connection is being switched to another protocol.
    pub fn becomes_tunnel(&self) {
        self.enter(Phase::Tunnel);
    }

    /// A request's body begins to arrive; it has arrived, or does so no more, when the guard is dropped.
    pub fn receive(&self) -> Receiving<&Self> {
        self.begin_to_receive();
        Receiving(self)
    }

    /// The same for a guard that does not borrow.
    pub fn receive_shared(self: &Arc<Self>) -> Receiving<Arc<Self>> {
        self.begin_to_receive();
        Receiving(self.clone())
    }

    fn begin_to_receive(&self) {
        if self.receiving.fetch_add(1, Ordering::Relaxed) == 0 {
            self.made_progress();
        }
    }

    fn made_progress(&self) {
        self.arrived.store(0, Ordering::Relaxed);
        self.progress.store(coarse_millis(), Ordering::Relaxed);
    }

    pub fn write_stalled(&self) {
        if self.stalled.load(Ordering::Relaxed) == 0 {
            self.stalled.store(coarse_millis(), Ordering::Relaxed);
        }
    }

    pub fn write_moved(&self) {
        self.stalled.store(0, Ordering::Relaxed);
    }

    /// Whether something is left to send that the client has not taken yet, maybe of an answer that nobody works on any
    /// more.
    pub fn is_sending(&self) -> bool {
        self.stalled.load(Ordering::Relaxed) != 0
    }

    /// When this connection has done nothing for too long, on [`coarse_millis`]; `None` while a worker works for it.
    fn deadline(&self, limits: &Limits) -> Option<u64> {
        let after = |since: u64, patience: Duration| since + patience.as_millis() as u64;
        let stalled = self.stalled.load(Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        if stalled != 0 && !self.may_stall.load(Ordering::Relaxed) {
            return limits.idle_timeout.map(|patience| after(stalled, patience));
        }
        match self.phase() {
            Phase::Head => Some(after(since, limits.header_timeout)),
            Phase::Idle if self.is_dialled() => None,
            Phase::Idle => {
                let idle = limits.idle_timeout.map(|patience| after(since, patience));
                match self.incomplete.load(Ordering::Relaxed) {
                    0 => idle,
                    begun => {
                        let head = after(begun, limits.header_timeout);
                        Some(idle.map_or(head, |idle| idle.min(head)))
                    }
                }
            }
            Phase::Busy | Phase::Tunnel => None,
        }
    }

    /// How long until the deadline: zero when it has passed, `None` when there is none now.
    pub fn patience_left(&self, limits: &Limits) -> Option<Duration> {
        self.deadline(limits)
            .map(|deadline| Duration::from_millis(deadline.saturating_sub(coarse_millis())))
    }

    /// Whether nothing has happened for `time`, and nothing is left to send.
    pub fn is_quiet(&self, time: Duration) -> bool {
        self.phase() == Phase::Idle
            && !self.is_sending()
            && coarse_millis().saturating_sub(self.since.load(Ordering::Relaxed))
                >= time.as_millis() as u64
    }

    /// The rule for whom to close when there are too many connections. One that has no complete request may go, and the
    /// one that has waited for one longest goes first, whatever it is about:
    ///
    /// - between requests, or before the first byte: since the last answer, or the beginning;
    /// - within a head, be it the first or one that was pipelined: since it began;
    /// - within a body: since it last made [progress](PROGRESS);
    /// - with several requests (HTTP/2), all of whose bodies are still arriving: the same.
    ///
    /// Whoever has sent one complete request that is not answered, to the last byte, stays, and so does a tunnel (`None`).
    pub fn incomplete_since(&self) -> Option<u64> {
        match self.phase() {
            Phase::Head | Phase::Idle if self.is_sending() || self.is_dialled() => None,
            Phase::Head | Phase::Idle => Some(self.since.load(Ordering::Relaxed)),
            Phase::Busy => (self.is_receiving()
                && self.receiving.load(Ordering::Relaxed) == self.requests.load(Ordering::Relaxed))
            .then(|| self.progress.load(Ordering::Relaxed)),
            Phase::Tunnel => None,
        }
    }

    fn is_receiving(&self) -> bool {
        self.receiving.load(Ordering::Relaxed) > 0
    }

    /// Whether a request is being served, or its answer still being sent.
    pub fn is_busy(&self) -> bool {
        match self.phase() {
            Phase::Busy => true,
            Phase::Head | Phase::Idle => self.is_sending(),
            Phase::Tunnel => false,
        }
    }

    /// Makes this connection go, for others. Whose request is arriving is told so first; if it does not listen to that, it
    /// is closed the next time.
    pub fn evict(&self) {
        if self.is_receiving() && !self.evicted.swap(true, Ordering::Relaxed) {
            self.eviction.notify_waiters();
            self.shut_down(Shutdown::Graceful);
        } else {
            self.shut_down(Shutdown::Immediate);
        }
    }

    /// Resolves when requests that are still arriving are to be given up.
    pub async fn evicted(&self) {
        loop {
            let mut told = pin!(self.eviction.notified());
            // Before the look, so that nothing is missed between look and wait.
            told.as_mut().enable();
            if self.evicted.load(Ordering::Relaxed) {
                return;
            }
            told.await;
        }
    }

    pub fn place(&self) -> usize {
        self.place.load(Ordering::Relaxed)
    }

    pub fn set_place(&self, place: usize) {
        self.place.store(place, Ordering::Relaxed);
    }

    pub fn shutdown(&self) -> Shutdown {
        match self.shutdown.load(Ordering::Relaxed) {
            0 => Shutdown::None,
            1 => Shutdown::Lenient,
            2 => Shutdown::Graceful,
            _ => Shutdown::Immediate,
        }
    }

    /// Whoever takes the answer is a stage of a chain, which may compute for long before it reads on. Whoever calls the chain is
    /// looked after where the chain is run.
    pub fn let_stall(&self) {
        self.may_stall.store(true, Ordering::Relaxed);
    }

    /// The client is another faucet's front.
    pub fn note_front(&self) {
        self.front.store(true, Ordering::Relaxed);
    }

    /// Whether a request has come.
    pub fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    pub fn is_front(&self) -> bool {
        self.front.load(Ordering::Relaxed)
    }

    /// Whether a request may be on its way that its client could not know to be too late.
    fn may_be_asking(&self) -> bool {
        // On one that was dialled, the answer tells.
        !self.is_dialled() && (self.is_front() || !self.asked.load(Ordering::Relaxed))
    }

    /// Whether the end has to wait for this client, at most `patience` for one that has not said anything yet.
    pub fn is_awaited(&self, patience: Duration) -> bool {
        if self.phase() == Phase::Tunnel || self.is_dialled() {
            return false;
        }
        let since = self.since.load(Ordering::Relaxed);
        let new = || coarse_millis().saturating_sub(since) < patience.as_millis() as u64;
        self.is_front() || (!self.asked.load(Ordering::Relaxed) && new())
    }

    /// Whether the connection is to end when nothing is served on it.
    pub fn is_ending(&self) -> bool {
        match self.shutdown() {
            Shutdown::None => false,
            Shutdown::Lenient => !self.may_be_asking(),
            Shutdown::Graceful => self.origin != Origin::Fetcher || !self.may_be_asking(),
            Shutdown::Immediate => true,
        }
    }

    /// Asks for a shutdown, unless a stronger one was asked for, and wakes the connection's task.
    pub fn shut_down(&self, stage: Shutdown) {
        self.shutdown.fetch_max(stage as u8, Ordering::Relaxed);
        self.rouse();
    }

    fn rouse(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = &*task {
            waker.wake_by_ref();
        }
    }

    /// Resolves when it [is to end](Self::is_ending).
    pub async fn ended(&self) {
        std::future::poll_fn(|cx| {
            self.register(cx.waker());
            if self.is_ending() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Who to wake when a shutdown is asked for.
    pub fn register(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *task {
            Some(known) => known.clone_from(waker),
            None => *task = Some(waker.clone()),
        }
    }
}

/// A body on its way.
pub struct Receiving<C: Deref<Target = ConnectionState>>(C);

impl<C: Deref<Target = ConnectionState>> Receiving<C> {
    /// So many bytes of it came.
    pub fn received(&self, bytes: usize) {
        let arrived = self.0.arrived.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if arrived >= PROGRESS {
            self.0.made_progress();
        }
    }
}

impl<C: Deref<Target = ConnectionState>> Drop for Receiving<C> {
    fn drop(&mut self) {
        self.0.receiving.fetch_sub(1, Ordering::Relaxed);
    }
}

/// For what waits for the client's [departure](super::departure::departed): it is polled when it is woken, not whenever the
/// connection is.
impl Wake for ConnectionState {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.departure.stir();
        self.rouse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_served_until_its_last_byte_is_taken() {
        let connection = ConnectionState::default();
        connection.request_started();
        assert!(connection.is_busy() && connection.incomplete_since().is_none());
        connection.write_stalled();
        connection.request_ended();
        // The next head may begin meanwhile.
        for begun in [false, true] {
            if begun {
                connection.bytes_read();
            }
            assert!(connection.is_busy() && connection.is_sending());
            assert!(connection.incomplete_since().is_none());
        }
        connection.write_moved();
        assert!(!connection.is_busy() && connection.incomplete_since().is_some());
        connection.becomes_tunnel();
        connection.write_stalled();
        assert!(!connection.is_busy() && connection.incomplete_since().is_none());
    }
}
