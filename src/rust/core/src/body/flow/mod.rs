//! A body that is handed on while it comes.

mod gathered;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use tokio::sync::Notify;
use tokio::time::Sleep;

use super::buffered::{Arriving, BufferError, Buffered, BufferedBody};
use super::store::Store;
use gathered::{Gathered, TOGETHER};

/// Where it comes from. Its error is that it breaks off.
pub type Source = Pin<Box<dyn Body<Data = Bytes, Error = BufferError> + Send>>;

/// Why a body that is handed on has not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowFailed {
    /// Whoever writes it is gone.
    Broken,
    /// No byte came for too long.
    Stalled,
}

/// Between two looks whether whoever sends may still wait.
const PAUSE: Duration = Duration::from_millis(20);

/// What has come of a body before somebody takes it, and where its rest comes from.
pub struct Inflow {
    held: VecDeque<Buffered>,
    /// `None` once all has come.
    source: Option<Source>,
    patience: Option<Duration>,
}

impl Inflow {
    /// Of a body of which nothing has come. `patience`: how long no byte may come while one is asked for.
    pub fn new(source: Source, patience: Option<Duration>) -> Self {
        Self {
            held: VecDeque::new(),
            source: Some(source),
            patience,
        }
    }

    /// How much has come and is held, in bytes.
    pub fn held(&self) -> u64 {
        self.held.iter().map(Buffered::len).sum()
    }

    /// Resolves when something is there, or it is known that nothing comes.
    ///
    /// # Errors
    /// It broke off, stalled, or cannot be kept.
    pub async fn begin(&mut self, store: &Store, memory: u64) -> Result<(), BufferError> {
        let mut arriving = Arriving::new(store, memory);
        while arriving.len() == 0 {
            match self.next().await? {
                Some(chunk) => arriving.push(chunk).await?,
                None => break,
            }
        }
        self.hold(arriving).await
    }

    /// Takes in what comes until `stop` rings, or all has come. To be awaited to its end, or what was taken in is lost: when
    /// `stop` has rung that is after one write to a file. Nothing is taken in for as long as whoever sends it `may_wait`, of which
    /// so many bytes are held.
    ///
    /// # Errors
    /// As [`begin`](Self::begin), and when more than `most` bytes are held.
    pub async fn fill(
        &mut self,
        store: &Store,
        memory: u64,
        most: u64,
        stop: &Notify,
        may_wait: impl Fn(u64) -> bool,
    ) -> Result<(), BufferError> {
        let held = self.held();
        let mut arriving = Arriving::new(store, memory);
        'filling: loop {
            while may_wait(held + arriving.len()) {
                tokio::select! {
                    biased;
                    () = stop.notified() => break 'filling,
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
            let next = tokio::select! {
                biased;
                () = stop.notified() => break,
                next = self.next() => next?,
            };
            let Some(chunk) = next else {
                break;
            };
            if held + arriving.len() + chunk.len() as u64 > most {
                return Err(BufferError::TooLarge(most));
            }
            arriving.push(chunk).await?;
        }
        self.hold(arriving).await
    }

    async fn hold(&mut self, arriving: Arriving<'_>) -> Result<(), BufferError> {
        let held = arriving.finish().await?;
        if !held.is_empty() {
            self.held.push_back(held);
        }
        Ok(())
    }

    /// The next bytes.
    async fn next(&mut self) -> Result<Option<Bytes>, BufferError> {
        loop {
            let Some(source) = &mut self.source else {
                return Ok(None);
            };
            let frame = match self.patience {
                None => source.frame().await,
                Some(patience) => tokio::time::timeout(patience, source.frame())
                    .await
                    .map_err(|_| BufferError::Stalled(patience))?,
            };
            match frame.transpose()?.map(Frame::into_data) {
                None => self.source = None,
                // An empty one says nothing, and trailers are nobody's.
                Some(Ok(chunk)) if !chunk.is_empty() => {
                    if source.is_end_stream() {
                        self.source = None;
                    }
                    return Ok(Some(chunk));
                }
                Some(_) => {}
            }
        }
    }

    /// The same, whose rest comes from what is made of where it comes from.
    #[must_use]
    pub fn over(mut self, other: impl FnOnce(Source) -> Source) -> Self {
        self.source = self.source.map(other);
        self
    }

    /// All of it, if all has come and is in one piece.
    pub fn complete(&self) -> Option<Buffered> {
        match (&self.source, self.held.len()) {
            (None, 0) => Some(Buffered::default()),
            (None, 1) => self.held.front().cloned(),
            _ => None,
        }
    }

    /// To be sent.
    pub fn flow(self) -> Flow {
        Flow(Arc::new(Mutex::new(State {
            inflow: Some(self),
            reading: None,
            begun: false,
            shut: false,
            over: false,
            failed: None,
            timer: None,
            gathered: Gathered::default(),
            waiting: None,
            kept: None,
        })))
    }
}

/// What was handed on, for as long as whoever gets it may not have looked at it.
struct Kept {
    handed_on: VecDeque<Buffered>,
    store: Store,
}

impl Kept {
    fn push(&mut self, piece: &Bytes) {
        let piece = Buffered::of_piece(piece.clone(), &self.store);
        self.handed_on.push_back(piece);
    }
}

struct State {
    /// `None` once it was taken back.
    inflow: Option<Inflow>,
    /// The part of what is held that is being read.
    reading: Option<BufferedBody>,
    /// Whether a piece was taken.
    begun: bool,
    /// Whether whoever is to get it has still to say that it wants it.
    shut: bool,
    over: bool,
    failed: Option<FlowFailed>,
    timer: Option<Pin<Box<Sleep>>>,
    gathered: Gathered,
    waiting: Option<Waker>,
    /// What comes again if it is taken back.
    kept: Option<Kept>,
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if self.shut {
                self.waiting = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let Some(inflow) = &mut self.inflow else {
                return Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into())));
            };
            if self.reading.is_none() {
                let held = inflow.held.pop_front();
                if let (Some(kept), Some(held)) = (&mut self.kept, &held) {
                    kept.handed_on.push_back(held.clone());
                }
                self.reading = held.map(|held| held.body());
            }
            if let Some(reading) = &mut self.reading {
                match std::task::ready!(Pin::new(reading).poll_frame(cx)) {
                    Some(Ok(frame)) => {
                        if let Ok(chunk) = frame.into_data() {
                            self.begun = true;
                            return Poll::Ready(Some(Ok(chunk)));
                        }
                    }
                    Some(Err(error)) => return self.fail(FlowFailed::Broken, error),
                    None => self.reading = None,
                }
                continue;
            }
            return self.poll_source(cx);
        }
    }

    /// What the source brings: of large pieces those together that come at once.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.gathered.length == 0 && !self.gathered.pieces.is_empty() {
            return Poll::Ready(self.gathered.pop().map(Ok));
        }
        loop {
            if self.gathered.turn.is_some() {
                std::task::ready!(self.gathered.poll_turn(cx));
            }
            let waits = self.gather(cx).is_pending();
            if self.gathered.pieces.is_empty() {
                return match self.gathered.error.take() {
                    Some(error) => self.fail(FlowFailed::Broken, error),
                    None if waits => self.poll_stalled(cx),
                    None => {
                        self.over = true;
                        Poll::Ready(None)
                    }
                };
            }
            if !waits || !self.gathered.may_grow() {
                return Poll::Ready(self.gathered.pop().map(Ok));
            }
            self.gathered.before = self.gathered.length;
            std::task::ready!(self.gathered.poll_turn(cx));
        }
    }

    /// Takes what the source has now. Pending if more may come, ready if there is enough, or no more.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(inflow) = &mut self.inflow else {
            return Poll::Ready(());
        };
        while self.gathered.length < TOGETHER && self.gathered.error.is_none() {
            let Some(source) = &mut inflow.source else {
                break;
            };
            let frame = std::task::ready!(source.as_mut().poll_frame(cx));
            self.timer = None;
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(piece))) if !piece.is_empty() => {
                    self.begun = true;
                    if let Some(kept) = &mut self.kept {
                        kept.push(&piece);
                    }
                    self.gathered.push(piece);
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    self.gathered.error = Some(io::Error::other(error.to_string()));
                }
                None => inflow.source = None,
            }
        }
        Poll::Ready(())
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let patience = self.inflow.as_ref().and_then(|inflow| inflow.patience);
        let Some(patience) = patience else {
            return Poll::Pending;
        };
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        std::task::ready!(timer.as_mut().poll(cx));
        self.fail(FlowFailed::Stalled, io::ErrorKind::TimedOut.into())
    }

    fn fail(&mut self, why: FlowFailed, error: io::Error) -> Poll<Option<io::Result<Bytes>>> {
        self.failed = Some(why);
        Poll::Ready(Some(Err(error)))
    }
}

/// A body on its way to whoever takes it: what was held of it, then the rest as it comes, as fast as it is taken. All clones are
/// the same.
#[derive(Clone)]
pub struct Flow(Arc<Mutex<State>>);

impl Flow {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is handed on before [`open`](Self::open): whoever gets it may refuse it, and others are to have it whole.
    pub fn shut(&self) {
        self.lock().shut = true;
    }

    /// It is wanted.
    pub fn open(&self) {
        let waker = {
            let mut state = self.lock();
            state.shut = false;
            state.waiting.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Until it is [taken for good](Self::taken), it can be taken back whole, whatever was handed on.
    pub fn keep(&self, store: &Store) {
        self.lock().kept = Some(Kept {
            handed_on: VecDeque::new(),
            store: store.clone(),
        });
    }

    /// Whoever has got it does not give it back.
    pub fn taken(&self) {
        self.lock().kept = None;
    }

    /// Takes it away from whoever it was for, who has had nothing of it, or nothing that is not kept. `None` otherwise.
    pub fn take_back(&self) -> Option<Inflow> {
        let mut state = self.lock();
        // Whoever asked the source again could take what has come for all of it.
        if state.gathered.error.is_some() {
            return None;
        }
        let mut inflow = match (&state.kept, state.begun) {
            (None, true) => return None,
            _ => state.inflow.take()?,
        };
        state.reading = None;
        // What of them is kept is handed on again.
        state.gathered = Gathered::default();
        if let Some(kept) = state.kept.take() {
            for held in kept.handed_on.into_iter().rev() {
                inflow.held.push_front(held);
            }
        }
        Some(inflow)
    }

    /// Whether something of it was taken: then it cannot be sent again.
    pub fn has_begun(&self) -> bool {
        self.lock().begun
    }

    /// Whether all of it was taken.
    pub fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Why it did not come to its end, if it is known not to.
    pub fn failed(&self) -> Option<FlowFailed> {
        self.lock().failed
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let polled = self.lock().poll(cx);
        polled.map(|next| next.map(|chunk| chunk.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        let state = self.lock();
        state.inflow.as_ref().is_some_and(|inflow| {
            let source = inflow.source.as_ref();
            state.reading.is_none()
                && state.gathered.is_empty()
                && inflow.held.is_empty()
                && source.map_or(true, |source| source.is_end_stream())
        })
    }
}
