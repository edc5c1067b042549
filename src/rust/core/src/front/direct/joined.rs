//! Bytes that come from somewhere else than the word that they are complete.

use std::future::Future;
use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::Sleep;

use crate::body::Abort;
use crate::front::reply::Reply;

/// How long the control may take, once the bytes have broken off, to say whose fault that is.
const VERDICT: Duration = Duration::from_secs(5);

/// A body whose bytes are one body's, and whose end is that of both: `control` has no bytes, and breaks off when it is not to go on.
pub struct Joined<C> {
    bytes: Reply,
    /// How they have ended.
    ended: Option<Result<(), Abort>>,
    /// `None` once it has ended well.
    control: Option<C>,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<C> Joined<C> {
    pub fn new(bytes: Reply, control: C) -> Self {
        Self {
            bytes,
            ended: None,
            control: Some(control),
            waiting: None,
        }
    }

    /// The bytes could not be had.
    pub fn without_bytes(control: C) -> Self {
        Self {
            ended: Some(Err(Abort::BrokenOff)),
            ..Self::new(Reply::empty(), control)
        }
    }

    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        while self.ended.is_none() {
            match ready!(Pin::new(&mut self.bytes).poll_frame(cx)) {
                None => self.ended = Some(Ok(())),
                Some(Err(why)) => self.ended = Some(Err(why)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Some(data)),
                    // Trailers are nobody's.
                    _ => {}
                },
            }
        }
        // Whoever has them learns that no more is wanted.
        self.bytes = Reply::empty();
        Poll::Ready(None)
    }
}

/// What a control says: nothing yet, its end, or that it breaks off.
///
/// # Errors
/// It breaks off, or has bytes, and so is none.
pub fn poll_control<C>(control: &mut C, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>>
where
    C: Body<Data = Bytes> + Unpin,
    C::Error: From<Abort>,
{
    loop {
        match ready!(Pin::new(&mut *control).poll_frame(cx)) {
            None => return Poll::Ready(Ok(())),
            Some(Err(why)) => return Poll::Ready(Err(why)),
            Some(Ok(frame)) if frame.data_ref().is_some_and(|data| !data.is_empty()) => {
                return Poll::Ready(Err(Abort::BrokenOff.into()));
            }
            Some(Ok(_)) => {}
        }
    }
}

impl<C> Body for Joined<C>
where
    C: Body<Data = Bytes> + Unpin,
    C::Error: From<Abort>,
{
    type Data = Bytes;
    type Error = C::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, C::Error>>> {
        let this = &mut *self;
        if let Some(control) = &mut this.control {
            match poll_control(control, cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => this.control = None,
                Poll::Ready(Err(why)) => return Poll::Ready(Some(Err(why))),
            }
        }
        if let Some(data) = ready!(this.poll_bytes(cx)) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match (this.ended, &this.control) {
            (Some(Err(why)), None) => Poll::Ready(Some(Err(why.into()))),
            (Some(Err(why)), Some(_)) => {
                let wait = || Box::pin(tokio::time::sleep(VERDICT));
                ready!(this.waiting.get_or_insert_with(wait).as_mut().poll(cx));
                Poll::Ready(Some(Err(why.into())))
            }
            (_, None) => Poll::Ready(None),
            // Who has sent the bytes has still to say that they are all.
            (_, Some(_)) => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::body::{spool, SpoolWriter, Store};

    struct Both {
        bytes: SpoolWriter,
        control: SpoolWriter,
        joined: Joined<Reply>,
    }

    fn both() -> Both {
        let pipe = || spool(&Store::default(), 100, None);
        let ((bytes, from), (control, word)) = (pipe(), pipe());
        let joined = Joined::new(Reply::spool(from), Reply::spool(word));
        Both {
            bytes,
            control,
            joined,
        }
    }

    #[tokio::test]
    async fn it_ends_with_both_in_any_order() {
        for control_first in [true, false] {
            let Both {
                bytes,
                control,
                joined,
            } = both();
            bytes.hand_over(Bytes::from_static(b"text"));
            let reading = tokio::spawn(joined.collect());
            let finish = [bytes, control];
            let order = if control_first { [1, 0] } else { [0, 1] };
            let mut writers = finish.map(Some);
            for at in order {
                assert!(!reading.is_finished());
                writers[at].take().expect("once").finish(None);
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            }
            let text = reading.await.expect("no panic").expect("complete");
            assert_eq!(text.to_bytes(), "text");
        }
    }

    #[tokio::test]
    async fn a_control_that_breaks_off_breaks_it_off_though_the_bytes_have_ended() {
        let both = both();
        both.bytes.finish(None);
        both.control.abort(Abort::WorkerDied);
        assert_eq!(both.joined.collect().await.err(), Some(Abort::WorkerDied));
    }

    #[tokio::test(start_paused = true)]
    async fn of_bytes_that_break_off_the_control_says_why_if_it_does_in_time() {
        let one = both();
        one.bytes.abort(Abort::BrokenOff);
        let reading = tokio::spawn(one.joined.collect());
        tokio::time::sleep(VERDICT / 2).await;
        one.control.abort(Abort::Timeout);
        let why = reading.await.expect("no panic").err();
        assert_eq!(why, Some(Abort::Timeout));

        let two = both();
        two.bytes.abort(Abort::BrokenOff);
        assert_eq!(two.joined.collect().await.err(), Some(Abort::BrokenOff));
        drop(two.control);

        // Its end is no word for them.
        let three = both();
        three.control.finish(None);
        three.bytes.abort(Abort::BrokenOff);
        assert_eq!(three.joined.collect().await.err(), Some(Abort::BrokenOff));
    }

    #[tokio::test]
    async fn a_control_with_bytes_is_none() {
        let both = both();
        both.control.hand_over(Bytes::from_static(b"x"));
        both.control.finish(None);
        both.bytes.finish(None);
        assert_eq!(both.joined.collect().await.err(), Some(Abort::BrokenOff));
    }
}
