//! The answer of a service on its way to the client.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::body::Abort;
use crate::front::in_flight::InFlight;
use crate::front::reply::Reply;

/// A body that holds its call's lease until the service has answered.
pub(super) struct Answer {
    body: Incoming,
    /// Until the service has answered.
    in_flight: Option<InFlight>,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Dropped, it tells the call's input that nobody waits for the answer.
    _guard: oneshot::Sender<()>,
}

impl Answer {
    pub(super) fn new(
        body: Incoming,
        in_flight: InFlight,
        deadline: Option<Instant>,
        guard: oneshot::Sender<()>,
    ) -> Self {
        Self {
            body,
            in_flight: Some(in_flight),
            deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at))),
            _guard: guard,
        }
    }

    pub(super) fn into_reply(mut self) -> Reply {
        if self.body.is_end_stream() {
            self.served();
        }
        Reply::within(self)
    }

    fn served(&mut self) {
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.passed_through();
        }
    }

    /// It stopped in the middle: the lease is given back, as the service has given up the call.
    fn broken(&mut self, why: Abort) -> Option<Result<Frame<Bytes>, Abort>> {
        self.in_flight = None;
        Some(Err(why))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            let late = this.deadline.as_mut().map(|late| late.as_mut().poll(cx));
            return match late {
                Some(Poll::Ready(())) => Poll::Ready(this.broken(Abort::Timeout)),
                _ => Poll::Pending,
            };
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if frame.is_trailers() {
                    this.served();
                }
                Some(Ok(frame))
            }
            None if this.body.is_end_stream() => {
                this.served();
                None
            }
            // Reset by the service.
            None | Some(Err(_)) => this.broken(Abort::BrokenOff),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.left();
        }
    }
}
