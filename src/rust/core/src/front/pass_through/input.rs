//! A call's input on its way to the service.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::oneshot;

use crate::body::{BufferError, Flow, Inflow};
use crate::front::arriving::Arriving;
use crate::front::cause::Cause;
use crate::front::http2::WINDOW_OF_FRONTS;

/// What is sent at a time, in bytes: a frame.
const PIECE: usize = 16 * 1024;

/// So much may have been sent, in bytes, before an agent has refused a call: as much as it takes of what it does not read, and a
/// frame on either side of that.
const MOST_UNREAD: usize = WINDOW_OF_FRONTS as usize + 2 * PIECE;

/// What is known of an input besides its bytes.
#[derive(Default)]
struct Known {
    /// Whether its call waits for a worker: then nobody has to say anything.
    waits: AtomicBool,
    /// Why it has not come to its end, if it has not.
    broken: Mutex<Option<Cause>>,
}

/// The same, shared by those who send it and those who wait.
#[derive(Clone, Default)]
pub(super) struct Input(Arc<Known>);

impl Input {
    /// Its bytes. `patience`: how long none may come while a worker has the call.
    pub(super) fn of(body: Arriving, patience: Option<Duration>) -> (Self, Inflow) {
        let input = Self::default();
        let source = Source {
            body,
            patience,
            known: input.0.clone(),
        };
        (input, Inflow::new(Box::pin(source), None))
    }

    /// Whether its call waits for a worker.
    pub(super) fn set_waits(&self, waits: bool) {
        self.0.waits.store(waits, Ordering::Relaxed);
    }

    /// Why it has not come to its end, if it has not.
    pub(super) fn broken(&self) -> Option<Cause> {
        let broken = self.0.broken.lock();
        *broken.unwrap_or_else(PoisonError::into_inner)
    }
}

struct Source {
    body: Arriving,
    patience: Option<Duration>,
    known: Arc<Known>,
}

impl Body for Source {
    type Data = Bytes;
    type Error = BufferError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BufferError>>> {
        let this = &mut *self;
        let waits = this.known.waits.load(Ordering::Relaxed);
        this.body.set_patience(this.patience.filter(|_| !waits));
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            frame.map_err(|cause| {
                let broken = this.known.broken.lock();
                *broken.unwrap_or_else(PoisonError::into_inner) = Some(cause);
                BufferError::Broken(cause.explanation().to_owned())
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

/// The input as a worker gets it.
pub(super) struct Outgoing {
    flow: Flow,
    /// Taken from the flow, and still to be sent.
    rest: Bytes,
    sent: usize,
    /// Ends when nobody waits for the answer any more.
    left: oneshot::Receiver<()>,
}

impl Outgoing {
    /// `left` ends when nobody waits for the answer any more.
    pub(super) fn new(flow: Flow, left: oneshot::Receiver<()>) -> Self {
        Self {
            flow,
            rest: Bytes::new(),
            sent: 0,
            left,
        }
    }

    fn next_piece(&mut self) -> Bytes {
        let piece = self.rest.split_to(self.rest.len().min(PIECE));
        self.sent = self.sent.saturating_add(piece.len());
        piece
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if Pin::new(&mut self.left).poll(cx).is_ready() {
            // An error resets the stream, as an end would not.
            return Poll::Ready(Some(Err(io::Error::other("the client has left"))));
        }
        if self.sent > MOST_UNREAD {
            self.flow.taken();
        }
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.flow).poll_frame(cx)) {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                end => return Poll::Ready(end),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.next_piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.flow.is_end_stream()
    }
}
