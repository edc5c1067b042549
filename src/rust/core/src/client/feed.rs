//! A request's body that is made while it is sent: pieces are put in at one end, and taken when there is room on the way.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

/// How much waits to be sent, in bytes: beyond it, whoever puts something in has to wait. One piece more may be there.
const WAITING: usize = 256 * 1024;

/// What has become of a piece.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered {
    Taken,
    /// There is no room yet. It is handed back.
    Full(Bytes),
    /// Nothing is sent any more.
    Closed,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    waiting: usize,
    /// What follows the last piece: the body's end, or why there is none.
    ended: Option<Result<(), String>>,
    /// The task that sends.
    sender: Option<Waker>,
    /// Whether nobody sends any more.
    closed: bool,
}

#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Told of each change, too, without a lock of this one's held.
    told: Mutex<Option<Box<dyn Fn() + Send>>>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.notify_all();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tell) = &*told {
            tell();
        }
    }

    /// From now on, `tell` is called when a piece was taken, or when none will be any more.
    pub(super) fn tell_by(&self, tell: impl Fn() + Send + 'static) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        *told = Some(Box::new(tell));
    }

    /// Whether a piece would not have to wait, be it that it would go nowhere.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        state.closed || state.waiting < WAITING
    }
}

/// Where pieces are put in. Dropped before its end is told, it breaks the request off.
pub struct Feed(Arc<Shared>);

/// Where they are taken.
pub struct FedBody(Arc<Shared>);

/// Both ends of a body.
pub fn feed() -> (Feed, FedBody) {
    let shared = Arc::<Shared>::default();
    (Feed(shared.clone()), FedBody(shared))
}

impl Feed {
    /// Puts a piece in; waits at most `patience` for room.
    pub fn put(&self, piece: Bytes, patience: Duration) -> Offered {
        let full = |state: &mut State| !state.closed && state.waiting >= WAITING;
        let state = self.0.lock();
        let (mut state, _) = self
            .0
            .changed
            .wait_timeout_while(state, patience, full)
            .unwrap_or_else(PoisonError::into_inner);
        if state.closed || state.ended.is_some() {
            return Offered::Closed;
        }
        if state.waiting >= WAITING {
            return Offered::Full(piece);
        }
        if piece.is_empty() {
            return Offered::Taken;
        }
        state.waiting += piece.len();
        state.pieces.push_back(piece);
        wake(state);
        Offered::Taken
    }

    /// Nothing more comes: the body is complete, or it cannot be completed and why. Only the first counts.
    pub fn end(&self, outcome: Result<(), String>) {
        let mut state = self.0.lock();
        state.ended.get_or_insert(outcome);
        wake(state);
    }

    /// Whether nothing is sent any more.
    pub fn is_closed(&self) -> bool {
        self.0.lock().closed
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let sender = state.sender.take();
    drop(state);
    if let Some(sender) = sender {
        sender.wake();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.end(Err("it was given up".into()));
    }
}

impl FedBody {
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// The next piece; `None` at the end.
    pub(super) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, String>>> {
        let mut state = self.0.lock();
        if let Some(piece) = state.pieces.pop_front() {
            state.waiting -= piece.len();
            drop(state);
            self.0.tell();
            return Poll::Ready(Some(Ok(piece)));
        }
        match &state.ended {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(why)) => Poll::Ready(Some(Err(why.clone()))),
            None => {
                state.sender = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for FedBody {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.pieces.clear();
        state.waiting = 0;
        drop(state);
        self.0.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_TIME: Duration = Duration::ZERO;

    struct Nobody;

    impl std::task::Wake for Nobody {
        fn wake(self: Arc<Self>) {}
    }

    fn taken(body: &FedBody) -> Poll<Option<Result<Bytes, String>>> {
        let waker = Arc::new(Nobody).into();
        body.poll_piece(&mut Context::from_waker(&waker))
    }

    #[test]
    fn pieces_come_in_order_then_the_end() {
        let (feed, body) = feed();
        assert_eq!(taken(&body), Poll::Pending);
        for piece in ["a", "", "b"] {
            assert_eq!(feed.put(piece.into(), NO_TIME), Offered::Taken);
        }
        feed.end(Ok(()));
        feed.end(Err("too late".into()));
        assert_eq!(feed.put("c".into(), NO_TIME), Offered::Closed);
        assert_eq!(taken(&body), Poll::Ready(Some(Ok("a".into()))));
        assert_eq!(taken(&body), Poll::Ready(Some(Ok("b".into()))));
        assert_eq!(taken(&body), Poll::Ready(None));
    }

    #[test]
    fn what_nobody_takes_waits_within_bounds() {
        let (feed, body) = feed();
        let shared = body.shared().clone();
        let piece = Bytes::from(vec![0; WAITING]);
        assert_eq!(feed.put(piece.clone(), NO_TIME), Offered::Taken);
        assert!(!shared.has_room());
        assert_eq!(feed.put(piece.clone(), NO_TIME), Offered::Full(piece));
        assert!(matches!(taken(&body), Poll::Ready(Some(Ok(_)))));
        assert!(shared.has_room());
        drop(body);
        assert!(feed.is_closed() && shared.has_room());
        assert_eq!(feed.put("a".into(), NO_TIME), Offered::Closed);
    }

    #[test]
    fn a_feed_that_is_dropped_is_no_end() {
        let (feed, body) = feed();
        drop(feed);
        assert!(matches!(taken(&body), Poll::Ready(Some(Err(_)))));
    }
}
