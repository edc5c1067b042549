//! A worker that does what a test says, and counts what it is given.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::client::{find, parse_headers};
use super::until;

/// A request as a worker saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The number of the connection it came on, from 0.
    pub connection: usize,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn count(&self, name: &str) -> usize {
        self.headers
            .iter()
            .filter(|(known, _)| known == name)
            .count()
    }
}

/// Closed until opened; each opening lets one through.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Gate {
    pub async fn pass(&self) {
        self.0.acquire().await.expect("never closed").forget();
    }

    pub fn open(&self, times: usize) {
        self.0.add_permits(times);
    }
}

#[derive(Default)]
struct Counts {
    seen: Mutex<Vec<Seen>>,
    in_flight: AtomicUsize,
    peak: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
}

/// Counts a request while it exists.
struct Flight(Arc<Counts>);

impl Flight {
    fn start(counts: &Arc<Counts>) -> Self {
        let now = counts.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        counts.peak.fetch_max(now, Ordering::SeqCst);
        Self(counts.clone())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Opened(Arc<Counts>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection from the front, with one request to answer. Dropping it closes the connection.
pub struct Wire {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    flight: Option<Flight>,
    _opened: Opened,
}

impl Wire {
    fn over(stream: TcpStream, counts: &Arc<Counts>) -> Self {
        counts.connections.fetch_add(1, Ordering::SeqCst);
        counts.open.fetch_add(1, Ordering::SeqCst);
        Self {
            stream,
            buffer: Vec::new(),
            flight: None,
            _opened: Opened(counts.clone()),
        }
    }

    pub async fn raw(&mut self, bytes: impl AsRef<[u8]>) {
        // The front may be gone by then; tests look at what it did.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Answers completely, with a length.
    pub async fn answer(
        mut self,
        status: u16,
        headers: &str,
        body: impl AsRef<[u8]>,
    ) -> Option<Self> {
        let body = body.as_ref();
        let mut bytes = format!(
            "HTTP/1.1 {status} Status\r\n{headers}Content-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        self.raw(bytes).await;
        self.end()
    }

    pub async fn ok(self, body: impl AsRef<[u8]>) -> Option<Self> {
        self.answer(200, "", body).await
    }

    /// The request is answered; the connection stays.
    pub fn end(mut self) -> Option<Self> {
        self.answered();
        Some(self)
    }

    /// The request is answered, and the handler goes on: a tunnel.
    pub fn answered(&mut self) {
        self.flight = None;
    }

    /// Bytes that are not HTTP, for tunnels.
    pub async fn read_some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() && self.stream.read_buf(&mut self.buffer).await.is_err() {
            return Vec::new();
        }
        std::mem::take(&mut self.buffer)
    }

    async fn fill(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(count) if count > 0 => Some(()),
            _ => None,
        }
    }

    async fn request(&mut self, counts: &Arc<Counts>, connection: usize) -> Option<Seen> {
        if self.buffer.is_empty() {
            self.fill().await?;
        }
        // From its first byte on: a worker may work on what it has.
        self.flight = Some(Flight::start(counts));
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await?;
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).expect("text");
        let (first, headers) = head.split_once("\r\n").expect("a request line");
        let mut words = first.split(' ');
        let mut word = || words.next().expect("three words").to_owned();
        let mut seen = Seen {
            method: word(),
            target: word(),
            version: word(),
            headers: parse_headers(headers),
            body: Vec::new(),
            connection,
        };
        assert_eq!(
            seen.header("transfer-encoding"),
            None,
            "bodies are complete before they are sent: they have a length"
        );
        let length: usize = seen
            .header("content-length")
            .map_or(0, |length| length.parse().expect("a number"));
        while self.buffer.len() < length {
            self.fill().await?;
        }
        seen.body = self.buffer.drain(..length).collect();
        counts.seen.lock().expect("no panic").push(seen.clone());
        Some(seen)
    }
}

type Work = Pin<Box<dyn Future<Output = Option<Wire>> + Send>>;
type Handler = Arc<dyn Fn(Seen, Wire) -> Work + Send + Sync>;

/// One worker.
pub struct Upstream {
    pub address: SocketAddr,
    counts: Arc<Counts>,
    task: AbortHandle,
}

impl Upstream {
    /// Starts a worker. The handler returns the wire to keep the connection.
    pub async fn start<F, Fut>(handler: F) -> Self
    where
        F: Fn(Seen, Wire) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Wire>> + Send + 'static,
    {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), handler).await
    }

    pub async fn start_at<F, Fut>(address: SocketAddr, handler: F) -> Self
    where
        F: Fn(Seen, Wire) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Wire>> + Send + 'static,
    {
        let listener = faucet_core::front::bind(address).expect("a free port");
        let listener = TcpListener::from_std(listener).expect("a runtime");
        let address = listener.local_addr().expect("bound");
        let counts = Arc::new(Counts::default());
        let handler: Handler = Arc::new(move |seen, wire| Box::pin(handler(seen, wire)));
        let task = tokio::spawn(serve(listener, handler, counts.clone())).abort_handle();
        Self {
            address,
            counts,
            task,
        }
    }

    /// A worker that offers `slots` slots to a hub; `headers` are those of its handshake, without the end.
    pub async fn dialling<F, Fut>(hub: SocketAddr, slots: usize, headers: &str, handler: F) -> Self
    where
        F: Fn(Seen, Wire) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<Wire>> + Send + 'static,
    {
        let counts = Arc::new(Counts::default());
        let handler: Handler = Arc::new(move |seen, wire| Box::pin(handler(seen, wire)));
        let mut connections = JoinSet::new();
        for number in 0..slots {
            let stream = dial(hub, headers).await;
            let wire = Wire::over(stream, &counts);
            connections.spawn(converse(wire, handler.clone(), counts.clone(), number));
        }
        // Dropping the set with this task closes all connections.
        let task = tokio::spawn(async move { while connections.join_next().await.is_some() {} });
        Self {
            address: hub,
            counts,
            task: task.abort_handle(),
        }
    }

    /// Answers every request with its own target.
    pub async fn echo() -> Self {
        Self::start(|seen: Seen, wire: Wire| async move { wire.ok(seen.target).await }).await
    }

    /// Answers a request when its gate is opened.
    pub async fn gated() -> (Self, Gate) {
        let gate = Gate::default();
        let inner = gate.clone();
        let upstream = Self::start(move |seen: Seen, wire: Wire| {
            let gate = inner.clone();
            async move {
                gate.pass().await;
                wire.ok(seen.target).await
            }
        })
        .await;
        (upstream, gate)
    }

    /// Dies: the port and all connections close.
    pub fn kill(&self) {
        self.task.abort();
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.counts.seen.lock().expect("no panic").clone()
    }

    pub fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }

    pub fn targets(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.target).collect()
    }

    /// Waits until so many requests have arrived.
    pub async fn arrived(&self, count: usize) {
        until("requests arrive at the worker", || {
            self.counts.seen.lock().expect("no panic").len() >= count
        })
        .await;
    }

    pub fn count(&self) -> usize {
        self.counts.seen.lock().expect("no panic").len()
    }

    /// Requests begun and not answered.
    pub fn in_flight(&self) -> usize {
        self.counts.in_flight.load(Ordering::SeqCst)
    }

    /// The most there ever were at once.
    pub fn peak(&self) -> usize {
        self.counts.peak.load(Ordering::SeqCst)
    }

    /// Connections ever accepted.
    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.counts.open.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Dials a hub and shakes hands: from then on the hub asks.
pub async fn dial(hub: SocketAddr, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(hub).await.expect("a hub");
    let (head, _) = shake(&mut stream, headers).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    stream
}

/// Offers a slot; the head of the answer, and its body.
pub async fn shake(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    headers: &str,
) -> (String, String) {
    let request = format!(
        "GET /slot HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: faucet-slot/1\r\n{headers}\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .await
        .expect("it listens");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("an answer"));
    }
    let head = String::from_utf8(head).expect("text");
    let (_, lines) = head.split_once("\r\n").expect("a status line");
    let length = parse_headers(lines);
    let length =
        find(&length, "content-length").map_or(0, |length| length.parse().expect("a number"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.expect("a body");
    (head, String::from_utf8(body).expect("text"))
}

async fn serve(listener: TcpListener, handler: Handler, counts: Arc<Counts>) {
    // Dropping the set with this task closes all connections.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = counts.connections.load(Ordering::SeqCst);
        let wire = Wire::over(stream, &counts);
        connections.spawn(converse(wire, handler.clone(), counts.clone(), number));
    }
}

async fn converse(mut wire: Wire, handler: Handler, counts: Arc<Counts>, number: usize) {
    while let Some(seen) = wire.request(&counts, number).await {
        match handler(seen, wire).await {
            Some(kept) => wire = kept,
            None => return,
        }
    }
}
