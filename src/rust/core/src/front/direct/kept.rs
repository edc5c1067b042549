//! What a worker writes in answer to a request and waits here for whoever takes it, for as long as its control is held.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{ready, Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::body::{Abort, SpoolProgress};
use crate::front::one_time::Token;
use crate::front::reply::Reply;

/// How many may wait, at most; what is more is answered as if nobody had asked for it to be kept.
const MOST: usize = 1024;

struct State {
    /// `None` once it has ended.
    body: Option<Reply>,
    /// Of its worker.
    written: SpoolProgress,
    /// Whether somebody has it.
    taken: bool,
    /// Whether all of it was read as far as somebody wanted it, or why it broke off.
    end: Option<Result<(), Abort>>,
    control: Option<Waker>,
    taker: Option<Waker>,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// It has ended, unless it had before. Both who hold it learn of it, and so does the worker that writes it.
    fn end(&self, how: Result<(), Abort>) {
        let (body, wakers) = {
            let mut state = lock(&self.0);
            if state.end.is_some() {
                return;
            }
            state.end = Some(how);
            let wakers = [state.control.take(), state.taker.take()];
            (state.body.take(), wakers)
        };
        drop(body);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    fn progress(&self) -> KeptProgress {
        KeptProgress(Arc::downgrade(&self.0))
    }
}

/// Whether something that is kept has still to come to its end.
#[derive(Clone)]
pub struct KeptProgress(Weak<Mutex<State>>);

impl KeptProgress {
    pub fn is_open(&self) -> bool {
        let state = self.0.upgrade();
        state.is_some_and(|state| lock(&state).end.is_none())
    }
}

/// What waits.
#[derive(Default)]
pub struct Kept(Mutex<HashMap<Token, Shared>>);

impl Kept {
    fn lock(&self) -> MutexGuard<'_, HashMap<Token, Shared>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an answer's body, which is `written` by a worker, unless as many as may (`most`) wait already, or there are no random numbers. What is to be answered in
    /// its place, the control, and what it can be taken by; or the body as it was.
    pub fn keep(
        self: &Arc<Self>,
        body: Reply,
        written: SpoolProgress,
        most: usize,
    ) -> (Reply, Option<Token>) {
        let mut waiting = self.lock();
        if waiting.len() >= most.min(MOST) {
            return (body, None);
        }
        let Some(token) = Token::new() else {
            return (body, None);
        };
        let shared = Shared(Arc::new(Mutex::new(State {
            body: Some(body),
            written,
            taken: false,
            end: None,
            control: None,
            taker: None,
        })));
        waiting.insert(token, shared.clone());
        drop(waiting);
        let progress = shared.progress();
        let control = Control {
            token,
            kept: self.clone(),
            shared,
            over: false,
        };
        (Reply::coming(control, progress), Some(token))
    }

    /// What a token is for, once.
    pub fn take(&self, token: &Token) -> Option<Reply> {
        let shared = self.lock().remove(token)?;
        let control = {
            let mut state = lock(&shared.0);
            state.taken = true;
            state.control.take()
        };
        if let Some(control) = control {
            control.wake();
        }
        let progress = shared.progress();
        Some(Reply::coming(Taken(shared), progress))
    }
}

/// What says how its worker has ended with something that is kept. It comes to its own end once that was taken, by when the worker has
/// nothing to do with it any more. To drop it before is to drop what is kept.
struct Control {
    token: Token,
    kept: Arc<Kept>,
    shared: Shared,
    over: bool,
}

impl Control {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), Abort>> {
        let mut state = lock(&self.shared.0);
        if let Some(end) = state.end {
            return Poll::Ready(end);
        }
        state.control = Some(cx.waker().clone());
        match state.written.poll_end(cx) {
            Poll::Ready(Ok(())) if !state.taken => Poll::Pending,
            polled => polled,
        }
    }
}

impl Body for Control {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let end = ready!(self.poll(cx));
        self.over = end.is_ok();
        Poll::Ready(end.err().map(Err))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let waiting = self.kept.lock().remove(&self.token);
        drop(waiting);
        if !self.over {
            self.shared.end(Err(Abort::BrokenOff));
        }
    }
}

/// Something that was kept, for whoever has taken it. To drop it is to want no more of it, which is nobody's fault.
struct Taken(Shared);

impl Taken {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let mut state = lock(&self.0 .0);
        if let Some(end) = state.end {
            return Poll::Ready(end.err().map(Err));
        }
        state.taker = Some(cx.waker().clone());
        match &mut state.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(Some(Err(Abort::BrokenOff))),
        }
    }
}

impl Body for Taken {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let polled = self.poll(cx);
        match &polled {
            Poll::Ready(None) => self.0.end(Ok(())),
            Poll::Ready(Some(Err(why))) => self.0.end(Err(*why)),
            _ => {}
        }
        polled
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.end(Ok(()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::task::Wake;

    use http_body_util::BodyExt;

    use super::*;
    use crate::body::{spool, SpoolWriter, Store};

    /// Something that is kept, of which nothing has come: who writes it, its token and its control.
    fn one(kept: &Arc<Kept>) -> (SpoolWriter, Token, Reply) {
        let (writer, reader) = spool(&Store::default(), 100, None);
        let written = reader.progress();
        let (control, token) = kept.keep(Reply::spool(reader), written, 10);
        let token = token.expect("room");
        (writer, token, control)
    }

    fn is_pending(body: &mut Reply) -> bool {
        let mut context = Context::from_waker(waker());
        Pin::new(body).poll_frame(&mut context).is_pending()
    }

    fn waker() -> &'static Waker {
        struct Noop;
        impl Wake for Noop {
            fn wake(self: Arc<Self>) {}
        }
        static WAKER: OnceLock<Waker> = OnceLock::new();
        WAKER.get_or_init(|| Arc::new(Noop).into())
    }

    #[tokio::test]
    async fn the_control_ends_when_somebody_has_it_and_the_worker_is_done() {
        let kept = Arc::<Kept>::default();
        let (writer, token, mut control) = one(&kept);
        writer.hand_over(Bytes::from_static(b"text"));
        assert!(is_pending(&mut control));
        let progress = control.progress().expect("it is coming");
        let taken = kept.take(&token).expect("kept");
        assert!(kept.take(&token).is_none());
        assert!(is_pending(&mut control) && progress.is_open());
        writer.finish(None);
        assert!(!is_pending(&mut control));
        // The worker is free, and what it has written is still had.
        drop(control);
        assert_eq!(taken.collect().await.expect("all").to_bytes(), "text");
        assert!(!progress.is_open());
        // The same with one that is done before.
        let (writer, token, mut control) = one(&kept);
        writer.hand_over(Bytes::from_static(b"text"));
        writer.finish(None);
        assert!(is_pending(&mut control));
        let taken = kept.take(&token).expect("kept");
        assert_eq!(taken.collect().await.expect("all").to_bytes(), "text");
        assert!(control
            .collect()
            .await
            .expect("an end")
            .to_bytes()
            .is_empty());
    }

    #[tokio::test]
    async fn the_control_breaks_off_when_the_worker_does_taken_or_not() {
        let kept = Arc::<Kept>::default();
        for is_taken in [true, false] {
            let (writer, token, control) = one(&kept);
            let taken = is_taken.then(|| kept.take(&token).expect("kept"));
            let control = tokio::spawn(control.collect());
            tokio::task::yield_now().await;
            writer.abort(Abort::WorkerDied);
            let why = control.await.expect("no panic").err();
            assert_eq!(why, Some(Abort::WorkerDied));
            if let Some(taken) = taken {
                assert!(taken.collect().await.is_err());
            }
            assert!(kept.take(&token).is_none());
        }
        // Whoever reads has seen it, and has nothing of it any more, before the control is looked at.
        let (writer, token, control) = one(&kept);
        let mut taken = kept.take(&token).expect("kept");
        writer.abort(Abort::WorkerDied);
        drop(writer);
        assert!(is_pending(&mut taken));
        assert!(control.collect().await.is_err());
    }

    #[tokio::test]
    async fn whoever_drops_the_control_drops_the_bytes_taken_or_not() {
        let kept = Arc::<Kept>::default();
        let (writer, token, control) = one(&kept);
        drop(control);
        writer.left().await;
        assert!(kept.take(&token).is_none());
        let (writer, token, control) = one(&kept);
        let taken = kept.take(&token).expect("kept");
        drop(control);
        writer.left().await;
        assert_eq!(taken.collect().await.err(), Some(Abort::BrokenOff));
    }

    #[tokio::test]
    async fn that_whoever_took_them_has_left_is_no_failure() {
        let kept = Arc::<Kept>::default();
        let (writer, token, control) = one(&kept);
        drop(kept.take(&token));
        writer.left().await;
        assert!(control.collect().await.is_ok());
    }

    #[test]
    fn no_more_wait_than_may() {
        let kept = Arc::<Kept>::default();
        let (_writer, reader) = spool(&Store::default(), 1, None);
        let keep = || kept.keep(Reply::empty(), reader.progress(), 1);
        let (_control, token) = keep();
        assert!(keep().1.is_none());
        assert!(kept.take(&token.expect("room")).is_some());
        assert!(keep().1.is_some());
    }
}
