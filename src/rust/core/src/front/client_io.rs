//! A client's bytes on their way to and from hyper.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{ready, Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::cause::Cause;
use super::watch::{Phase, Watch};

/// The raw bytes of the head that is arriving, for what hyper's headers do not show.
///
/// Hyper resolves a request that has both `Transfer-Encoding` and `Content-Length` as RFC 9112 (6.3)
/// allows: it drops the length and closes the connection afterwards. faucet refuses such requests,
/// so it looks at the bytes. A pipelined head that arrived together with the request before it is
/// not seen here; hyper's own rule holds for that one.
#[derive(Default)]
pub struct RawHead(Mutex<Vec<u8>>);

impl RawHead {
    fn append(&self, bytes: &[u8], limit: usize) {
        let mut head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = limit.saturating_sub(head.len());
        head.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Forgets the head; says whether it declared a length.
    pub fn take_has_length(&self, look: bool) -> bool {
        let mut head = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = look && has_content_length(&head);
        head.clear();
        found
    }
}

fn has_content_length(head: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    head.split(|byte| *byte == b'\n')
        .take_while(|line| !line.is_empty() && *line != b"\r")
        .any(|line| {
            line.len() > NAME.len()
                && line[..NAME.len()].eq_ignore_ascii_case(NAME)
                && line[NAME.len()..]
                    .iter()
                    .find(|byte| !b" \t".contains(byte))
                    == Some(&b':')
        })
}

/// Up to here, in bytes, copying the pieces of a response together is cheaper than telling the
/// kernel of each.
const JOINED: usize = 2048;

fn join<'a>(bufs: &[io::IoSlice<'_>], joined: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut len = 0;
    for buf in bufs {
        joined.get_mut(len..len + buf.len())?.copy_from_slice(buf);
        len += buf.len();
    }
    Some(&joined[..len])
}

/// A client's connection.
///
/// Besides moving bytes it does what can only be done here: it tells the [`Watch`] of progress, and
/// it gives the rejections that hyper writes by itself (always while a head arrives) faucet's form.
pub struct ClientIo {
    stream: TcpStream,
    watch: Arc<Watch>,
    head: Arc<RawHead>,
    max_header: usize,
    /// Read already, but not yet understood, when the connection became quiet.
    unread: Bytes,
    /// What is left of a rejection that replaces hyper's.
    rejection: Option<(Vec<u8>, usize)>,
    http1: bool,
}

impl ClientIo {
    pub fn new(
        stream: TcpStream,
        watch: Arc<Watch>,
        head: Arc<RawHead>,
        max_header: usize,
        http1: bool,
    ) -> Self {
        Self {
            stream,
            watch,
            head,
            max_header,
            unread: Bytes::new(),
            rejection: None,
            http1,
        }
    }

    /// Puts bytes back, to be read first.
    pub fn unread(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }

    /// Whether the socket has something new: bytes, or the end.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error is found again by whoever reads.
        self.stream.poll_read_ready(cx).map(|_| ())
    }

    /// Says goodbye to a client whose head did not arrive in time, as far as its socket takes it at once.
    pub fn reject_now(&self, cause: Cause) {
        // The connection is closed either way.
        let _ = self.stream.try_write(&cause.raw_response());
    }

    fn note_write(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Pending => self.watch.write_stalled(),
            Poll::Ready(_) => self.watch.write_moved(),
        }
    }

    /// The first bytes that hyper writes while no request is being served are a rejection of the
    /// head: sends faucet's in its place and reports hyper's bytes as written.
    fn poll_rejection(
        &mut self,
        cx: &mut Context<'_>,
        hypers: &[u8],
        len: usize,
    ) -> Poll<io::Result<usize>> {
        let (bytes, sent) = self.rejection.get_or_insert_with(|| {
            let status = hypers
                .get(9..12)
                .and_then(|digits| std::str::from_utf8(digits).ok())
                .and_then(|digits| digits.parse().ok())
                .unwrap_or(400);
            (Cause::of_rejected_head(status).raw_response(), 0)
        });
        while *sent < bytes.len() {
            *sent += ready!(Pin::new(&mut self.stream).poll_write(cx, &bytes[*sent..]))?;
        }
        Poll::Ready(Ok(len))
    }

    fn rejects(&self, bytes: &[u8]) -> bool {
        self.http1
            && (self.rejection.is_some()
                || (self.watch.phase() == Phase::Head && bytes.starts_with(b"HTTP/1.")))
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = if self.unread.is_empty() {
            Pin::new(&mut self.stream).poll_read(cx, buf)
        } else {
            let length = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(length));
            Poll::Ready(Ok(()))
        };
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            self.watch.bytes_read();
            if self.http1 && self.watch.phase() == Phase::Head {
                self.head.append(read, self.max_header);
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

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_length_is_found_in_the_head_only() {
        assert!(has_content_length(
            b"POST / HTTP/1.1\r\nHost: a\r\ncontent-LENGTH : 3\r\n\r\n"
        ));
        assert!(!has_content_length(
            b"POST / HTTP/1.1\r\nHost: a\r\n\r\nContent-Length: 3\r\n"
        ));
        assert!(!has_content_length(
            b"POST / HTTP/1.1\r\nX-Content-Length: 3\r\n\r\n"
        ));
    }
}
