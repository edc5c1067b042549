//! The bytes between front and worker, watched, and acknowledged at once.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::interim::{Interim, Sight};
use super::native::check_peer;
use super::unacknowledged::unacknowledged;
use super::Address;
use crate::client_stream::ClientStream;
use crate::tls::Peer;

/// What has happened on the wire since the last [`restart`](Wire::restart). It decides whether a
/// request may be sent again, and when to acknowledge.
///
/// httpuv leaves Nagle's algorithm on and writes head and body separately: the body waits in the
/// worker until the head is acknowledged, and a kept-alive peer delays that by 40 ms. So whenever
/// something came but not all, the acknowledgement is sent at once (`TCP_QUICKACK`, which the kernel
/// forgets and has to be told again and again). A response that came whole is acknowledged by the
/// next request.
pub(super) struct Wire {
    sent: AtomicBool,
    received: AtomicBool,
    owes_ack: AtomicBool,
    /// Whether what comes may still be interim responses.
    expecting: AtomicBool,
    /// Whether what came is no answer, though hyper would wait for one behind it.
    nonsense: AtomicBool,
    /// Whether the last write had to wait.
    blocked: AtomicBool,
    /// How often bytes have moved, either way.
    moved: AtomicU64,
    /// Bytes.
    written: AtomicU64,
    /// The other side has closed it.
    ended: AtomicBool,
}

impl Wire {
    pub(super) fn restart(&self) {
        self.sent.store(false, Ordering::Relaxed);
        self.received.store(false, Ordering::Relaxed);
        self.owes_ack.store(false, Ordering::Relaxed);
        self.expecting.store(true, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
    }

    pub(super) fn sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    pub(super) fn received(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }

    /// More is awaited: what came is to be acknowledged, unless that was done. Once.
    pub(super) fn take_owed_ack(&self) -> bool {
        self.owes_ack.swap(false, Ordering::Relaxed)
    }

    /// Whether the worker has answered with what is no answer.
    pub(super) fn nonsense(&self) -> bool {
        self.nonsense.load(Ordering::Relaxed)
    }

    /// Whether the worker has begun something that it is to go on with: to answer, or not to read the request.
    pub(super) fn is_midway(&self) -> bool {
        self.received() || self.blocked.load(Ordering::Relaxed)
    }

    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    fn note_move(&self) {
        // The only one who writes it is the one who polls the connection.
        let moved = self.moved.load(Ordering::Relaxed);
        self.moved.store(moved.wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether nothing that was written has come to the other side, which has closed the connection before: the end of a
    /// stream acknowledges all that came. After a reset that cannot be told.
    pub(super) fn was_closed_before(&self, handle: &Handle) -> bool {
        let written = self.written.load(Ordering::Relaxed);
        self.ended.load(Ordering::Relaxed)
            && !self.received()
            && unacknowledged(&handle.socket).is_some_and(|bytes| bytes >= written)
    }

    fn note_read(&self) {
        self.received.store(true, Ordering::Relaxed);
        self.owes_ack.store(true, Ordering::Relaxed);
        self.note_move();
    }

    fn note_write(&self, polled: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(written @ 1..)) = polled {
            self.sent.store(true, Ordering::Relaxed);
            self.note_move();
            let before = self.written.load(Ordering::Relaxed);
            self.written
                .store(before + *written as u64, Ordering::Relaxed);
        }
        self.blocked.store(polled.is_pending(), Ordering::Relaxed);
    }
}

/// A second handle of a socket, as hyper owns the first. It is the connection's: a tunnel has none.
pub(super) struct Handle {
    socket: socket2::Socket,
    tcp: bool,
}

impl Handle {
    /// Acknowledges what came, at once.
    pub(super) fn acknowledge(&self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if self.tcp {
            // Only an optimisation: a socket that refuses works, slower.
            let _ = self.socket.set_tcp_quickack(true);
        }
    }

    /// Another machine may vanish without a word: then this connection ends within [`VANISHED`].
    pub(super) fn watch_other_side(&self) {
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(QUIET)
            .with_interval(PROBES)
            .with_retries(3);
        // Without them such a connection ends later.
        let _ = self.socket.set_tcp_keepalive(&keepalive);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = self.socket.set_tcp_user_timeout(Some(VANISHED));
    }

    /// Whether the other side learns of an early close at once, by a reset, and not behind what is still unsent.
    pub(super) fn reset_on_close(&self, reset: bool) {
        // Without, it learns of it later.
        let _ = self.socket.set_linger(reset.then_some(Duration::ZERO));
    }

    /// Ends the connection, whoever else has the other side open.
    pub(super) fn cut(&self) {
        // What is no longer connected needs no end.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// Has the system notice within ten seconds when the other side of a slot has vanished without a word: nobody looks at one
/// that is not used.
pub(crate) fn watch_slot(socket: socket2::SockRef<'_>) {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(SLOT_QUIET)
        .with_interval(SLOT_PROBES)
        .with_retries(2);
    let _ = socket.set_tcp_keepalive(&keepalive);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket.set_tcp_user_timeout(Some(SLOT_VANISHED));
}

/// After how long without a word the system asks whether the other machine is there, how often, and for how long it
/// may leave anything unanswered.
const QUIET: Duration = Duration::from_secs(15);
const PROBES: Duration = Duration::from_secs(5);
const VANISHED: Duration = Duration::from_secs(30);

/// The same for slots of workers that dial in.
const SLOT_QUIET: Duration = Duration::from_secs(3);
const SLOT_PROBES: Duration = Duration::from_secs(2);
const SLOT_VANISHED: Duration = Duration::from_secs(8);

/// What a Unix socket holds before its writer has to wait, in bytes; the system may allow less. A large body then
/// changes hands less often.
const ROOM: usize = 1024 * 1024;

/// Gives a Unix socket more room for what is written to it.
pub(crate) fn widen(stream: &UnixStream) {
    // Only an optimisation.
    let _ = socket2::SockRef::from(stream).set_send_buffer_size(ROOM);
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// With TLS, or dialled by the worker.
    Client(ClientStream),
}

/// A worker's socket.
pub(super) struct Stream {
    socket: Socket,
    wire: Arc<Wire>,
    interim: Interim,
    /// Bytes to be read again, before others.
    unread: Bytes,
    /// Whether the next write has been made before: it goes nowhere, and nothing is read before it.
    mute: bool,
}

impl Stream {
    /// Over a new connection, with TLS if there is a `peer`.
    pub(super) async fn open(
        address: &Address,
        peer: Option<&Peer>,
    ) -> io::Result<(Self, Arc<Wire>, Handle)> {
        let socket = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                match peer {
                    None => Socket::Tcp(stream),
                    Some(peer) => Socket::Client(peer.connect(stream).await?),
                }
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await?;
                check_peer(&stream, path)?;
                widen(&stream);
                Socket::Unix(stream)
            }
            // It dials itself.
            Address::Callers(callers) => Socket::Client(callers.take().await?),
            Address::Dialled(_) => return Err(io::ErrorKind::NotConnected.into()),
        };
        Self::over(socket)
    }

    /// Over a connection that a worker has dialled.
    pub(super) fn dialled(stream: ClientStream) -> io::Result<(Self, Arc<Wire>, Handle)> {
        Self::over(Socket::Client(stream))
    }

    fn over(socket: Socket) -> io::Result<(Self, Arc<Wire>, Handle)> {
        let handle = match &socket {
            Socket::Tcp(stream) => Handle {
                socket: socket2::SockRef::from(stream).try_clone()?,
                tcp: true,
            },
            Socket::Unix(stream) => Handle {
                socket: socket2::SockRef::from(stream).try_clone()?,
                tcp: false,
            },
            Socket::Client(stream) => Handle {
                socket: socket2::SockRef::from(stream).try_clone()?,
                tcp: true,
            },
        };
        let wire = Arc::new(Wire {
            sent: AtomicBool::new(false),
            received: AtomicBool::new(false),
            owes_ack: AtomicBool::new(false),
            expecting: AtomicBool::new(true),
            nonsense: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            moved: AtomicU64::new(0),
            written: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let stream = Self {
            socket,
            wire: wire.clone(),
            interim: Interim::default(),
            unread: Bytes::new(),
            mute: false,
        };
        Ok((stream, wire, handle))
    }

    /// For an answer that is read again: `read` comes first, and its request, which is repeated, goes nowhere.
    pub(super) fn replay(&mut self, read: Bytes) {
        self.unread = read;
        self.mute = true;
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.mute {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !self.unread.is_empty() {
            let length = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Socket::Client(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        let this = &mut *self;
        let came = &buf.filled()[before..];
        if came.is_empty() && polled.is_ready() {
            // The former if what was sent has been refused since, the latter if TLS was not told of the end.
            let ended = match &polled {
                Poll::Ready(Err(error)) => matches!(
                    error.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
                ),
                _ => true,
            };
            this.wire.ended.store(ended, Ordering::Relaxed);
        } else if !came.is_empty() {
            this.wire.note_read();
            if this.wire.expecting.load(Ordering::Relaxed) {
                match this.interim.look(came) {
                    Sight::Interim => {}
                    Sight::Answer => this.wire.expecting.store(false, Ordering::Relaxed),
                    Sight::Nonsense => {
                        this.wire.nonsense.store(true, Ordering::Relaxed);
                        return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                    }
                }
            }
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
        if std::mem::take(&mut self.mute) {
            return Poll::Ready(Ok(buf.len()));
        }
        let polled = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Socket::Client(stream) => Pin::new(stream).poll_write(cx, buf),
        };
        self.wire.note_write(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A request without a body is one piece, and the simpler call is the cheaper one.
        if let [one] = bufs {
            return self.poll_write(cx, one);
        }
        if std::mem::take(&mut self.mute) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let polled = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Socket::Client(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        };
        self.wire.note_write(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(_) | Socket::Unix(_) => Poll::Ready(Ok(())),
            // With TLS, what the socket did not take waits for this.
            Socket::Client(stream) => {
                let polled = Pin::new(stream).poll_flush(cx);
                self.wire
                    .blocked
                    .store(polled.is_pending(), Ordering::Relaxed);
                polled
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Client(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A slot's connection, and the worker's side of it.
    async fn slot() -> (Stream, Arc<Wire>, Handle, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let worker = TcpStream::connect(address).await.expect("a listener");
        let (socket, _) = listener.accept().await.expect("a worker");
        let stream = Stream::dialled(ClientStream::Tcp(socket));
        let (stream, wire, handle) = stream.expect("a second handle");
        (stream, wire, handle, worker)
    }

    #[tokio::test]
    async fn what_came_after_the_end_was_not_seen_and_what_came_before_may_have_been() {
        let (mut stream, wire, handle, worker) = slot().await;
        drop(worker);
        wire.restart();
        stream.write_all(b"request").await.expect("it is open");
        // The end, or that what was sent is refused.
        assert!(matches!(stream.read(&mut [0; 8]).await, Ok(0) | Err(_)));
        assert!(wire.sent() && wire.was_closed_before(&handle));

        let (mut stream, wire, handle, mut worker) = slot().await;
        wire.restart();
        stream.write_all(b"request").await.expect("it is open");
        worker.read_exact(&mut [0; 7]).await.expect("a request");
        drop(worker);
        assert_eq!(stream.read(&mut [0; 8]).await.expect("the end"), 0);
        assert!(!wire.was_closed_before(&handle));

        // With the request unread: it may have been seen.
        let (mut stream, wire, handle, worker) = slot().await;
        wire.restart();
        stream.write_all(b"request").await.expect("it is open");
        worker.readable().await.expect("a request");
        drop(worker);
        assert!(stream.read(&mut [0; 8]).await.is_err());
        assert!(!wire.was_closed_before(&handle));
    }
}
