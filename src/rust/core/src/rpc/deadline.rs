//! The deadline of a call: `grpc-timeout` (gRPC over HTTP/2, "Requests").

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use hyper::{HeaderMap, Response};
use tokio::time::{Instant, Sleep};
use tonic::body::Body;
use tonic::Status;

use super::status;
use crate::front::{grpc_timeout, Cause};

/// Requests that a call becomes have their own deadline, and say more when they miss it than we can from here.
const GRACE: Duration = Duration::from_millis(250);

/// When a call is to be over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// Of a call that has just come; `None` if it has none.
    ///
    /// # Errors
    /// It is not written as it should be.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        match grpc_timeout(headers) {
            Ok(left) => Ok(left.map(|left| Self(Instant::now() + left))),
            Err(problem) => Err(Status::invalid_argument(problem)),
        }
    }

    pub(super) fn at(self) -> Instant {
        self.0
    }

    /// An answer that is there in time, and comes to its end in time.
    pub(super) async fn bound(
        self,
        answer: impl Future<Output = Response<Body>>,
    ) -> Response<Body> {
        let last = self.0 + GRACE;
        match tokio::time::timeout_at(last, answer).await {
            Err(_) => status::of_cause(Cause::Timeout).into_http(),
            Ok(response) => response.map(|body| match body.is_end_stream() {
                true => body,
                false => Body::new(Bound {
                    body: Some(body),
                    last: Box::pin(tokio::time::sleep_until(last)),
                }),
            }),
        }
    }
}

/// A body that ends with an error at its deadline.
struct Bound {
    /// Until it has ended.
    body: Option<Body>,
    last: Pin<Box<Sleep>>,
}

impl http_body::Body for Bound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        if polled.is_ready() {
            return polled;
        }
        if this.last.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        // Dropped, it leaves.
        this.body = None;
        let mut trailers = HeaderMap::new();
        let written = status::of_cause(Cause::Timeout).add_header(&mut trailers);
        Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().map_or(true, Body::is_end_stream)
    }
}
