//! A connection with TLS. Like a socket, and unlike tokio-rustls's, it can be used by several that hold it.

use std::io::{self, BufRead, Read, Write};
use std::net::Shutdown;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{ready, Context, Poll};

use rustls::Connection;
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;

/// How much is taken before the socket takes it, in bytes: a slow peer holds up to this, and each write is of as much.
const BUFFERED: usize = 32 * 1024;

/// A connection with TLS.
pub struct TlsStream {
    socket: TcpStream,
    session: Mutex<Connection>,
}

/// The socket as rustls has it: it says `WouldBlock`.
struct Raw<'a>(&'a TcpStream);

impl Read for Raw<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let room = buf.len();
        let mut read = Err(io::ErrorKind::WouldBlock.into());
        // A read that does not fill the buffer has emptied the socket. To say so here saves one that would find that out, as
        // tokio does.
        let _ = self.0.try_io(Interest::READABLE, || {
            read = self.0.try_read(buf);
            match &read {
                Ok(count) if *count == 0 || *count == room => Ok(()),
                _ => Err(io::ErrorKind::WouldBlock.into()),
            }
        });
        read
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.try_write(buf)
    }

    fn write_vectored(&mut self, bufs: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What rustls says, if it was that which failed.
pub(super) fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

impl TlsStream {
    pub(super) fn new(socket: TcpStream, mut session: Connection) -> Self {
        session.set_buffer_limit(Some(BUFFERED));
        Self {
            socket,
            session: Mutex::new(session),
        }
    }

    /// What the bytes travel over. Not to be read or written by others.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn into_socket(self) -> TcpStream {
        self.socket
    }

    fn session(&self) -> MutexGuard<'_, Connection> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether both sides have agreed on HTTP/2.
    pub fn speaks_http2(&self) -> bool {
        self.session().alpn_protocol() == Some(b"h2")
    }

    pub(super) async fn handshake(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_handshake(cx)).await
    }

    fn poll_handshake(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = &mut *self.session();
        loop {
            ready!(self.poll_send(session, cx))?;
            if !session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.socket.poll_read_ready(cx))?;
            match self.receive(session) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Err(error) if !would_block(&error) => return Poll::Ready(Err(error)),
                _ => {}
            }
        }
    }

    /// Takes what the socket has, up to some kB.
    fn receive(&self, session: &mut Connection) -> io::Result<usize> {
        let count = session.read_tls(&mut Raw(&self.socket))?;
        let processed = session.process_new_packets();
        // Alerts and new keys. What the socket does not take now goes before what is written next.
        let _ = self.send(session);
        match processed {
            Ok(_) => Ok(count),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }

    /// Sends what is waiting.
    fn send(&self, session: &mut Connection) -> io::Result<()> {
        while session.wants_write() {
            if session.write_tls(&mut Raw(&self.socket))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    fn poll_send(&self, session: &mut Connection, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while session.wants_write() {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.send(session) {
                Err(error) if would_block(&error) => {}
                sent => return Poll::Ready(sent),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Moves what has arrived into `buf`: at least a byte, or none at the end. An end that the other side has not announced is an
    /// error, `UnexpectedEof`: somebody else may have made it.
    fn take(session: &mut Connection, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        let before = buf.filled().len();
        let mut reader = session.reader();
        while buf.remaining() > 0 {
            let count = match reader.fill_buf() {
                Ok(chunk) => {
                    let count = chunk.len().min(buf.remaining());
                    buf.put_slice(&chunk[..count]);
                    count
                }
                Err(_) if buf.filled().len() > before => 0,
                Err(error) => return Err(error),
            };
            if count == 0 {
                break;
            }
            reader.consume(count);
        }
        Ok(())
    }

    pub fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let session = &mut *self.session();
        loop {
            match Self::take(session, buf) {
                Err(error) if would_block(&error) => {}
                taken => return Poll::Ready(taken),
            }
            ready!(self.socket.poll_read_ready(cx))?;
            match self.receive(session) {
                Err(error) if !would_block(&error) => return Poll::Ready(Err(error)),
                _ => {}
            }
        }
    }

    /// Whether there is something to read: bytes, the end, or what may turn out to be neither.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.session().reader().fill_buf() {
            Err(error) if would_block(&error) => self.socket.poll_read_ready(cx),
            // An error is found again by whoever reads.
            _ => Poll::Ready(Ok(())),
        }
    }

    /// What was written before goes first, as a slow peer must not make it grow.
    fn poll_write_by(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut dyn Write) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let session = &mut *self.session();
        ready!(self.poll_send(session, cx))?;
        let written = write(&mut session.writer());
        match self.send(session) {
            Err(error) if !would_block(&error) => Poll::Ready(Err(error)),
            // The rest goes with the next write, or when it is flushed.
            _ => Poll::Ready(written),
        }
    }

    pub fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_by(cx, |writer| writer.write(buf))
    }

    pub fn poll_write_vectored(
        &self,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_by(cx, |writer| writer.write_vectored(bufs))
    }

    /// Writes if all that was written before is sent; `WouldBlock` if it is not.
    pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        let session = &mut *self.session();
        self.send(session)?;
        let written = session.writer().write(buf)?;
        match self.send(session) {
            Err(error) if !would_block(&error) => Err(error),
            _ => Ok(written),
        }
    }

    pub fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(&mut self.session(), cx)
    }

    /// Says that no more comes (`close_notify`), and closes that way of the socket.
    pub fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let session = &mut *self.session();
        session.send_close_notify();
        ready!(self.poll_send(session, cx))?;
        match socket2::SockRef::from(&self.socket).shutdown(Shutdown::Write) {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Says that no more comes, as far as the socket takes it at once.
    pub fn say_goodbye(&self) {
        let session = &mut *self.session();
        session.send_close_notify();
        // It is closed either way.
        let _ = self.send(session);
    }
}
