//! What a front and a worker on another machine tell each other, if faucet runs there, too.
//!
//! Several fronts may use the same such worker, each with a lock table of its own: then the lock lives with the
//! worker. The front asks not to be kept waiting ([`WAIT`]), the worker says when it has nobody free ([`BUSY`]) and
//! how many it has ([`WORKERS`]). A front that was told so asks for a [`TURN`], and comes back when it has one.
//! A worker that is no faucet takes no notice.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, HOST};
use hyper::{Request, Response, StatusCode, Uri};

use super::{Connection, Outgoing, Report, SendFailed, Worker};
use crate::environment::SystemError;
use crate::tls::Peer;

/// In a request: how many seconds it may wait for a worker there. Fronts send `0`.
pub const WAIT: HeaderName = HeaderName::from_static("faucet-wait");
pub const NO_WAIT: HeaderValue = HeaderValue::from_static("0");

/// In a request: the name of the pool there that it is for. What has no pool in its path, a [`TURN`] or a look, is for this one.
pub const POOL: HeaderName = HeaderName::from_static("faucet-pool");

/// In a `503`: the request was not worked on, and may go anywhere. In any other response: others wait for a worker
/// there, or have it by now, and whoever comes next should ask for a turn.
pub const BUSY: HeaderName = HeaderName::from_static("faucet-busy");

/// In the answer to a [`TURN`]: its name. In a call by gRPC, which has a connection of its own: the turn that it is for.
pub const TURN_NAME: HeaderName = HeaderName::from_static("faucet-turn");

/// In a response: how many requests are served at a time there.
pub const WORKERS: HeaderName = HeaderName::from_static("faucet-workers");

/// In a request whose answer is the input of a chain's next stage: [`KEEP_IT`] if what is streamed is to be kept there, for somebody
/// else to take, or [`PASS_IT_ON`].
pub const KEEP: HeaderName = HeaderName::from_static("faucet-keep");
pub const KEEP_IT: HeaderValue = HeaderValue::from_static("1");
pub const PASS_IT_ON: HeaderValue = HeaderValue::from_static("0");

/// In a response: the body has no bytes, and ends or breaks off as those do that are kept; they are had once, by this token. In the
/// response to whoever takes them it is said again.
pub const KEPT: HeaderName = HeaderName::from_static("faucet-kept");

/// In a request: the body has no bytes, and those that are meant are kept at this URL, or here if it is but a path. In a response
/// that says [`NO_SOURCE`]: why they cannot be had.
pub const SOURCE: HeaderName = HeaderName::from_static("faucet-source");

/// In a response: why a faucet answered in place of a worker.
pub const ERROR: HeaderName = HeaderName::from_static("faucet-error");

/// The value of [`ERROR`] when what a function runs has failed: it is said by a worker, and says that it has worked.
pub const FUNCTION_ERROR: &str = "function_error";

/// The same for options that a function does not take.
pub const BAD_OPTION: &str = "bad_option";

/// The value of [`ERROR`] when a request's bytes could not be had from where they are. Nothing was worked on.
pub const NO_SOURCE: &str = "no_source";

/// Why a function has refused a call, or failed: of all causes those that workers may name.
const OF_FUNCTIONS: [&str; 5] = [
    BAD_OPTION,
    FUNCTION_ERROR,
    "bad_input",
    "not_acceptable",
    "unsupported_input",
];

/// The path that waits until a worker is free, and keeps it for the next request on the same connection.
pub const TURN: &str = "/__faucet__/turn";

/// The path that tells whether there are workers.
const READY: &str = "/__faucet__/readyz";

/// How long a turn is waited for: longer than the other side lets anyone wait.
const TURN_PATIENCE: Duration = Duration::from_secs(30);

/// How long a look at a worker may take in all.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// The longest body, in bytes, that is read for nothing but the connection it came on.
const SMALL: usize = 64 * 1024;

/// A worker's other side, as far as it is known.
#[derive(Debug)]
pub struct Remote {
    /// Zero until it has said that it is a faucet.
    workers: AtomicU32,
    /// Whether it is to give up requests that nobody waits for: then the connection is closed. Only a faucet
    /// notices.
    cancel: bool,
    /// Whether the connection is all that there is of it: one that is closed is noticed by any worker.
    is_slot: bool,
    /// If it is reached with TLS.
    peer: Option<Peer>,
    /// If it may have several pools: the one that it is a worker of.
    pool: Option<HeaderValue>,
}

impl Remote {
    pub fn new(cancel: bool) -> Self {
        Self {
            workers: AtomicU32::new(0),
            cancel,
            is_slot: false,
            peer: None,
            pool: None,
        }
    }

    /// The same, as a worker of this pool there.
    #[must_use]
    pub fn with_pool(mut self, pool: Option<HeaderValue>) -> Self {
        self.pool = pool;
        self
    }

    /// Adds to a request what a faucet there wants to know.
    pub fn tell(&self, headers: &mut HeaderMap) {
        headers.insert(WAIT, NO_WAIT);
        if let Some(pool) = &self.pool {
            headers.insert(POOL, pool.clone());
        }
    }

    /// The same, reached with TLS if there is a peer.
    #[must_use]
    pub fn with_peer(mut self, peer: Option<Peer>) -> Self {
        self.peer = peer;
        self
    }

    /// With whom hands are to be shaken.
    pub fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// Of a slot that a worker has dialled in with.
    pub fn of_slot(cancel: bool) -> Self {
        Self {
            is_slot: true,
            ..Self::new(cancel)
        }
    }

    /// Whether faucet runs there: then it keeps its own lock.
    pub fn is_faucet(&self) -> bool {
        self.workers.load(Ordering::Relaxed) > 0
    }

    /// Whether it sends no more than HTTP asks for.
    pub fn is_exact(&self) -> bool {
        self.is_slot || self.is_faucet()
    }

    /// Whether an exchange may be broken off: what becomes of it is the other side's to see to.
    pub fn may_break_off(&self) -> bool {
        self.cancel && (self.is_slot || self.is_faucet())
    }

    /// How many workers it has said to have.
    pub fn workers(&self) -> Option<u32> {
        let count = self.workers.load(Ordering::Relaxed);
        (count > 0).then_some(count)
    }

    /// Something else answers there now; whether that is news.
    fn note_no_faucet(&self) -> bool {
        // Most are none, and say so with each answer.
        self.is_faucet() && self.workers.swap(0, Ordering::Relaxed) > 0
    }

    /// It has said how many workers it has; whether that is news. A faucet without workers now keeps one slot.
    pub fn note_workers(&self, count: u32) -> bool {
        self.workers.swap(count.max(1), Ordering::Relaxed) != count.max(1)
    }
}

/// Takes note of what an answer says of the faucet there; news go to the worker's source.
pub fn note(worker: &Worker, headers: &HeaderMap) {
    let Some(remote) = &worker.remote else {
        return;
    };
    if !headers.contains_key(WORKERS) {
        // A faucet that could not read the request says no more than that.
        if !headers.contains_key(ERROR) && remote.note_no_faucet() {
            worker.report(Report::NoFaucet);
        }
        return;
    }
    if let Some(count) = said_workers(headers).filter(|count| remote.note_workers(*count)) {
        worker.report(Report::Slots(count.max(1)));
    }
}

/// The value of [`WORKERS`].
pub(super) fn said_workers(headers: &HeaderMap) -> Option<u32> {
    headers.get(WORKERS)?.to_str().ok()?.parse().ok()
}

/// Whether a faucet says [`BUSY`]. It never does without [`WORKERS`]; an API might.
pub fn is_crowded(headers: &HeaderMap) -> bool {
    headers.contains_key(BUSY) && headers.contains_key(WORKERS)
}

/// Whether the request was not worked on.
pub fn is_refusal(status: StatusCode, headers: &HeaderMap) -> bool {
    // A faucet that answers itself in place of a worker has other statuses, too.
    is_crowded(headers)
        && (status == StatusCode::SERVICE_UNAVAILABLE
            || headers.contains_key(ERROR) && error_of_function(headers).is_none())
}

/// Whether the request was not worked on, as its bytes could not be had from where they are.
pub fn is_without_source(headers: &HeaderMap) -> bool {
    says(headers, ERROR, NO_SOURCE) && headers.contains_key(WORKERS)
}

/// What a function, in place of a faucet, says that is wrong.
pub fn error_of_function(headers: &HeaderMap) -> Option<HeaderValue> {
    let error = headers.get(ERROR)?;
    let known = OF_FUNCTIONS.iter().any(|known| error == known);
    known.then(|| error.clone())
}

/// Reads a body that is of no interest; whether its connection can carry the next request.
pub async fn skip(connection: &mut Connection, body: &mut Incoming) -> bool {
    let mut left = SMALL;
    while let Some(frame) = connection.drive(body.frame()).await {
        let length = match frame {
            Ok(frame) => frame.data_ref().map_or(0, |data| data.len()),
            Err(_) => return false,
        };
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    connection.is_reusable().await
}

/// What came of asking for a turn.
pub enum TurnOutcome {
    /// The next request on this connection has a worker there: keep it with the worker, then resume that.
    Granted(Box<Connection>),
    /// Others had it: ask again.
    Busy,
    /// Too many wait there already: ask again later.
    Full,
    /// It gives this front none, but may serve it.
    Refused,
    /// It takes no requests now.
    Denied,
    Unreachable,
}

/// Waits for a free worker in a faucet that had none. For one whose worker is suspended: nobody else takes its
/// connections then.
pub async fn take_turn(worker: &Worker, authority: &str) -> TurnOutcome {
    match tokio::time::timeout(TURN_PATIENCE, ask_for_turn(worker, authority)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) | Err(_) => TurnOutcome::Unreachable,
    }
}

async fn ask_for_turn(worker: &Worker, authority: &str) -> io::Result<TurnOutcome> {
    let mut kept = worker.take_connection();
    let (mut connection, response) = loop {
        let reused = kept.is_some();
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => worker.connect().await?,
        };
        match get(&mut connection, worker, authority, TURN).await {
            Ok(response) => break (connection, response),
            // It had been closed meanwhile; asking twice does no harm.
            Err(_) if reused => {}
            Err(error) => return Err(error),
        }
    };
    note(worker, response.headers());
    let granted = response.status() == StatusCode::OK;
    let refused = |cause| says(response.headers(), ERROR, cause);
    let outcome = if refused("busy") || refused("queue_timeout") {
        TurnOutcome::Busy
    } else if refused("queue_full") {
        TurnOutcome::Full
    } else if refused("no_route") && worker.remote.as_ref().is_some_and(|to| to.pool.is_some()) {
        // It has not got the pool, or not yet.
        TurnOutcome::Denied
    } else if response.status() == StatusCode::NOT_FOUND {
        TurnOutcome::Refused
    } else {
        TurnOutcome::Denied
    };
    let name = response.headers().get(TURN_NAME).cloned();
    let reusable = skip(&mut connection, &mut response.into_body()).await;
    if granted && reusable {
        connection.give_turn(name);
        return Ok(TurnOutcome::Granted(Box::new(connection)));
    }
    if reusable {
        worker.keep_connection(connection);
    }
    Ok(outcome)
}

/// Gives a turn back by asking for something else, and keeps the connection if it can be used again.
pub async fn give_turn_back(worker: &Worker, mut connection: Connection, authority: &str) {
    let asked = async {
        let response = get(&mut connection, worker, authority, READY).await;
        match response {
            Ok(response) => skip(&mut connection, &mut response.into_body()).await,
            Err(_) => false,
        }
    };
    if matches!(tokio::time::timeout(PROBE_PATIENCE, asked).await, Ok(true)) {
        worker.keep_connection(connection);
    }
}

/// Looks whether a worker is there: whether it takes connections and, if there is a path, answers it well. One that runs
/// faucet is asked in any case whether it has workers.
///
/// # Errors
/// What is wrong, for the log.
pub async fn probe(
    worker: &Worker,
    authority: &str,
    ready_path: Option<&str>,
) -> Result<(), String> {
    let path = ready_path.or_else(|| worker.is_faucet().then_some(READY));
    let look = async {
        let mut connection = worker.open().await?;
        let Some(path) = path else {
            return Ok::<_, io::Error>(None);
        };
        let response = get(&mut connection, worker, authority, path).await?;
        note(worker, response.headers());
        // What is no faucet any more does not know our path, and takes connections.
        let asked = ready_path.is_some() || worker.is_faucet();
        Ok(asked.then_some(response))
    };
    let looked = tokio::time::timeout(PROBE_PATIENCE, look).await;
    match looked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            let patience = PROBE_PATIENCE.as_secs();
            Err(format!("did not answer within {patience} s"))
        }
        Err(error) => Err(text(&error)),
        Ok(Some(response)) if !is_well(&response) => Err(format!(
            "answered {} to {}",
            response.status().as_u16(),
            path.unwrap_or_default()
        )),
        Ok(_) => Ok(()),
    }
}

/// Whether it serves. A faucet with all its workers at work does.
fn is_well(response: &Response<Incoming>) -> bool {
    let headers = response.headers();
    response.status().is_success()
        || (says(headers, ERROR, "busy")
            && headers.contains_key(WORKERS)
            && !says(headers, WORKERS, "0"))
}

fn says(headers: &HeaderMap, name: HeaderName, value: &str) -> bool {
    headers.get(name).is_some_and(|said| said == value)
}

/// What went wrong, in few words.
fn text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::Other => error.to_string(),
        // Whose certificate is not believed, as a rule.
        io::ErrorKind::InvalidData if error.get_ref().is_some() => format!("TLS: {error}"),
        // Without the number.
        _ if error.raw_os_error().is_some() => SystemError(error).to_string().to_lowercase(),
        kind => kind.to_string(),
    }
}

/// Asks for a path with nothing but the headers that it takes.
async fn get(
    connection: &mut Connection,
    worker: &Worker,
    authority: &str,
    path: &str,
) -> io::Result<Response<Incoming>> {
    let mut request = Request::new(Outgoing::Empty);
    *request.uri_mut() = Uri::try_from(path).map_err(io::Error::other)?;
    let host = HeaderValue::from_str(authority)
        .or_else(|_| HeaderValue::from_str(&worker.address.to_string()))
        .map_err(io::Error::other)?;
    request.headers_mut().insert(HOST, host);
    match &worker.remote {
        Some(remote) => remote.tell(request.headers_mut()),
        None => drop(request.headers_mut().insert(WAIT, NO_WAIT)),
    }
    connection
        .send(request, None)
        .await
        .map_err(|(failed, _)| match failed {
            SendFailed::Unsent
            | SendFailed::Stale
            | SendFailed::Died
            | SendFailed::Broken(_)
            | SendFailed::Silent => io::Error::other("broke the connection off"),
            SendFailed::Garbled(_) => io::Error::other("answered with something that is not HTTP"),
        })
}
