//! A body that is passed on while it arrives: it has its time, and an end that is one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::cause::Cause;
use super::connection_state::{ConnectionState, Receiving};
use super::request_body::RequestBody;

/// Resolves to why a client is not waited for any longer.
type Waiting = Pin<Box<dyn Future<Output = Cause> + Send>>;

const BROKEN_OFF: Cause = Cause::BadRequest("the request's body broke off");

/// The body of a request of HTTP/2.
pub struct Arriving {
    body: RequestBody,
    connection: Arc<ConnectionState>,
    /// Until it has come to its end.
    receiving: Option<Receiving<Arc<ConnectionState>>>,
    /// How long nothing may come.
    patience: Option<Duration>,
    /// While nothing comes.
    waiting: Option<Waiting>,
}

impl Arriving {
    pub fn new(
        body: RequestBody,
        connection: Arc<ConnectionState>,
        patience: Option<Duration>,
    ) -> Self {
        Self {
            receiving: (!body.is_end_stream()).then(|| connection.receive_shared()),
            body,
            connection,
            patience,
            waiting: None,
        }
    }

    /// How long nothing may come from now on.
    pub fn set_patience(&mut self, patience: Option<Duration>) {
        if self.patience != patience {
            self.patience = patience;
            self.waiting = None;
        }
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Cause> {
        let waiting = self.waiting.get_or_insert_with(|| {
            let (connection, patience) = (self.connection.clone(), self.patience);
            Box::pin(async move {
                let stalled = async {
                    match patience {
                        Some(patience) => tokio::time::sleep(patience).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = stalled => Cause::BodyTimeout,
                    () = connection.evicted() => Cause::TooManyConnections,
                }
            })
        });
        waiting.as_mut().poll(cx)
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            let cause = ready!(this.poll_waiting(cx));
            return Poll::Ready(Some(Err(cause)));
        };
        this.waiting = None;
        Poll::Ready(match frame {
            None => {
                this.receiving = None;
                None
            }
            Some(Err(error)) if error.is_departure() => Some(Err(BROKEN_OFF)),
            Some(Err(_)) => Some(Err(Cause::BadRequest(
                "the request's body is not valid HTTP",
            ))),
            Some(Ok(frame)) => {
                if let (Some(data), Some(receiving)) = (frame.data_ref(), &this.receiving) {
                    receiving.received(data.len());
                }
                Some(Ok(frame))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
