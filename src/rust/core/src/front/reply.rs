//! The body of a response to a client, and the record that ends with it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::HeaderMap;

use super::record::Record;
use crate::body::{Abort, FileBody, SpoolProgress, SpoolReader};

enum Kind {
    Empty,
    Whole(Bytes),
    Chunks(VecDeque<Bytes>, u64, Option<HeaderMap>),
    Spool(SpoolReader),
    File(FileBody),
    /// Broken off; the connection is closed next.
    Broken(Abort),
}

/// A response body. When it is dropped, sent or not, its request is over: that is when it is logged.
pub struct Reply {
    kind: Kind,
    record: Option<Box<Record>>,
}

impl Reply {
    pub fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    pub fn whole(body: Bytes) -> Self {
        Self::of(if body.is_empty() {
            Kind::Empty
        } else {
            Kind::Whole(body)
        })
    }

    /// A body that has arrived completely.
    pub fn chunks(chunks: VecDeque<Bytes>, trailers: Option<HeaderMap>) -> Self {
        match (chunks.len(), &trailers) {
            (0, None) => Self::empty(),
            _ => {
                let length = chunks.iter().map(|chunk| chunk.len() as u64).sum();
                Self::of(Kind::Chunks(chunks, length, trailers))
            }
        }
    }

    pub fn spool(reader: SpoolReader) -> Self {
        Self::of(Kind::Spool(reader))
    }

    pub fn file(file: FileBody) -> Self {
        Self::of(Kind::File(file))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, record: None }
    }

    /// Whether it is still on its way from a worker.
    pub fn is_coming(&self) -> bool {
        matches!(self.kind, Kind::Spool(_))
    }

    /// How far the worker is, of one that is still on its way.
    pub fn progress(&self) -> Option<SpoolProgress> {
        match &self.kind {
            Kind::Spool(reader) => Some(reader.progress()),
            _ => None,
        }
    }

    /// Ties the record of its request to this body.
    pub fn recorded(mut self, record: Box<Record>) -> Self {
        self.record = Some(record);
        self
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Abort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let this = &mut *self;
        let frame = match &mut this.kind {
            Kind::Empty => None,
            Kind::Whole(body) => {
                let body = std::mem::take(body);
                this.kind = Kind::Empty;
                Some(Ok(Frame::data(body)))
            }
            Kind::Chunks(chunks, length, trailers) => match chunks.pop_front() {
                Some(chunk) => {
                    *length -= chunk.len() as u64;
                    Some(Ok(Frame::data(chunk)))
                }
                None => trailers.take().map(|map| Ok(Frame::trailers(map))),
            },
            Kind::Spool(reader) => std::task::ready!(Pin::new(reader).poll_frame(cx)),
            Kind::File(file) => std::task::ready!(Pin::new(file).poll_frame(cx)),
            Kind::Broken(abort) => Some(Err(*abort)),
        };
        if let (Some(Err(abort)), Kind::Spool(_) | Kind::File(_)) = (&frame, &this.kind) {
            // On an error hyper drops what it has not yet written, maybe even the head, and
            // the client would see a bare closed connection: let it write first.
            this.kind = Kind::Broken(*abort);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(record) = &mut this.record {
            match &frame {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        record.sent(data.len());
                    }
                }
                Some(Err(abort)) => record.aborted(*abort),
                None => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::File(file) => file.is_end_stream(),
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Kind::Chunks(_, length, _) => SizeHint::with_exact(*length),
            Kind::Spool(reader) => reader.size_hint(),
            Kind::File(file) => file.size_hint(),
            Kind::Broken(_) => SizeHint::default(),
        }
    }
}
