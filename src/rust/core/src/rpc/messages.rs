//! The messages of a client on their way: none is too large, and what is kept of one is counted.

use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use super::message_meter::MessageMeter;
use super::{status, LARGEST_MESSAGE};
use crate::body::{Charge, Store};
use crate::front::{Arriving, Cause};

/// The body of a call.
pub(super) struct Messages {
    body: Arriving,
    store: Store,
    meter: MessageMeter,
    /// For what is kept of a message that is not complete.
    charge: Option<Charge>,
}

impl Messages {
    pub(super) fn new(body: Arriving, store: Store) -> Self {
        Self {
            body,
            store,
            meter: MessageMeter::default(),
            charge: None,
        }
    }

    fn received(&mut self, data: &[u8]) -> Result<(), Status> {
        if let Some(length) = self.meter.take(data, LARGEST_MESSAGE) {
            return Err(Status::resource_exhausted(format!(
                "a message has {length} bytes, and may have {LARGEST_MESSAGE}"
            )));
        }
        self.charge = None;
        let held = self.meter.held();
        if held > 0 {
            if self.store.is_exhausted() {
                return Err(status::of_cause(Cause::Overloaded));
            }
            let mut charge = self.store.charge();
            charge.force(held as u64);
            self.charge = Some(charge);
        }
        Ok(())
    }
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            // Never `cancelled`, which is an end to tonic.
            let frame = frame.map_err(status::of_cause)?;
            if let Some(data) = frame.data_ref() {
                this.received(data)?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
