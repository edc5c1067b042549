//! The bytes between hyper and a client that speaks HTTP/2, and the last of them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client_io::{join, JOINED};
use super::listener::{linger, Entered};
use super::service::Peer;
use super::streams::Streams;
use crate::client_stream::ClientStream;
use crate::clock::coarse_millis;

/// A client's connection. It tells of what travels, and when it is dropped before h2 has said goodbye, it does.
pub struct Http2Io {
    /// Until it is dropped.
    stream: Option<ClientStream>,
    /// What was read of it before.
    unread: Bytes,
    peer: Arc<Peer>,
    streams: Streams,
    /// The client has closed the connection, or it broke.
    over: bool,
    /// It counts as a connection until the last word is said.
    _entered: Entered,
}

impl Http2Io {
    pub fn new(
        (stream, entered): (ClientStream, Entered),
        unread: Bytes,
        peer: Arc<Peer>,
        streams: Streams,
    ) -> Self {
        Self {
            stream: Some(stream),
            unread,
            peer,
            streams,
            over: false,
            _entered: entered,
        }
    }

    fn stream(&mut self) -> io::Result<Pin<&mut ClientStream>> {
        self.stream
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// `bufs` were written as far as `polled` says.
    fn note_write(&mut self, polled: &Poll<io::Result<usize>>, bufs: &[io::IoSlice<'_>]) {
        let mut left = match polled {
            Poll::Pending => return self.peer.connection.write_stalled(),
            Poll::Ready(Ok(count)) => *count,
            Poll::Ready(Err(_)) => {
                self.over = true;
                0
            }
        };
        self.peer.connection.write_moved();
        self.streams.frames(|frames| {
            let now = coarse_millis();
            for buf in bufs {
                let count = left.min(buf.len());
                frames.sent(&buf[..count], now);
                left -= count;
            }
        });
    }
}

impl AsyncRead for Http2Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = match this.unread.is_empty() {
            true => this.stream()?.poll_read(cx, buf),
            false => {
                let length = this.unread.len().min(buf.remaining());
                buf.put_slice(&this.unread.split_to(length));
                Poll::Ready(Ok(()))
            }
        };
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            let incomplete = this
                .streams
                .frames(|frames| frames.received(read, coarse_millis()));
            this.peer.connection.set_incomplete(incomplete);
        } else if polled.is_ready() {
            this.over = true;
        }
        polled
    }
}

impl AsyncWrite for Http2Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.stream()?.poll_write(cx, buf);
        self.note_write(&polled, &[io::IoSlice::new(buf)]);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut joined = [0u8; JOINED];
        let polled = match join(bufs, &mut joined) {
            Some(joined) => self.stream()?.poll_write(cx, joined),
            None => self.stream()?.poll_write_vectored(cx, bufs),
        };
        self.note_write(&polled, bufs);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.stream()?.poll_flush(cx);
        if polled.is_pending() {
            self.peer.connection.write_stalled();
            return polled;
        }
        self.peer.connection.write_moved();
        self.peer.connection.flushed();
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
}

impl Drop for Http2Io {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take().filter(|_| !self.over) else {
            return;
        };
        if let Some(goodbye) = self.streams.frames(|frames| frames.goodbye()) {
            // As far as its socket takes it at once: the connection ends either way.
            let _ = stream.try_write(&goodbye);
        }
        linger(&self.peer.front.connections, stream);
    }
}
