//! A client's bytes on their way to and from hyper.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::cause::Cause;
use super::connection_state::Phase;
use super::listener::Entered;
use super::offer::WITHDRAWAL;
use super::raw_head::RawHead;
use super::service::Peer;
use crate::body::Charge;
use crate::client_stream::ClientStream;
use crate::heads::INLINE_HEADERS;

/// Up to here, in bytes, copying the pieces of a response together is cheaper than telling the
/// kernel of each.
pub(super) const JOINED: usize = 2048;

pub(super) fn join<'a>(bufs: &[io::IoSlice<'_>], joined: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut len = 0;
    for buf in bufs {
        joined.get_mut(len..len + buf.len())?.copy_from_slice(buf);
        len += buf.len();
    }
    Some(&joined[..len])
}

/// Up to here, in bytes, what arrives of a head is not charged to the memory for bodies: nearly none is longer.
const SHORT_HEAD: usize = 8 * 1024;

/// After how long without a word the system asks whether a tunnel's client is there, how often, and how many times. One that
/// has vanished without a word would keep its session for ever.
const QUIET: Duration = Duration::from_secs(60);
const PROBES: Duration = Duration::from_secs(15);
const RETRIES: u32 = 4;

fn watch(stream: &ClientStream) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(QUIET)
        .with_interval(PROBES)
        .with_retries(RETRIES);
    // Without them such a tunnel ends later.
    let _ = socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// A client's connection.
///
/// Besides moving bytes it does what can only be done here: it tells the [`ConnectionState`] of progress, and
/// it gives the rejections that hyper writes by itself (always while a head arrives) faucet's form.
pub struct ClientIo {
    stream: Arc<ClientStream>,
    peer: Arc<Peer>,
    head: Arc<RawHead>,
    /// Whether hyper has room for as many headers as it ever will.
    roomy: bool,
    /// Read already, but not yet understood, when the connection became quiet.
    unread: Bytes,
    /// What is left of a rejection that replaces hyper's.
    rejection: Option<(Vec<u8>, usize)>,
    /// What has arrived since the last request was complete, and what is charged for it.
    arrived: usize,
    charge: Option<Charge>,
    /// It is a tunnel, and the system looks whether its other side is there.
    watched: bool,
    /// It counts as a connection until it is closed, also as a tunnel.
    _entered: Entered,
}

impl ClientIo {
    pub fn new(
        (stream, entered): (Arc<ClientStream>, Entered),
        peer: Arc<Peer>,
        head: Arc<RawHead>,
    ) -> Self {
        Self {
            stream,
            peer,
            head,
            roomy: false,
            unread: Bytes::new(),
            rejection: None,
            arrived: 0,
            charge: None,
            watched: false,
            _entered: entered,
        }
    }

    /// Puts bytes back, to be read first.
    pub fn unread(&mut self, bytes: Bytes) {
        if bytes.is_empty() && self.unread.is_empty() {
            self.head_is_complete();
        }
        self.unread = if self.unread.is_empty() {
            bytes
        } else {
            [bytes, std::mem::take(&mut self.unread)].concat().into()
        };
    }

    /// From now on hyper has room for as many headers as it ever will.
    pub fn make_room(&mut self) {
        self.roomy = true;
    }

    pub fn is_roomy(&self) -> bool {
        self.roomy
    }

    fn head_is_complete(&mut self) {
        self.arrived = 0;
        self.charge = None;
    }

    /// More of a head has arrived. A long one is charged, with the copy that [`RawHead`] has; whether there is memory for
    /// that.
    fn head_grows(&mut self, more: usize) -> bool {
        self.arrived += more;
        if self.arrived <= SHORT_HEAD {
            return true;
        }
        let store = &self.peer.front.store;
        if store.is_exhausted() {
            return false;
        }
        let charge = self.charge.get_or_insert_with(|| store.charge());
        charge.force(2 * more as u64);
        true
    }

    /// Whether the socket has something new: bytes, or the end.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error is found again by whoever reads.
        self.stream.poll_read_ready(cx).map(|_| ())
    }

    /// Says goodbye to a client whose head is not read to its end, as far as its socket takes it at once.
    pub fn reject_now(&self, cause: Cause) {
        // In the middle of the answer before, it would be taken for a part of that.
        if self.peer.connection.is_sending() {
            return;
        }
        // The connection is closed either way.
        let _ = self.stream.try_write(&self.peer.reject(cause));
    }

    /// Takes the connection back while nothing is asked on it, as far as its socket takes that at once.
    pub fn withdraw(&self) {
        let _ = self.stream.try_write(WITHDRAWAL);
    }

    fn note_write<T>(&self, polled: &Poll<T>) {
        match polled {
            Poll::Pending => self.peer.connection.write_stalled(),
            Poll::Ready(_) => self.peer.connection.write_moved(),
        }
    }

    /// Sends faucet's rejection in place of hyper's, whose bytes are reported as written.
    fn poll_rejection(
        &mut self,
        cx: &mut Context<'_>,
        hypers: &[u8],
        len: usize,
    ) -> Poll<io::Result<usize>> {
        let (peer, head) = (&self.peer, &self.head);
        if self.rejection.is_none() {
            let cause = Cause::of_rejected_head(status_of(hypers));
            if cause == Cause::HeaderTooLarge && !self.roomy && head.crowds(INLINE_HEADERS) {
                // Whoever polls hyper asks the head.
                return Poll::Pending;
            }
        }
        let (bytes, sent) = self.rejection.get_or_insert_with(|| {
            let cause = if head.has_endless_body() {
                Cause::BodyTooLarge
            } else {
                Cause::of_rejected_head(status_of(hypers))
            };
            (peer.reject(cause), peer.connection.departure.take_ahead())
        });
        while *sent < bytes.len() {
            *sent += ready!(self.stream.poll_write_shared(cx, &bytes[*sent..]))?;
        }
        Poll::Ready(Ok(len))
    }

    /// Whether hyper writes its own rejection of a head: when no request is being served and every
    /// response has been written, it has nothing else to say. In a tunnel it has no say.
    fn rejects(&self, bytes: &[u8]) -> bool {
        let phase = self.peer.connection.phase();
        phase != Phase::Tunnel
            && (self.rejection.is_some()
                || (phase != Phase::Busy
                    && self.peer.connection.is_flushed()
                    && bytes.starts_with(b"HTTP/1.")))
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let fresh = self.unread.is_empty();
        let polled = if fresh {
            match self.stream.poll_read_shared(cx, buf) {
                // Of TLS: some clients just close. What is cut off shows, as a request says where it ends.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    Poll::Ready(Ok(()))
                }
                polled => polled,
            }
        } else {
            let length = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(length));
            Poll::Ready(Ok(()))
        };
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            let more = read.len();
            let phase = self.peer.connection.phase();
            if fresh && phase != Phase::Tunnel {
                self.head.append(read);
            } else if fresh && !self.watched {
                self.watched = true;
                watch(&self.stream);
            }
            self.peer.connection.bytes_read();
            if phase != Phase::Head {
                self.head_is_complete();
            }
            let in_head = matches!(phase, Phase::Head | Phase::Idle);
            if fresh && in_head && !self.head_grows(more) {
                self.reject_now(Cause::Overloaded);
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            }
        }
        polled
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.rejects(buf) {
            return self.poll_rejection(cx, buf, buf.len());
        }
        let departure = &self.peer.connection.departure;
        departure.writing();
        let ahead = departure.take_ahead();
        if ahead > 0 {
            return Poll::Ready(Ok(ahead.min(buf.len())));
        }
        let polled = self.stream.poll_write_shared(cx, buf);
        self.note_write(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(first) = bufs.first() else {
            return Poll::Ready(Ok(0));
        };
        if self.rejects(first) {
            let len = bufs.iter().map(|buf| buf.len()).sum();
            return self.poll_rejection(cx, first, len);
        }
        let departure = &self.peer.connection.departure;
        departure.writing();
        let ahead = departure.take_ahead();
        if ahead > 0 {
            return Poll::Ready(Ok(ahead.min(first.len())));
        }
        let polled = match bufs {
            [one] => self.stream.poll_write_shared(cx, one),
            _ => {
                let mut joined = [0u8; JOINED];
                match join(bufs, &mut joined) {
                    Some(joined) => self.stream.poll_write_shared(cx, joined),
                    None => self.stream.poll_write_vectored_shared(cx, bufs),
                }
            }
        };
        self.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Hyper asks for this when it has written all it had.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.stream.poll_flush_shared(cx);
        self.note_write(&polled);
        ready!(polled)?;
        self.peer.connection.flushed();
        self.peer.connection.departure.drained();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.stream.poll_shutdown_shared(cx);
        self.note_write(&polled);
        polled
    }
}

/// The status of hyper's own rejection.
fn status_of(rejection: &[u8]) -> u16 {
    let digits = rejection.get(9..12);
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(400)
}
