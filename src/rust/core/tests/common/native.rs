//! A native worker that does what a test says, and hears what it is told.

use std::convert::Infallible;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use faucet_core::worker::native::{control_path, Cancelling, Native, FILE, STREAM};
use faucet_core::worker::{Address, Report, Worker};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::{until, Gate, House, Plan, SOON};

/// Obey what a client that leaves asks for, and obey it soon.
pub const CANCEL: Cancelling = Cancelling {
    cancel: true,
    interrupt_timeout: SOON,
};

/// Work on, whoever leaves.
pub const WORK_ON: Cancelling = Cancelling {
    cancel: false,
    interrupt_timeout: SOON,
};

/// Obey, however long it takes.
pub const PATIENT: Cancelling = Cancelling {
    cancel: true,
    interrupt_timeout: Duration::from_secs(3600),
};

/// What is said at the control socket.
#[derive(Clone)]
pub enum Control {
    /// Interrupts at once.
    Obey,
    /// Interrupts for a client that has left when the gate opens, for a deadline at once.
    Shield(Gate),
    /// Has not heard of the request yet, the first time.
    Behind,
    /// Breaks off without a word.
    Break,
    /// There is no socket.
    Absent,
    /// Takes a line and never answers.
    Mute,
    /// Answers with what is no answer.
    Babble,
}

/// The body of an answer.
pub type Answer = Response<BoxBody<Bytes, Infallible>>;

pub fn text(status: u16, text: impl Into<Bytes>) -> Answer {
    Response::builder()
        .status(status)
        .body(Full::new(text.into()).boxed())
        .expect("valid")
}

/// An answer whose body is that file.
pub fn file(path: &std::path::Path) -> Answer {
    use std::os::unix::ffi::OsStrExt;
    let mut answer = text(200, "");
    let path = path.as_os_str().as_bytes();
    let path = hyper::header::HeaderValue::from_bytes(path).expect("valid");
    answer.headers_mut().insert(FILE, path);
    answer
}

/// A stream, and where to write it: at most one chunk waits to be read.
pub fn stream() -> (Answer, mpsc::Sender<Bytes>) {
    let (sender, receiver) = mpsc::channel(1);
    let mut answer = Response::new(Chunks(receiver).boxed());
    let flag = hyper::header::HeaderValue::from_static("1");
    answer.headers_mut().insert(STREAM, flag);
    (answer, sender)
}

struct Chunks(mpsc::Receiver<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// A request as its handler gets it. In flight for as long as it exists.
pub struct Asked {
    pub number: u64,
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    interrupts: watch::Receiver<u64>,
    told: watch::Receiver<u64>,
    state: Arc<State>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Resolves when this request is interrupted.
    pub async fn interrupted(&mut self) {
        let number = self.number;
        // Its sender lives as long as the worker.
        let _ = self.interrupts.wait_for(|hit| *hit == number).await;
    }

    /// Resolves when it is known that its client has left.
    pub async fn told(&mut self) {
        let number = self.number;
        let _ = self.told.wait_for(|told| *told == number).await;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut current = self.state.current.lock().expect("no panic");
        current.retain(|number| *number != self.number);
    }
}

struct State {
    control: Control,
    /// The requests in flight, by number.
    current: Mutex<Vec<u64>>,
    peak: AtomicUsize,
    numbers: Mutex<Vec<u64>>,
    lines: Mutex<Vec<String>>,
    connections: AtomicUsize,
    interrupts: watch::Sender<u64>,
    told: watch::Sender<u64>,
}

impl State {
    /// The answer to a line; `None` to break off.
    async fn answer(&self, line: &str) -> Option<&'static str> {
        let heard = {
            let mut lines = self.lines.lock().expect("no panic");
            lines.push(line.to_owned());
            lines.len()
        };
        let words: Vec<&str> = line.split(' ').collect();
        let number: u64 = words[1].parse().expect("a number");
        let in_flight = || {
            let current = self.current.lock().expect("no panic");
            current.contains(&number)
        };
        match &self.control {
            Control::Break | Control::Absent => return None,
            Control::Mute => return std::future::pending().await,
            Control::Babble => return Some("\u{1b}[31mwhat do you want of me, \0, who has nothing to say, and says it at length?"),
            Control::Behind if heard == 1 => return Some("over"),
            Control::Shield(gate) if words.get(2) == Some(&"left") && in_flight() => {
                gate.pass().await;
            }
            _ => {}
        }
        if !in_flight() {
            return Some("over");
        }
        match words[0] {
            "interrupt" => {
                assert!(matches!(words[2], "left" | "deadline"), "{line}");
                self.interrupts.send_replace(number);
                Some("interrupted")
            }
            "tell" => {
                self.told.send_replace(number);
                Some("told")
            }
            _ => panic!("not a word of the language: {line}"),
        }
    }
}

type Work = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Handler = Arc<dyn Fn(Asked) -> Work + Send + Sync>;

/// One worker.
pub struct NativeWorker {
    pub socket: PathBuf,
    state: Arc<State>,
    tasks: Vec<AbortHandle>,
    reports: Arc<Mutex<Vec<Report>>>,
    _folder: tempfile::TempDir,
}

impl NativeWorker {
    pub fn start<F, Fut>(control: Control, handler: F) -> Self
    where
        F: Fn(Asked) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("1");
        let handler: Handler = Arc::new(move |asked| Box::pin(handler(asked)));
        let state = Arc::new(State {
            control: control.clone(),
            current: Mutex::default(),
            peak: AtomicUsize::new(0),
            numbers: Mutex::default(),
            lines: Mutex::default(),
            connections: AtomicUsize::new(0),
            interrupts: watch::channel(0).0,
            told: watch::channel(0).0,
        });
        let listener = UnixListener::bind(&socket).expect("a free path");
        let mut tasks = vec![tokio::spawn(serve(listener, handler, state.clone())).abort_handle()];
        if !matches!(control, Control::Absent) {
            let listener = UnixListener::bind(control_path(&socket)).expect("a free path");
            tasks.push(tokio::spawn(hear(listener, state.clone())).abort_handle());
        }
        Self {
            socket,
            state,
            tasks,
            reports: Arc::default(),
            _folder: folder,
        }
    }

    /// Works on a request until it is interrupted or the gate opens.
    pub fn gated(control: Control) -> (Self, Gate) {
        let gate = Gate::default();
        let inner = gate.clone();
        let worker = Self::start(control, move |mut asked: Asked| {
            let gate = inner.clone();
            async move {
                tokio::select! {
                    () = asked.interrupted() => text(500, "interrupted"),
                    () = gate.pass() => text(200, asked.target.clone()),
                }
            }
        });
        (worker, gate)
    }

    /// Works on a request until the gate opens, whatever is said.
    pub fn deaf(control: Control) -> (Self, Gate) {
        let gate = Gate::default();
        let inner = gate.clone();
        let worker = Self::start(control, move |asked: Asked| {
            let gate = inner.clone();
            async move {
                gate.pass().await;
                text(200, asked.target.clone())
            }
        });
        (worker, gate)
    }

    /// A front with this worker alone.
    pub async fn house(&self, cancelling: Cancelling, change: impl FnOnce(&mut Plan)) -> House {
        let house = House::start(Vec::new(), change).await;
        let sink = self.reports.clone();
        let worker = Worker::new(
            1,
            1,
            Address::Unix(self.socket.clone()),
            Box::new(move |_, report| sink.lock().expect("no panic").push(report)),
        )
        .with_native(Native::new(&self.socket, cancelling));
        house.pool.table.add(Arc::new(worker), 1);
        house
    }

    /// Dies: sockets and connections close.
    pub fn kill(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }

    /// The numbers of the requests that came, in order.
    pub fn numbers(&self) -> Vec<u64> {
        self.state.numbers.lock().expect("no panic").clone()
    }

    /// What came at the control socket.
    pub fn lines(&self) -> Vec<String> {
        self.state.lines.lock().expect("no panic").clone()
    }

    /// What the front reported.
    pub fn reports(&self) -> Vec<Report> {
        self.reports.lock().expect("no panic").clone()
    }

    /// Waits until so many requests have arrived.
    pub async fn arrived(&self, count: usize) {
        until("requests arrive at the worker", || {
            self.numbers().len() >= count
        })
        .await;
    }

    /// Waits until this was said.
    pub async fn heard(&self, line: &str) {
        until("it is said at the control socket", || {
            self.lines().iter().any(|heard| heard == line)
        })
        .await;
    }

    pub async fn reported(&self, report: Report) {
        until("it is reported", || self.reports().contains(&report)).await;
    }

    /// The most requests there ever were at once.
    pub fn peak(&self) -> usize {
        self.state.peak.load(Ordering::SeqCst)
    }

    /// Connections ever accepted.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

impl Drop for NativeWorker {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn serve(listener: UnixListener, handler: Handler, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::SeqCst);
        let (handler, state) = (handler.clone(), state.clone());
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, handler.clone(), state.clone()));
            // The front may break off.
            let _ = hyper::server::conn::http1::Builder::new()
                .max_headers(256)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    handler: Handler,
    state: Arc<State>,
) -> Result<Answer, hyper::Error> {
    let number = request.headers()["faucet-request"]
        .to_str()
        .expect("text")
        .parse()
        .expect("a number");
    let (parts, body) = request.into_parts();
    let asked = Asked {
        number,
        method: parts.method.to_string(),
        target: parts.uri.to_string(),
        headers: parts.headers,
        body: body.collect().await?.to_bytes(),
        interrupts: state.interrupts.subscribe(),
        told: state.told.subscribe(),
        state: state.clone(),
    };
    let in_flight = {
        let mut current = state.current.lock().expect("no panic");
        current.push(number);
        current.len()
    };
    state.peak.fetch_max(in_flight, Ordering::SeqCst);
    state.numbers.lock().expect("no panic").push(number);
    Ok(handler(asked).await)
}

async fn hear(listener: UnixListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(hear_one(stream, state.clone()));
    }
}

async fn hear_one(stream: UnixStream, state: Arc<State>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.ok()? > 0 {
        let answer = state.answer(line.trim_end()).await?;
        let answer = format!("{answer}\n");
        stream.write_all(answer.as_bytes()).await.ok()?;
        line.clear();
    }
    Some(())
}
