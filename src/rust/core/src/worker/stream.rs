//! The bytes between front and worker, counted, and acknowledged at once.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::Address;

/// What has happened on the wire since the last [`restart`](Wire::restart). It decides whether a
/// request may be sent again.
#[derive(Default)]
pub(super) struct Wire {
    sent: AtomicBool,
    received: AtomicBool,
}

impl Wire {
    pub(super) fn restart(&self) {
        self.sent.store(false, Ordering::Relaxed);
        self.received.store(false, Ordering::Relaxed);
    }

    pub(super) fn sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A worker's socket.
///
/// httpuv leaves Nagle's algorithm on and writes head and body separately: the body waits in the
/// worker until the head is acknowledged, and a kept-alive peer delays that by 40 ms. So whenever a
/// read found something and the next one finds nothing, the acknowledgement is sent at once
/// (`TCP_QUICKACK`, which the kernel forgets and has to be told again and again).
pub(super) struct Stream {
    socket: Socket,
    wire: Arc<Wire>,
    owes_ack: bool,
}

impl Stream {
    pub(super) async fn open(address: &Address) -> io::Result<(Self, Arc<Wire>)> {
        let socket = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
        };
        let wire = Arc::new(Wire::default());
        let stream = Self {
            socket,
            wire: wire.clone(),
            owes_ack: false,
        };
        Ok((stream, wire))
    }

    fn acknowledge(&mut self) {
        self.owes_ack = false;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Socket::Tcp(stream) = &self.socket {
            // Only an optimisation: a socket that refuses works, slower.
            let _ = socket2::SockRef::from(stream).set_tcp_quickack(true);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        match &polled {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                self.wire.received.store(true, Ordering::Relaxed);
                self.owes_ack = true;
            }
            Poll::Pending if self.owes_ack => self.acknowledge(),
            _ => {}
        }
        polled
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.note_write(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
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
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Stream {
    fn note_write(&mut self, polled: &Poll<io::Result<usize>>) {
        if matches!(polled, Poll::Ready(Ok(written)) if *written > 0) {
            self.wire.sent.store(true, Ordering::Relaxed);
            // The request carries the acknowledgement of the response before it.
            self.owes_ack = false;
        }
    }
}
