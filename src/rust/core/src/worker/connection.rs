//! A kept-alive connection to a worker.

use std::future::Future;
use std::io;
use std::pin::{pin, Pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Parts, SendRequest};
use hyper::header::{HeaderValue, UPGRADE};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;

use super::dialled::InUse;
use super::silence::Silence;
use super::stream::{Handle, Stream, Wire};
use super::Address;
use crate::body::{BufferedBody, Flow};
use crate::client_stream::ClientStream;
use crate::clock::coarse_millis;
use crate::descriptors::{Descriptor, Descriptors};
use crate::heads::ROOM_FOR_HEADERS;
use crate::tls::Peer;

/// How long opening a connection may take. Workers are near: what takes longer is broken.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The body of a request to a worker. Always complete before it is sent.
pub enum Outgoing {
    Empty,
    Buffered(Box<BufferedBody>),
    /// What comes meanwhile.
    Flowing(Flow),
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Buffered(body) => Pin::new(body.as_mut()).poll_frame(cx),
            Self::Flowing(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Buffered(body) => body.is_end_stream(),
            Self::Flowing(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Buffered(body) => body.size_hint(),
            Self::Flowing(_) => SizeHint::default(),
        }
    }
}

/// Why a request got no response head, and what that means for sending it again.
pub enum SendFailed {
    /// No byte of it was sent: it may go anywhere.
    Unsent,
    /// It was sent on a reused connection that ended before a byte of the answer came.
    Stale,
    /// The worker died; whether it saw the request is not known.
    Died,
    /// The worker may have worked on it.
    Broken(hyper::Error),
    /// The worker answered with something that is not HTTP.
    Garbled(hyper::Error),
    /// The worker stopped reading the request, or in the middle of its head.
    Silent,
}

/// The worker has begun something and does not go on with it.
pub struct Silent;

/// What makes a connection's bytes move.
enum Driver {
    Plain(Box<http1::Connection<TokioIo<Stream>, Outgoing>>),
    /// Its request may switch protocols.
    Switching(Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>),
    /// Over. What is left may be read again.
    Over(Option<Box<Parts<TokioIo<Stream>>>>),
}

impl Driver {
    fn poll(&mut self, cx: &mut Context<'_>) {
        let over = match self {
            Self::Plain(connection) => connection.poll_without_shutdown(cx).is_ready(),
            Self::Switching(connection) => connection.as_mut().poll(cx).is_ready(),
            Self::Over(_) => false,
        };
        // How it ended is told by the request that it carried. One that it has not looked at yet, as the worker had closed
        // the connection before, is told so only by the driver's end: it must not outlive that.
        if over {
            *self = match std::mem::replace(self, Self::Over(None)) {
                Self::Plain(connection) => Self::Over(Some(Box::new(connection.into_parts()))),
                _ => Self::Over(None),
            };
        }
    }
}

/// One connection, together with the state machine that drives it. Nothing else polls the driver, so
/// a request costs no hand-over between tasks.
pub struct Connection {
    sender: SendRequest<Outgoing>,
    driver: Driver,
    wire: Arc<Wire>,
    handle: Arc<Handle>,
    /// For its socket and the handle, if they are counted.
    _descriptors: Option<(Descriptor, Option<Descriptor>)>,
    silence: Silence,
    /// Whether it has carried an answer.
    used: bool,
    /// Whether a worker on the other side waits for its next request.
    turn: bool,
    /// What that turn is called, if it is.
    turn_name: Option<HeaderValue>,
    /// Since when it is not in use, on the coarse clock; 0 if nobody wants to know.
    resting: u64,
    /// If a worker has dialled it.
    slot: Option<InUse>,
}

impl Connection {
    /// Connects to a worker, without TLS.
    ///
    /// # Errors
    /// What the system says.
    pub async fn open(address: &Address) -> io::Result<Self> {
        Self::open_to(address, None).await
    }

    /// Connects to a worker, with TLS if it is a `peer` of that.
    ///
    /// # Errors
    /// What the system says, or why hands could not be shaken.
    pub async fn open_to(address: &Address, peer: Option<&Peer>) -> io::Result<Self> {
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, Stream::open(address, peer));
        let (stream, wire, handle) = opened.await.map_err(|_| io::ErrorKind::TimedOut)??;
        Self::over(stream, wire, handle).await
    }

    /// Over what a worker has dialled.
    pub(super) async fn dialled(stream: ClientStream, slot: InUse) -> io::Result<Self> {
        let (stream, wire, handle) = Stream::dialled(stream)?;
        let mut connection = Self::over(stream, wire, handle).await?;
        connection.slot = Some(slot);
        Ok(connection)
    }

    async fn over(stream: Stream, wire: Arc<Wire>, handle: Handle) -> io::Result<Self> {
        let (sender, driver) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        Ok(Self {
            sender,
            driver: Driver::Plain(Box::new(driver)),
            wire,
            handle: Arc::new(handle),
            _descriptors: None,
            silence: Silence::default(),
            used: false,
            turn: false,
            turn_name: None,
            resting: 0,
            slot: None,
        })
    }

    /// Its socket, to end it by.
    pub(super) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Has the system notice when the machine on the other side has vanished without a word.
    pub(super) fn watch_other_side(&self) {
        self.handle.watch_other_side();
    }

    /// Whether the other side learns of a close at once, and not behind what is still unsent.
    pub fn reset_on_close(&self, reset: bool) {
        self.handle.reset_on_close(reset);
    }

    /// Counts what it has open, for as long as it has.
    pub fn count(&mut self, descriptors: &Descriptors) {
        // A slot's socket was counted when it came.
        let socket = self.slot.is_none().then(|| descriptors.take_anyway());
        self._descriptors = Some((descriptors.take_anyway(), socket));
    }

    /// It is put aside now.
    pub(super) fn rests(&mut self) {
        self.resting = coarse_millis();
    }

    /// As if it had been put aside so much earlier.
    #[cfg(test)]
    pub(super) fn rested(&mut self, time: Duration) {
        self.resting = self.resting.saturating_sub(time.as_millis() as u64);
    }

    /// Whether it was put aside at least so long ago.
    pub(super) fn has_rested(&self, time: Duration) -> bool {
        coarse_millis().saturating_sub(self.resting) >= time.as_millis() as u64
    }

    /// A worker on the other side waits for its next request.
    pub(super) fn give_turn(&mut self, name: Option<HeaderValue>) {
        self.turn = true;
        self.turn_name = name;
    }

    /// What the turn is called that it has.
    pub fn turn_name(&self) -> Option<&HeaderValue> {
        self.turn_name.as_ref()
    }

    /// Whether one does, or did when the request was sent that is answered now.
    pub fn has_turn(&self) -> bool {
        self.turn
    }

    /// Whether the worker may have closed this connection meanwhile, so that a request may have to be
    /// sent again.
    pub fn may_be_stale(&self) -> bool {
        self.used
    }

    /// Sends a request and waits for the head of its response, under the terms of
    /// [`drive_patiently`](Self::drive_patiently). The body is read under one of the two. The request comes back if
    /// nothing was done with it.
    pub async fn send(
        &mut self,
        request: Request<Outgoing>,
        patience: Option<Duration>,
    ) -> Result<Response<Incoming>, (SendFailed, Option<Request<Outgoing>>)> {
        self.wire.restart();
        self.silence.end();
        if request.headers().contains_key(UPGRADE) {
            self.may_switch();
        }
        let method = request.method().clone();
        let answer = self.sender.try_send_request(request);
        let mut failed = match self.drive_patiently(answer, patience).await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(failed)) => failed,
            Err(Silent) => return Err((SendFailed::Silent, None)),
        };
        let request = failed.take_message();
        let mut error = failed.into_error();
        if error.is_parse_too_large() {
            // Boxed, like all that is rare.
            match Box::pin(self.read_again(method, patience)).await {
                Some(Ok(Ok(response))) => return Ok(response),
                Some(Ok(Err(again))) => error = again,
                Some(Err(Silent)) => return Err((SendFailed::Silent, None)),
                None => {}
            }
        }
        // Nobody reads on.
        self.driver = Driver::Over(None);
        let closed_before = || self.slot.is_some() && self.wire.was_closed_before(&self.handle);
        let why = if !self.wire.sent() || closed_before() {
            SendFailed::Unsent
        } else if self.used && !self.wire.received() {
            SendFailed::Stale
        } else if error.is_parse() || self.wire.nonsense() {
            SendFailed::Garbled(error)
        } else {
            SendFailed::Broken(error)
        };
        Err((why, request))
    }

    fn may_switch(&mut self) {
        self.driver = match std::mem::replace(&mut self.driver, Driver::Over(None)) {
            Driver::Plain(connection) => Driver::Switching(Box::pin(connection.with_upgrades())),
            driver => driver,
        };
    }

    /// Reads the answer to a request with this method once more, with room for more headers. To have it always would cost
    /// every answer some. `None` if that has been tried, or cannot be.
    async fn read_again(
        &mut self,
        method: Method,
        patience: Option<Duration>,
    ) -> Option<Result<hyper::Result<Response<Incoming>>, Silent>> {
        let Driver::Over(parts) = &mut self.driver else {
            return None;
        };
        let parts = parts.take()?;
        let mut stream = parts.io.into_inner();
        stream.replay(parts.read_buf);
        let handshake = http1::Builder::new()
            .max_headers(ROOM_FOR_HEADERS)
            .handshake(TokioIo::new(stream));
        let (sender, driver) = match handshake.await {
            Ok(both) => both,
            Err(error) => return Some(Ok(Err(error))),
        };
        self.sender = sender;
        self.driver = Driver::Plain(Box::new(driver));
        // What an answer means depends on the method.
        let mut repeated = Request::new(Outgoing::Empty);
        *repeated.method_mut() = method;
        let answer = self.sender.send_request(repeated);
        Some(self.drive_patiently(answer, patience).await)
    }

    /// Awaits something that this connection makes happen.
    pub async fn drive<F: Future>(&mut self, work: F) -> F::Output {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| self.poll_work(work.as_mut(), cx)).await
    }

    /// The same, for as long as the worker does not stop midway: once it has begun to answer, or while there is more of
    /// the request than it takes, bytes must move within each `patience`.
    ///
    /// # Errors
    /// They do not. The connection is of no use any more.
    pub async fn drive_patiently<F: Future>(
        &mut self,
        work: F,
        patience: Option<Duration>,
    ) -> Result<F::Output, Silent> {
        let mut work = pin!(work);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = self.poll_work(work.as_mut(), cx) {
                return Poll::Ready(Ok(output));
            }
            match patience.filter(|_| self.wire.is_midway()) {
                Some(patience) => {
                    let silent = self.silence.poll(cx, self.wire.moved(), patience);
                    silent.map(|()| Err(Silent))
                }
                None => Poll::Pending,
            }
        })
        .await
    }

    fn poll_work<F: Future>(
        &mut self,
        mut work: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        // The work says what it wants, the driver does it, the work takes it.
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        self.driver.poll(cx);
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() && self.wire.take_owed_ack() {
            self.handle.acknowledge();
        }
        polled
    }

    /// The next of a body that this connection carries.
    pub fn poll_frame(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let frame = std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        self.poll_work(pin!(frame), cx)
    }

    /// Resolves when it ends while nothing is asked of it.
    pub(super) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.driver.poll(cx);
        if matches!(self.driver, Driver::Over(_)) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Whether the connection can carry the next request: alive, and nothing left over from the last one.
    pub async fn is_reusable(&mut self) -> bool {
        if !self.sender.is_ready() {
            // It has read the last byte, but not yet noticed that nothing is left to do.
            std::future::poll_fn(|cx| {
                self.driver.poll(cx);
                Poll::Ready(())
            })
            .await;
        }
        self.used = true;
        self.turn = false;
        self.turn_name = None;
        !matches!(self.driver, Driver::Over(_)) && self.sender.is_ready()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_request_comes_back_unsent_if_the_worker_is_known_to_have_hung_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let (hang_up, told) = tokio::sync::oneshot::channel();
        let worker = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            told.await.unwrap();
        });
        let mut connection = Connection::open(&address).await.unwrap();
        let first = connection.send(Request::new(Outgoing::Empty), None).await;
        assert!(first.is_ok());
        assert!(connection.is_reusable().await);
        hang_up.send(()).unwrap();
        worker.await.unwrap();
        // The runtime has seen the end of the stream before the next request is written.
        tokio::time::sleep(Duration::from_millis(20)).await;

        let second = connection.send(Request::new(Outgoing::Empty), None);
        let second = tokio::time::timeout(Duration::from_secs(5), second).await;
        let (why, request) = second.expect("an answer").expect_err("an error");
        assert!(matches!(why, SendFailed::Unsent));
        assert!(request.is_some());
    }
}
