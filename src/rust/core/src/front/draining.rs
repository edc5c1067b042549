//! A body whose reader may stop before its end. Were the rest left unread, the connection would be reset, and the answer lost on its
//! way to a client that is still sending.

use std::pin::Pin;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::runtime::Handle;

use super::request_body::{RequestBody, RequestBodyError};

/// How long the rest is read for nothing, as nginx's `lingering_time`.
const LONGEST: Duration = Duration::from_secs(30);

/// How long nothing of it may come, as nginx's `lingering_timeout`.
const PATIENCE: Duration = Duration::from_secs(5);

/// A body that is read on when it is dropped, if its reading has begun: before that, whoever sends it may still be told not to.
pub struct Draining {
    /// `None` once it has ended, or broken off.
    body: Option<RequestBody>,
    begun: bool,
}

impl Draining {
    pub fn new(body: RequestBody) -> Self {
        Self {
            body: Some(body),
            begun: false,
        }
    }
}

impl Body for Draining {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        self.begun = true;
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().map_or(true, Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Draining {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else {
            return;
        };
        // A stage that is dropped learns that nobody reads it, and a stream of HTTP/2 is reset by itself.
        if !self.begun || body.is_end_stream() || !body.is_on_connection() {
            return;
        }
        // Outside a runtime (it is being shut down) the connection goes, too.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LONGEST, drain(body)));
        }
    }
}

async fn drain(mut body: RequestBody) {
    while let Ok(Some(Ok(_))) = tokio::time::timeout(PATIENCE, body.frame()).await {}
}
