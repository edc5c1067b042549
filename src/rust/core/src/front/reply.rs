//! The body of a response to a client, and the record that ends with it.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::HeaderMap;

use super::departure::Progress;
use super::direct::KeptProgress;
use super::record::Record;
use crate::body::{Abort, FileBody, Pieces, SpoolReader};
use crate::clock::coarse_millis;

/// What is offered to a client of HTTP/2 at a time, in bytes. hyper asks for the next piece when h2 has room for it in the
/// client's window, so this much a client has to take in `idle_timeout`; and so much of a stream stays in h2's buffers
/// when its client takes no more.
const PIECE: usize = 16 * 1024;

/// A client that took longer than that for a piece, in milliseconds, is offered smaller ones.
const SLOW: u64 = 5000;
const SMALL_PIECE: usize = 1024;

/// A body of any kind.
type Within = Pin<Box<dyn Body<Data = Bytes, Error = Abort> + Send>>;

fn look_at(body: &Mutex<Within>) -> MutexGuard<'_, Within> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

enum Kind {
    Empty,
    Whole(Bytes),
    Pieces(Box<Pieces>, Option<HeaderMap>),
    Spool(SpoolReader),
    File(FileBody),
    /// Written in this process. Never contended: the lock makes it one that threads may share.
    Within(Mutex<Within>),
    /// The same on its way from a worker, and how far it is.
    Coming(Mutex<Within>, KeptProgress),
    /// The answer to a request of our own, with a record of its own.
    Nested(Box<Reply>),
    /// Broken off; the connection is closed next.
    Broken(Abort),
}

/// A response body. When it is dropped, sent or not, its request is over: that is when it is logged.
pub struct Reply {
    kind: Kind,
    record: Option<Box<Record>>,
    /// If it goes out in pieces, each of which has its time.
    pace: Option<Pace>,
}

/// A response over HTTP/2.
struct Pace {
    piece: usize,
    /// Taken from the body, but not yet offered.
    rest: Bytes,
}

impl Pace {
    fn new() -> Self {
        Self {
            piece: PIECE,
            rest: Bytes::new(),
        }
    }

    fn cut(&mut self, mut data: Bytes) -> Frame<Bytes> {
        if data.len() > self.piece {
            self.rest = data.split_off(self.piece);
        }
        Frame::data(data)
    }

    /// The next piece of what was taken from the body before.
    fn next(&mut self) -> Option<Frame<Bytes>> {
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then(|| self.cut(rest))
    }
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
    pub fn pieces(pieces: Box<Pieces>, trailers: Option<HeaderMap>) -> Self {
        if pieces.is_empty() && trailers.is_none() {
            return Self::empty();
        }
        Self::of(Kind::Pieces(pieces, trailers))
    }

    pub fn spool(reader: SpoolReader) -> Self {
        Self::of(Kind::Spool(reader))
    }

    pub fn file(file: FileBody) -> Self {
        Self::of(Kind::File(file))
    }

    /// What somebody in this process writes, as fast as the client takes it.
    pub fn within(body: impl Body<Data = Bytes, Error = Abort> + Send + 'static) -> Self {
        Self::of(if body.is_end_stream() {
            Kind::Empty
        } else {
            Kind::Within(Mutex::new(Box::pin(body)))
        })
    }

    /// The same of what a worker writes.
    pub fn coming(
        body: impl Body<Data = Bytes, Error = Abort> + Send + 'static,
        progress: KeptProgress,
    ) -> Self {
        Self::of(Kind::Coming(Mutex::new(Box::pin(body)), progress))
    }

    /// The answer to a request that this server has made of itself.
    pub fn nested(reply: Reply) -> Self {
        Self::of(Kind::Nested(Box::new(reply)))
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            record: None,
            pace: None,
        }
    }

    /// All of it, if it is there in one piece: then nothing is left here.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let bytes = match &mut self.kind {
            Kind::Empty => Bytes::new(),
            Kind::Whole(bytes) => std::mem::take(bytes),
            _ => return None,
        };
        self.kind = Kind::Empty;
        if let Some(record) = &mut self.record {
            record.sent(bytes.len());
        }
        Some(bytes)
    }

    /// Whether it is still on its way from a worker.
    pub fn is_coming(&self) -> bool {
        match &self.kind {
            Kind::Spool(_) | Kind::Coming(..) | Kind::Within(_) => true,
            Kind::Nested(reply) => reply.is_coming(),
            _ => false,
        }
    }

    /// How far the worker is, of one that is still on its way.
    pub fn progress(&self) -> Option<Progress> {
        match &self.kind {
            Kind::Spool(reader) => Some(Progress::Spool(reader.progress())),
            Kind::Coming(_, progress) => Some(Progress::Kept(progress.clone())),
            Kind::Nested(reply) => reply.progress(),
            _ => None,
        }
    }

    /// Ties the record of its request to this body. `paced`: it is one of many on its connection, whose client says of
    /// each how much it takes.
    pub fn recorded(mut self, record: Box<Record>, paced: bool) -> Self {
        self.record = Some(record);
        self.pace = paced.then(Pace::new);
        self
    }

    /// What was offered before has been taken.
    fn taken(&mut self) {
        if let (Some(pace), Some(record)) = (&mut self.pace, &self.record) {
            match record.offer(0) {
                0 => {}
                offered if coarse_millis() - offered > SLOW => pace.piece = SMALL_PIECE,
                _ => pace.piece = PIECE,
            }
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Abort>>> {
        let frame = match &mut self.kind {
            Kind::Empty => None,
            Kind::Whole(body) => {
                let body = std::mem::take(body);
                self.kind = Kind::Empty;
                Some(Ok(Frame::data(body)))
            }
            Kind::Pieces(pieces, trailers) => match pieces.pop() {
                Some(piece) => Some(Ok(Frame::data(piece))),
                None => trailers.take().map(|map| Ok(Frame::trailers(map))),
            },
            Kind::Spool(reader) => std::task::ready!(Pin::new(reader).poll_frame(cx)),
            Kind::File(file) => std::task::ready!(Pin::new(file).poll_frame(cx)),
            Kind::Within(body) | Kind::Coming(body, _) => {
                let body = body.get_mut().unwrap_or_else(PoisonError::into_inner);
                std::task::ready!(body.as_mut().poll_frame(cx))
            }
            Kind::Nested(reply) => std::task::ready!(Pin::new(reply.as_mut()).poll_frame(cx)),
            Kind::Broken(abort) => Some(Err(*abort)),
        };
        Poll::Ready(frame)
    }

    /// What was taken from the body, but not yet offered.
    fn rest(&self) -> usize {
        self.pace.as_ref().map_or(0, |pace| pace.rest.len())
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
        this.taken();
        let frame = match this.pace.as_mut().and_then(Pace::next) {
            Some(piece) => Some(Ok(piece)),
            None => match (std::task::ready!(this.poll_body(cx)), &mut this.pace) {
                (Some(Ok(frame)), Some(pace)) => Some(Ok(match frame.into_data() {
                    Ok(data) => pace.cut(data),
                    Err(trailers) => trailers,
                })),
                (frame, _) => frame,
            },
        };
        if let (Some(Err(abort)), Kind::Spool(_) | Kind::File(_) | Kind::Coming(..)) =
            (&frame, &this.kind)
        {
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
                        if this.pace.is_some() {
                            record.offer(coarse_millis());
                        }
                    }
                    if let Some(trailers) = frame.trailers_ref() {
                        record.note_trailers(trailers);
                    }
                }
                Some(Err(abort)) => record.aborted(*abort),
                None => record.ended(),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            _ if self.rest() > 0 => false,
            Kind::Empty => true,
            Kind::File(file) => file.is_end_stream(),
            Kind::Within(body) | Kind::Coming(body, _) => look_at(body).is_end_stream(),
            Kind::Nested(reply) => reply.is_end_stream(),
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest() as u64;
        let body = match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Whole(body) => SizeHint::with_exact(body.len() as u64),
            Kind::Pieces(pieces, _) => SizeHint::with_exact(pieces.len()),
            Kind::Spool(reader) => reader.size_hint(),
            Kind::File(file) => file.size_hint(),
            Kind::Within(body) | Kind::Coming(body, _) => look_at(body).size_hint(),
            Kind::Nested(reply) => reply.size_hint(),
            Kind::Broken(_) => SizeHint::default(),
        };
        match body.exact() {
            Some(length) => SizeHint::with_exact(length + rest),
            None => body,
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::body::{spool, Store};

    #[tokio::test]
    async fn only_what_is_there_in_one_piece_is_had_at_once() {
        let mut whole = Reply::whole(Bytes::from_static(b"all"));
        assert_eq!(whole.take_whole().expect("all of it"), "all");
        assert!(whole.is_end_stream());
        assert_eq!(Reply::empty().take_whole().expect("all of it"), "");

        let (writer, reader) = spool(&Store::default(), 10, None);
        writer.hand_over(Bytes::from_static(b"half"));
        let mut reply = Reply::spool(reader);
        assert_eq!(reply.take_whole(), None);
        writer.hand_over(Bytes::from_static(b" and half"));
        writer.finish(None);
        let rest = reply.collect().await;
        assert_eq!(rest.expect("complete").to_bytes(), "half and half");
    }
}
