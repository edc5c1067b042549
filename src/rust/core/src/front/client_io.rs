//! A client's bytes on their way to and from hyper.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::cause::Cause;
use super::listener::Entered;
use super::raw_head::RawHead;
use super::service::Peer;
use super::watch::Phase;
use crate::body::Charge;

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

/// A client's connection.
///
/// Besides moving bytes it does what can only be done here: it tells the [`Watch`] of progress, and
/// it gives the rejections that hyper writes by itself (always while a head arrives) faucet's form.
pub struct ClientIo {
    stream: TcpStream,
    peer: Arc<Peer>,
    head: Arc<RawHead>,
    max_header: usize,
    /// Read already, but not yet understood, when the connection became quiet.
    unread: Bytes,
    /// What is left of a rejection that replaces hyper's.
    rejection: Option<(Vec<u8>, usize)>,
    http1: bool,
    /// What has arrived since the last request was complete, and what is charged for it.
    arrived: usize,
    charge: Option<Charge>,
    /// It counts as a connection until it is closed, also as a tunnel.
    _entered: Entered,
}

impl ClientIo {
    pub fn new(
        (stream, entered): (TcpStream, Entered),
        peer: Arc<Peer>,
        head: Arc<RawHead>,
        max_header: usize,
        http1: bool,
    ) -> Self {
        Self {
            stream,
            peer,
            head,
            max_header,
            unread: Bytes::new(),
            rejection: None,
            http1,
            arrived: 0,
            charge: None,
            _entered: entered,
        }
    }

    /// Puts bytes back, to be read first.
    pub fn unread(&mut self, bytes: Bytes) {
        if bytes.is_empty() {
            self.head_is_complete();
        }
        self.unread = bytes;
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

    /// Says goodbye to a client whose head did not arrive in time, as far as its socket takes it at once.
    pub fn reject_now(&self, cause: Cause) {
        // The connection is closed either way.
        let _ = self.stream.try_write(&self.peer.reject(cause));
    }

    fn note_write(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Pending => self.peer.watch.write_stalled(),
            Poll::Ready(_) => self.peer.watch.write_moved(),
        }
    }

    /// Sends faucet's rejection in place of hyper's, whose bytes are reported as written.
    fn poll_rejection(
        &mut self,
        cx: &mut Context<'_>,
        hypers: &[u8],
        len: usize,
    ) -> Poll<io::Result<usize>> {
        let peer = &self.peer;
        let (bytes, sent) = self.rejection.get_or_insert_with(|| {
            let status = hypers
                .get(9..12)
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| digits.parse().ok())
                .unwrap_or(400);
            (peer.reject(Cause::of_rejected_head(status)), 0)
        });
        while *sent < bytes.len() {
            *sent += ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[*sent..]))?;
        }
        Poll::Ready(Ok(len))
    }

    /// Whether hyper writes its own rejection of a head: when no request is being served and every
    /// response has been written, it has nothing else to say.
    fn rejects(&self, bytes: &[u8]) -> bool {
        self.http1
            && (self.rejection.is_some()
                || (self.peer.watch.phase() != Phase::Busy
                    && self.peer.watch.is_flushed()
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
            Pin::new(&mut self.stream).poll_read(cx, buf)
        } else {
            let length = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(length));
            Poll::Ready(Ok(()))
        };
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            let more = read.len();
            let phase = self.peer.watch.phase();
            if self.http1 && fresh {
                let idle = phase == Phase::Idle;
                self.head.append(read, idle, self.max_header);
            }
            self.peer.watch.bytes_read();
            if phase != Phase::Head {
                self.head_is_complete();
            }
            let in_head = matches!(phase, Phase::Head | Phase::Idle);
            if self.http1 && fresh && in_head && !self.head_grows(more) {
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
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(first) = bufs.first() {
            if self.rejects(first) {
                let len = bufs.iter().map(|buf| buf.len()).sum();
                return self.poll_rejection(cx, first, len);
            }
        }
        let stream = Pin::new(&mut self.stream);
        let polled = match bufs {
            [one] => stream.poll_write(cx, one),
            _ => {
                let mut joined = [0u8; JOINED];
                match join(bufs, &mut joined) {
                    Some(joined) => stream.poll_write(cx, joined),
                    None => stream.poll_write_vectored(cx, bufs),
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
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.peer.watch.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
