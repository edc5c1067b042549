//! How requests about calls are answered.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::header::{HeaderValue, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use hyper::{HeaderMap, StatusCode};
use serde_json::json;

use super::ask::{no_call, Ask, Begin};
use super::call::{Call, Callback, Delivery, State};
use super::{task, CallId, Calls, Ending};
use crate::body::{self, Buffered, FileBody};
use crate::client_address::ClientAddress;
use crate::environment::SystemError;
use crate::front::{Managed, Told, FAUCET_ERROR};
use crate::functions::management::Telling;

/// When to come again if there is no room for a call, in seconds.
const FULL_FOR: u32 = 10;

impl Calls {
    /// Answers a request whose path is one of theirs.
    pub fn tell(self: Arc<Self>, request: Managed) -> Telling {
        let ask = Ask::read(&request.method, &request.uri, &request.headers);
        Box::pin(async move {
            match ask {
                Err(told) => told,
                Ok(Ask::Status { id, wait }) => self.status(id, wait).await,
                Ok(Ask::Result(id)) => self.result(id).await,
                // They are whole, whoever waits for them.
                Ok(Ask::Begin(begin)) => {
                    finished(tokio::spawn(self.begin(
                        *begin,
                        request.client,
                        request.body,
                    )))
                    .await
                }
                Ok(Ask::Remove(id)) => finished(tokio::spawn(self.remove(id))).await,
            }
        })
    }

    async fn begin(self: Arc<Self>, begin: Begin, client: ClientAddress, body: Buffered) -> Told {
        if self.is_closing() {
            return unavailable("draining", "the server is shutting down", 5);
        }
        let call = match self.call_of(begin, client, body.len()) {
            Ok(call) => call,
            Err(told) => return told,
        };
        let id = call.id;
        if !self.admit(call) {
            return unavailable(
                "calls_full",
                "there is no room for another call: come again later",
                FULL_FOR,
            );
        }
        if let Err(problem) = self.keep(id, body).await {
            let why = SystemError(&problem);
            tracing::error!("a call cannot be kept: {why}");
            self.clone().forget(id).await;
            let message = format!("the call cannot be kept: {why}");
            return Told::refused(StatusCode::INSUFFICIENT_STORAGE, "storage", message);
        }
        tokio::spawn(self.attend(id));
        let url = format!("/calls/{id}");
        let mut headers = HeaderMap::new();
        if let Ok(location) = HeaderValue::from_str(&url) {
            headers.insert(LOCATION, location);
        }
        let told = json!({ "id": id.to_string(), "status": State::Queued.name(), "url": url });
        Told::Headed(StatusCode::ACCEPTED, Box::new(headers), told)
    }

    /// The call that is wanted, if it may be.
    fn call_of(&self, begin: Begin, client: ClientAddress, input: u64) -> Result<Call, Told> {
        let most = self.settings.result_ttl;
        let result_ttl = begin.result_ttl.unwrap_or(most);
        if result_ttl > most {
            let message = format!("`result_ttl` is at most {} s here", most.as_secs_f64());
            return Err(Told::refused(
                StatusCode::BAD_REQUEST,
                "bad_request",
                message,
            ));
        }
        if let Some(url) = &begin.callback {
            let mut allowed = self.settings.callbacks.iter();
            if !allowed.any(|prefix| url.is_below(prefix)) {
                let message = "`callback` is not under the URLs that this server may call: see its setting `callbacks`";
                return Err(Told::refused(
                    StatusCode::BAD_REQUEST,
                    "callback_refused",
                    message,
                ));
            }
        }
        let running = self.running.get();
        let refusal = running.and_then(|running| running.runner.refusal(&begin.chain));
        if let Some(told) = refusal {
            return Err(told);
        }
        if task::target(&begin.text).is_none() {
            let message = "the chain is too long for a call";
            return Err(Told::refused(
                StatusCode::URI_TOO_LONG,
                "uri_too_long",
                message,
            ));
        }
        let id = CallId::new().map_err(|error| {
            let message = format!("there is no id for a call: {error}");
            Told::refused(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
        })?;
        Ok(Call {
            id,
            chain: begin.text,
            client,
            headers: begin.headers,
            input,
            timeout: begin.timeout,
            result_ttl,
            retry: begin.retry,
            runs: 0,
            created: SystemTime::now(),
            started: None,
            ended: None,
            state: State::Queued,
            expired: false,
            callback: begin.callback.map(|url| Callback {
                url,
                status: Delivery::Waiting,
                tries: 0,
            }),
        })
    }

    async fn status(&self, id: CallId, wait: Duration) -> Told {
        let Some(mut ended) = self.ended(id) else {
            return no_call();
        };
        if !wait.is_zero() {
            tokio::select! {
                _ = tokio::time::timeout(wait, ended.wait_for(|ended| *ended)) => {}
                () = self.until(Ending::Closing) => {}
            }
        }
        match self.find(id) {
            Some(call) => Told::ok(call.told()),
            None => no_call(),
        }
    }

    async fn result(&self, id: CallId) -> Told {
        let Some(call) = self.find(id) else {
            return no_call();
        };
        if call.expired {
            let message = "the result was kept for a while, which is over";
            return Told::refused(StatusCode::GONE, "gone", message);
        }
        let State::Done(done) = &call.state else {
            let status = call.state.name();
            let value = json!({ "error": format!("the call has no result: it is {status}"), "status": status });
            return Told::Json(StatusCode::CONFLICT, Some("not_done"), value);
        };
        let Some(running) = self.running.get() else {
            return no_call();
        };
        let mut headers = HeaderMap::new();
        let kind = done.content_type.as_deref();
        if let Some(kind) = kind.and_then(|kind| HeaderValue::from_str(kind).ok()) {
            headers.insert(CONTENT_TYPE, kind);
        }
        match FileBody::open(self.store.result(id), None, &running.bodies).await {
            Ok(file) => Told::File(Box::new(headers), Box::new(file)),
            Err(error) if body::is_shortage(&error) => {
                unavailable("overloaded", "no file can be opened now", 1)
            }
            Err(error) => {
                let why = SystemError(&error);
                tracing::error!("the result of call {id} cannot be read: {why}");
                let message = format!("the result cannot be read: {why}");
                Told::refused(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "file_unreadable",
                    message,
                )
            }
        }
    }

    /// Cancels it, or forgets it if it has ended.
    async fn remove(self: Arc<Self>, id: CallId) -> Told {
        if self.change(id, |call| call.state = State::Cancelled) {
            self.settle(id).await;
            return match self.find(id) {
                Some(call) => Told::ok(call.told()),
                None => no_call(),
            };
        }
        match self.find(id) {
            None => no_call(),
            Some(call) => {
                self.forget(id).await;
                Told::ok(call.told())
            }
        }
    }
}

fn unavailable(cause: &'static str, message: &str, seconds: u32) -> Told {
    let mut headers = HeaderMap::new();
    headers.insert(FAUCET_ERROR, HeaderValue::from_static(cause));
    headers.insert(RETRY_AFTER, seconds.into());
    Told::Headed(
        StatusCode::SERVICE_UNAVAILABLE,
        Box::new(headers),
        json!({ "error": message }),
    )
}

async fn finished(work: tokio::task::JoinHandle<Told>) -> Told {
    work.await.unwrap_or_else(|error| {
        tracing::error!("a call could not be answered for: {error}");
        let message = "this failed in a way that nobody has thought of: see the log";
        Told::refused(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    })
}
