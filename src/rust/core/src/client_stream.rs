//! A client's connection, over TCP, a Unix socket, or TLS.

use std::io;
use std::net::{IpAddr, Shutdown};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{ready, Context, Poll};

use bytes::BufMut;
use rustix::net::{recv, RecvFlags};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::{TcpStream, UnixStream};

use crate::tls::TlsStream;

/// One of the three. Its methods are those of tokio's streams, but those that poll need no more than `&self`.
pub enum ClientStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Over TCP, and with hands shaken. Far larger than a socket, and rarer.
    Tls(Box<TlsStream>),
}

/// The same call for any socket.
macro_rules! socket {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Self::Tcp($inner) => $call,
            Self::Unix($inner) => $call,
            Self::Tls(stream) => {
                let $inner = stream.socket();
                $call
            }
        }
    };
}

/// The same call for either that is read and written without TLS.
macro_rules! plain {
    ($stream:expr, $inner:ident => $call:expr, $tls:ident => $other:expr) => {
        match $stream {
            Self::Tcp($inner) => $call,
            Self::Unix($inner) => $call,
            Self::Tls($tls) => $other,
        }
    };
}

impl ClientStream {
    /// Sends what is written at once. Unix sockets always do.
    pub fn set_nodelay(&self) {
        let socket = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.socket(),
            Self::Unix(_) => return,
        };
        // Loses at most some latency.
        let _ = socket.set_nodelay(true);
    }

    /// The address that the client has connected to, if it is one.
    pub fn own_address(&self) -> Option<IpAddr> {
        let socket = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.socket(),
            Self::Unix(_) => return None,
        };
        socket.local_addr().ok().map(|own| own.ip().to_canonical())
    }

    /// Whether nobody on the way can read it.
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether both sides have done so in the handshake.
    pub fn has_agreed_on_http2(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.speaks_http2())
    }

    /// Of the socket.
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        socket!(self, stream => stream.ready(interest).await)
    }

    /// Reads from the socket without taking what is read.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        let socket = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.socket(),
            Self::Unix(stream) => {
                let peek = || Ok(recv(stream, &mut *buf, RecvFlags::PEEK)?.0);
                return stream.async_io(Interest::READABLE, peek).await;
            }
        };
        socket.peek(buf).await
    }

    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        plain!(self, stream => stream.poll_read_ready(cx), tls => tls.poll_read_ready(cx))
    }

    /// Tokio's own reads and writes want the stream for themselves.
    pub fn poll_read_shared(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        plain!(self, stream => loop {
            ready!(stream.poll_read_ready(cx))?;
            let room = buf.remaining_mut();
            let mut read = Err(io::ErrorKind::WouldBlock.into());
            // A read that does not fill the buffer has emptied the socket. To say so here saves one that would find that
            // out, as tokio does.
            let _ = stream.try_io(Interest::READABLE, || {
                read = stream.try_read_buf(buf);
                match &read {
                    Ok(count) if *count == 0 || *count == room => Ok(()),
                    _ => Err(io::ErrorKind::WouldBlock.into()),
                }
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(|_| ())),
            }
        }, tls => tls.poll_read(cx, buf))
    }

    pub fn poll_write_shared(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        plain!(self, stream => loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_write(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }, tls => tls.poll_write(cx, buf))
    }

    pub fn poll_write_vectored_shared(
        &self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        plain!(self, stream => loop {
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_write_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }, tls => tls.poll_write_vectored(cx, bufs))
    }

    /// Until the system has all that was written.
    pub fn poll_flush_shared(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tls(stream) => stream.poll_flush(cx),
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
        }
    }

    /// Says that no more is written.
    pub fn poll_shutdown_shared(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Self::Tls(stream) = self {
            return stream.poll_shutdown(cx);
        }
        match socket2::SockRef::from(self).shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// What the system, or with TLS a buffer, takes at once.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        plain!(self, stream => stream.try_write(buf), tls => tls.try_write(buf))
    }

    /// Before it is closed: says that this is its proper end, if there is a way to.
    pub fn say_goodbye(&self) {
        if let Self::Tls(stream) = self {
            stream.say_goodbye();
        }
    }
}

/// Of the socket.
impl AsFd for ClientStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        socket!(self, stream => stream.as_fd())
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        plain!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf), tls => tls.poll_read(cx, buf))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        plain!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf), tls => tls.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        plain!(
            self.get_mut(),
            stream => Pin::new(stream).poll_write_vectored(cx, bufs),
            tls => tls.poll_write_vectored(cx, bufs)
        )
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush_shared(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shutdown_shared(cx)
    }
}
