//! What front and native worker have to tell each other beside HTTP.
//!
//! A native worker is one that faucet itself serves in (see [`serve`](crate::serve)). Both ends are
//! this very program, on one machine, and meet at two sockets in a folder that is the server's alone:
//! `<path>` carries HTTP/1.1, `<path>.control` carries notes about the request in flight, a line each:
//!
//! ```text
//! interrupt <number> left        -> interrupted | over
//! interrupt <number> deadline    -> interrupted | over
//! tell <number>                  -> told | over
//! docs                           -> docs <path> | none
//! signature                      -> signature <json> | none
//! routes                         -> routes <json> | none
//! ```
//!
//! `left` waits for the answer until the worker is past what it shields; `deadline` does not; `tell` only lets
//! the worker know that the client has gone. `docs` asks where the app has its page of documentation, `signature` what a function takes,
//! `routes` which routes the app has, and which of them are compiled.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::header::HeaderName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Notify;

use crate::functions::Signature;
use crate::ops::routes::AppRoutes;

/// On a request: its number on this worker, decimal, rising. Taken off by the worker.
pub const REQUEST_NUMBER: HeaderName = HeaderName::from_static("faucet-request");

/// On a request: the rest of its body is this file, which the front keeps open; the value is the
/// number of bytes, a space, and the path. What comes over the socket is the beginning.
pub const BODY_FILE: HeaderName = HeaderName::from_static("faucet-body-file");

/// On a request: its body comes bit by bit, and is to be read as it comes. Fronts say it to each other, too.
pub const FLOW: HeaderName = HeaderName::from_static("faucet-flow");

/// On a response: it is written bit by bit for a client that listens, and waits for a slow one.
pub const STREAM: HeaderName = HeaderName::from_static("faucet-stream");

/// On a response without a body: its body is the file with this absolute path.
pub const FILE: HeaderName = HeaderName::from_static("faucet-file");

/// On a response: what was refused in the worker, for who keeps functions: see
/// [`refusals`](crate::functions::management::refusals).
pub const REFUSED: HeaderName = HeaderName::from_static("faucet-refused");

/// The control socket beside a worker's socket.
pub fn control_path(socket: &Path) -> PathBuf {
    let mut path = socket.as_os_str().to_owned();
    path.push(".control");
    path.into()
}

/// Whose process is to listen at this path: the folder that it is in is that user's alone, and is in one of ours.
fn owner(socket: &Path) -> io::Result<u32> {
    let folder = socket.parent().ok_or(io::ErrorKind::NotFound)?;
    Ok(std::fs::metadata(folder)?.uid())
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether the process at the other end is the one that is to listen at this path. In its folder, a worker of another user could
/// put a link to a socket where we are listened to, and it is not.
///
/// # Errors
/// It is not, or that cannot be told.
pub fn check_peer(stream: &UnixStream, socket: &Path) -> io::Result<()> {
    if stream.peer_cred()?.uid() == owner(socket)? {
        return Ok(());
    }
    let message = format!("somebody else listens at {}", socket.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

/// What becomes of a request whose client has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancelling {
    /// Whether it is interrupted.
    pub cancel: bool,
    /// How long R may take to obey an interrupt before its process is replaced.
    pub interrupt_timeout: Duration,
}

impl Cancelling {
    /// How long a worker may take to say anything at all before it counts as frozen. A busy machine needs its time, however
    /// soon an interrupt has to be obeyed.
    pub fn answer_timeout(&self) -> Duration {
        self.interrupt_timeout.max(SLOWEST)
    }
}

/// See [`Cancelling::answer_timeout`].
const SLOWEST: Duration = Duration::from_secs(2);

/// The longest answer on the control socket, in bytes.
const LONGEST: u64 = 64;

/// The longest signature, in bytes: a function has many arguments at times, but no book.
const LONGEST_SIGNATURE: u64 = 256 * 1024;

/// The longest list of routes, in bytes. A worker leaves out what does not fit.
const LONGEST_ROUTES: u64 = 1024 * 1024;

/// How long a worker may take to tell of itself: a thread of faucet's own answers.
const ABOUT: Duration = Duration::from_secs(2);

/// What the worker at `socket` answers to a question about itself, if it says so in time.
async fn ask(socket: &Path, question: &str, longest: u64) -> Option<String> {
    let ask = async {
        let mut stream = UnixStream::connect(control_path(socket)).await?;
        stream.write_all(format!("{question}\n").as_bytes()).await?;
        let mut answer = String::new();
        let mut reader = BufReader::new(stream.take(longest));
        reader.read_line(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let answer = tokio::time::timeout(ABOUT, ask).await.ok()?.ok()?;
    Some(answer.strip_suffix('\n')?.to_owned())
}

/// The same, if it has an answer.
async fn about(socket: &Path, question: &str, longest: u64) -> Option<String> {
    let answer = ask(socket, question, longest).await?;
    let answer = answer.strip_prefix(question)?.strip_prefix(' ')?;
    Some(answer.to_owned())
}

/// What the function takes that the worker at `socket` serves; `None` for other apps.
pub async fn signature(socket: &Path) -> Option<Signature> {
    let answer = about(socket, "signature", LONGEST_SIGNATURE).await?;
    Signature::from_json(&serde_json::from_str(&answer).ok()?)
}

/// The path of the app's page of documentation, if it has one and the worker at `socket` says so in time.
pub async fn docs(socket: &Path) -> Option<String> {
    let path = about(socket, "docs", LONGEST).await?;
    // The app has a say in it, and it is shown to people.
    let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    is_path.then_some(path)
}

/// The routes of the app that the worker at `socket` serves, none if it is no router; `None` if it does not say, or too much.
pub async fn routes(socket: &Path) -> Option<Option<AppRoutes>> {
    let answer = ask(socket, "routes", LONGEST_ROUTES).await?;
    Some(
        answer
            .strip_prefix("routes ")
            .and_then(AppRoutes::from_json),
    )
}

/// An answer on the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// What was asked for is done: `interrupted`, `told`.
    Done,
    /// It knows no such request in flight.
    Over,
}

/// The front's line to a native worker. It takes one request at a time: its lease has one slot.
#[derive(Debug)]
pub struct Native {
    control: PathBuf,
    /// The other user whose process it is, if it is one's: files are not passed by their names then, as it cannot open what is
    /// ours, and we must not open for it what is not its.
    pub foreign: Option<u32>,
    cancelling: Cancelling,
    /// The number of the request in flight, 0 when there is none.
    current: AtomicU64,
    /// Tells that a request is not in flight any more.
    ended: Notify,
    /// The last request that counts as cancelled.
    cancelled: AtomicU64,
    /// The last request that the worker is known not to give up.
    stuck: AtomicU64,
}

impl Native {
    /// `socket` is where the worker serves HTTP.
    pub fn new(socket: &Path, cancelling: Cancelling) -> Self {
        Self {
            control: control_path(socket),
            foreign: owner(socket).ok().filter(|uid| *uid != own_uid()),
            cancelling,
            current: AtomicU64::new(0),
            ended: Notify::new(),
            cancelled: AtomicU64::new(0),
            stuck: AtomicU64::new(0),
        }
    }

    /// A request is about to be sent.
    pub fn begin(&self, number: u64) {
        self.current.store(number, Ordering::Relaxed);
    }

    /// A request's exchange is over.
    pub fn end(&self, number: u64) {
        // Only its own: what came after it is still in flight.
        let _ = self
            .current
            .compare_exchange(number, 0, Ordering::Relaxed, Ordering::Relaxed);
        self.ended.notify_waiters();
    }

    fn is_in_flight(&self, number: u64) -> bool {
        self.current.load(Ordering::Relaxed) == number
    }

    /// Resolves when that request is not in flight any more.
    pub async fn over(&self, number: u64) {
        loop {
            let mut ended = pin!(self.ended.notified());
            // Before the look, so that an end between look and wait is not missed.
            ended.as_mut().enable();
            if !self.is_in_flight(number) {
                return;
            }
            ended.await;
        }
    }

    pub fn cancelling(&self) -> Cancelling {
        self.cancelling
    }

    /// Whether that request counts as cancelled from now on: it may be asked twice to stop, as its client left
    /// and its deadline passed.
    pub fn note_cancelled(&self, number: u64) -> bool {
        self.cancelled.swap(number, Ordering::Relaxed) != number
    }

    /// Whether the worker counts as stuck with that request from now on.
    pub fn note_stuck(&self, number: u64) -> bool {
        self.stuck.swap(number, Ordering::Relaxed) != number
    }

    /// Says a line at the control socket and waits for its answer, however long that takes.
    ///
    /// # Errors
    /// There is no connection, it broke, or what came over it is not an answer.
    pub async fn say(&self, line: &str) -> io::Result<Said> {
        let mut stream = UnixStream::connect(&self.control).await?;
        stream.write_all(line.as_bytes()).await?;
        read_answer(stream).await
    }
}

pub(super) async fn read_answer(stream: impl AsyncRead + Unpin) -> io::Result<Said> {
    let mut answer = String::new();
    BufReader::new(stream.take(LONGEST))
        .read_line(&mut answer)
        .await?;
    match answer.as_str() {
        "interrupted\n" | "told\n" => Ok(Said::Done),
        "over\n" => Ok(Said::Over),
        "" => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
