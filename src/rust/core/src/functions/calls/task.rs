//! The task of a call: from its place in the queue to its end.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::BodyExt;
use hyper::header::{HeaderName, HeaderValue, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode, Uri};
use percent_encoding::{utf8_percent_encode, NON_ALPHANUMERIC};
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;

use super::call::{Call, Outcome, State};
use super::store::new_file;
use super::{blocking, error, CallId, Calls, Ending};
use crate::client::RequestBody;
use crate::client_address::ClientAddress;
use crate::environment::SystemError;
use crate::front::{Told, FAUCET_ERROR};
use crate::functions::Chain;

/// What is left of a request's time, in seconds.
const FAUCET_DEADLINE: HeaderName = HeaderName::from_static("faucet-deadline");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How long a call without a limit of its own may wait for workers.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// How much later than its deadline an answer may come that says that it has passed.
const GRACE: Duration = Duration::from_secs(1);

/// Between two tries of a call that found no worker: this, then twice as long each time, up to the most.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
const MOST_PAUSE: Duration = Duration::from_secs(30);

/// How much of an answer that is an error is kept, in bytes.
const MOST_ERROR: usize = 64 * 1024;

/// What nobody has worked on yet, by its `Faucet-Error`.
const UNWORKED: [&str; 7] = [
    "queue_full",
    "queue_timeout",
    "no_workers",
    "busy",
    "overloaded",
    "draining",
    "too_many_connections",
];

/// What is not served, by the same: before any function has worked.
const UNKNOWN: [&str; 2] = ["no_function", "no_route"];

/// How long after its start a server may not have all functions yet that it had before.
const STARTING: Duration = Duration::from_secs(60);

/// The body of a call's request.
pub type Input = RequestBody;

/// The answer to it. The end of its body is an error if it is broken off.
pub type Answered = Response<UnsyncBoxBody<Bytes, String>>;

/// Who runs chains: the server itself, by a request to itself.
pub trait Runner: Send + Sync + 'static {
    /// Why a chain would not be begun now; `None` if it would.
    fn refusal(&self, chain: &Chain) -> Option<Told>;

    /// Makes a request for a client. To drop the future, or the answer's body, is to leave.
    fn run(
        &self,
        request: Request<Input>,
        client: ClientAddress,
    ) -> Pin<Box<dyn Future<Output = Answered> + Send>>;
}

/// How one run of a call has ended.
enum Run {
    Over(State),
    /// Nobody has worked on it: why, and when to come again, at least.
    Unworked(Value, Duration),
}

impl Calls {
    /// Sees a call to its end, and tells that.
    pub(super) async fn attend(self: Arc<Self>, id: CallId) {
        if let Some(ended) = self.ended(id) {
            self.run(id, ended).await;
            self.deliver(id).await;
        }
    }

    /// Runs it, again and again while nobody works on it, until it has ended, or the server is about to.
    async fn run(self: &Arc<Self>, id: CallId, mut ended: watch::Receiver<bool>) {
        let mut pause = LEAST_PAUSE;
        while !*ended.borrow() {
            let place = tokio::select! {
                biased;
                () = self.until(Ending::Closing) => return,
                _ = ended.wait_for(|ended| *ended) => return,
                place = self.places.acquire() => place,
            };
            let Some(call) = self.enter(id).await else {
                return;
            };
            // Whoever cancels it has its functions hear of that: nobody reads what they answer.
            let run = tokio::select! {
                biased;
                _ = ended.wait_for(|ended| *ended) => None,
                // That it runs is written down.
                () = self.until(Ending::Cut) => return,
                run = self.run_once(&call) => Some(run),
            };
            let (why, least) = match run {
                // What it had written by then goes, too.
                None => return self.settle(id).await,
                Some(Run::Over(state)) => return self.end(id, state).await,
                Some(Run::Unworked(why, least)) => (why, least),
            };
            let pause_now = pause.max(least);
            let gone = SystemTime::now().duration_since(call.created);
            if gone.unwrap_or_default() + pause_now > call.timeout.unwrap_or(LONGEST_WAIT) {
                return self.end(id, State::Failed(why)).await;
            }
            self.leave(id).await;
            drop(place);
            tokio::select! {
                () = self.until(Ending::Closing) => return,
                _ = ended.wait_for(|ended| *ended) => return,
                () = tokio::time::sleep(pause_now) => {}
            }
            pause = (2 * pause).min(MOST_PAUSE);
        }
    }

    /// It waits again: nobody has worked on it.
    async fn leave(self: &Arc<Self>, id: CallId) {
        self.change(id, |call| {
            call.state = State::Queued;
            call.runs = call.runs.saturating_sub(1);
        });
        if let Err(problem) = self.save(id).await {
            let why = SystemError(&problem);
            tracing::error!("that call {id} waits cannot be written down: {why}");
        }
    }

    /// It runs from now on, unless it cannot be written down: then it must not.
    async fn enter(self: &Arc<Self>, id: CallId) -> Option<Call> {
        let begun = !self.is_closing()
            && self.change(id, |call| {
                call.state = State::Running;
                call.runs += 1;
                call.started.get_or_insert(SystemTime::now());
            });
        if !begun {
            return None;
        }
        if let Err(problem) = self.save(id).await {
            let message = format!("the call cannot be kept: {}", SystemError(&problem));
            self.end(id, State::Failed(error(&message, "storage", id)))
                .await;
            return None;
        }
        self.find(id).filter(|call| !call.state.has_ended())
    }

    async fn end(self: &Arc<Self>, id: CallId, state: State) {
        if self.change(id, |call| call.state = state) {
            self.settle(id).await;
        }
    }

    async fn run_once(self: &Arc<Self>, call: &Call) -> Run {
        let late = || {
            Run::Over(State::Failed(error(
                "the call has not ended in time",
                "timeout",
                call.id,
            )))
        };
        match call.left(SystemTime::now()) {
            None => self.exchange(call, None).await,
            Some(left) if left.is_zero() => late(),
            Some(left) => {
                let exchange = self.exchange(call, Some(left));
                let in_time = tokio::time::timeout(left.saturating_add(GRACE), exchange).await;
                in_time.unwrap_or_else(|_| late())
            }
        }
    }

    async fn exchange(self: &Arc<Self>, call: &Call, left: Option<Duration>) -> Run {
        let failed = |message: String, cause: &str| {
            Run::Over(State::Failed(error(&message, cause, call.id)))
        };
        let Some(running) = self.running.get() else {
            return failed("nobody runs calls here".into(), "internal");
        };
        let request = match self.request(call, left).await {
            Ok(request) => request,
            Err(why) => return failed(format!("the call cannot be made: {why}"), "storage"),
        };
        let answer = running.runner.run(request, call.client).await;
        if answer.status().as_u16() >= 400 {
            return refusal(call, answer, is_early(call, running.since)).await;
        }
        match self.keep_result(call.id, answer).await {
            Ok(outcome) => Run::Over(State::Done(outcome)),
            Err(Unkept::BrokenOff(why)) => {
                failed(format!("the result was broken off: {why}"), "broken_off")
            }
            Err(Unkept::Full) => {
                failed("there is no room for the result here".into(), "calls_full")
            }
            Err(Unkept::System(problem)) => {
                let why = SystemError(&problem);
                tracing::error!("the result of call {} cannot be kept: {why}", call.id);
                failed(format!("the result cannot be kept: {why}"), "storage")
            }
        }
    }

    async fn request(
        self: &Arc<Self>,
        call: &Call,
        left: Option<Duration>,
    ) -> Result<Request<Input>, String> {
        let body = if call.input == 0 {
            RequestBody::empty()
        } else {
            let path = self.store.input(call.id);
            let opened = blocking(move || RequestBody::file(&path)).await;
            opened.map_err(|error| format!("its input cannot be read: {}", SystemError(&error)))?
        };
        let target = target(&call.chain).ok_or("its chain is too long")?;
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = target;
        *request.headers_mut() = call.headers.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("localhost"));
        if let Ok(id) = HeaderValue::from_str(&call.id.to_string()) {
            headers.insert(REQUEST_ID, id);
        }
        let left = left.map(|left| HeaderValue::from_str(&format!("{:.3}", left.as_secs_f64())));
        if let Some(Ok(left)) = left {
            headers.insert(FAUCET_DEADLINE, left);
        }
        let token = self.token.as_ref();
        let bearer =
            token.map(|token| HeaderValue::from_str(&format!("Bearer {}", token.reveal())));
        if let Some(Ok(mut bearer)) = bearer {
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        Ok(request)
    }

    /// Writes an answer's body to its file, as it comes.
    async fn keep_result(
        self: &Arc<Self>,
        id: CallId,
        answer: Answered,
    ) -> Result<Outcome, Unkept> {
        let status = answer.status().as_u16();
        let content_type = answer.headers().get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok().map(str::to_owned));
        let path = self.store.result(id);
        let file = blocking(move || new_file(&path)).await?;
        let mut file = tokio::fs::File::from_std(file);
        let (mut body, mut length) = (answer.into_body(), 0);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(Unkept::BrokenOff)?;
            let Ok(chunk) = frame.into_data() else {
                continue;
            };
            let more = chunk.len() as u64;
            if !self.known().grow(id, more, self.settings.max_results) {
                return Err(Unkept::Full);
            }
            file.write_all(&chunk).await?;
            length += more;
        }
        file.flush().await?;
        file.sync_all().await?;
        Ok(Outcome {
            status,
            content_type,
            length,
        })
    }
}

/// Where a chain is called; `None` if no target can be as long.
pub(super) fn target(chain: &str) -> Option<Uri> {
    let chain = utf8_percent_encode(chain, NON_ALPHANUMERIC);
    format!("/invoke?chain={chain}").parse().ok()
}

/// Why there is no result though there was an answer.
enum Unkept {
    BrokenOff(String),
    /// It would be more than is kept of all calls.
    Full,
    System(io::Error),
}

impl From<io::Error> for Unkept {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

/// Whether functions may not be there yet that were there when a call was made.
fn is_early(call: &Call, since: SystemTime) -> bool {
    let up = SystemTime::now().duration_since(since).unwrap_or_default();
    call.created < since && up < STARTING
}

/// Of an answer that is an error.
async fn refusal(call: &Call, answer: Answered, is_early: bool) -> Run {
    let status = answer.status();
    let cause = answer.headers().get(FAUCET_ERROR);
    let cause = cause
        .and_then(|cause| cause.to_str().ok())
        .map(str::to_owned);
    let retry_after = answer.headers().get(RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    let text = beginning(answer).await;
    let mut fields = match serde_json::from_slice(&text) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    if !fields.get("error").is_some_and(Value::is_string) {
        let text = String::from_utf8_lossy(&text);
        let text = text.trim();
        let said = if text.is_empty() {
            status.canonical_reason().unwrap_or("the call has failed")
        } else {
            text
        };
        fields = Map::from_iter([("error".to_owned(), said.into())]);
    }
    // Whatever stage it is, those before it have worked.
    let is_first = fields.get("stage").map_or(true, |stage| *stage == 1);
    let cause_is = |causes: &[&str]| {
        cause
            .as_deref()
            .is_some_and(|cause| causes.contains(&cause))
    };
    let is_unworked = match status {
        StatusCode::SERVICE_UNAVAILABLE => (is_first || call.retry) && cause_is(&UNWORKED),
        StatusCode::NOT_FOUND => is_early && cause_is(&UNKNOWN),
        _ => false,
    };
    fields.insert("status".into(), status.as_u16().into());
    fields.insert("cause".into(), cause.into());
    fields.insert("call_id".into(), call.id.to_string().into());
    match is_unworked {
        true => Run::Unworked(
            fields.into(),
            Duration::from_secs(retry_after.unwrap_or(0)).min(MOST_PAUSE),
        ),
        false => Run::Over(State::Failed(fields.into())),
    }
}

/// As much of a body as an error may have.
async fn beginning(answer: Answered) -> Vec<u8> {
    let (mut body, mut text) = (answer.into_body(), Vec::new());
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(chunk) = frame.data_ref() {
            let room = MOST_ERROR - text.len();
            text.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() > room {
                break;
            }
        }
    }
    text
}
