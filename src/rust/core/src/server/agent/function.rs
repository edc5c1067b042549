//! One function at an agent: what is known of it, and its pool.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde_json::{json, Value};
use tokio::sync::watch;

use super::record::{Record, Version};
use crate::functions::fleet::Status;
use crate::functions::{Name, Signature};
use crate::ops::History;
use crate::pool::Pool;

/// What is known of a function now.
#[derive(Default)]
pub(super) struct State {
    pub(super) record: Record,
    /// That of the current version.
    pub(super) pool: Option<Arc<Pool>>,
    /// Versions up to this number are not to be deployed any more.
    pub(super) unwanted: u64,
}

/// One function.
pub(super) struct Function {
    pub(super) name: Name,
    pub(super) state: Mutex<State>,
    /// Held while its record is written.
    pub(super) writing: Mutex<()>,
    /// One change at a time.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// Rings when a change is over, or is not wanted any more.
    pub(super) settled: watch::Sender<u64>,
    pub(super) history: Arc<History>,
}

impl Function {
    pub(super) fn new(name: Name, record: Record, history: Arc<History>) -> Self {
        Self {
            name,
            state: Mutex::new(State {
                record,
                ..State::default()
            }),
            writing: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            settled: watch::channel(0).0,
            history,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self) -> Record {
        self.lock().record.clone()
    }

    /// Waits until no deployment is under way.
    pub(super) async fn settled(&self) {
        let mut settled = self.settled.subscribe();
        while self.record().status() == Status::Deploying {
            if settled.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until a version is not to be deployed any more: another one is, or none.
    pub(super) async fn unwanted(&self, number: u64) {
        let mut settled = self.settled.subscribe();
        let is_wanted = || {
            let state = self.lock();
            let next = state.record.next.as_ref();
            number > state.unwanted && next.is_some_and(|next| next.number == number)
        };
        while is_wanted() {
            if settled.changed().await.is_err() {
                return;
            }
        }
    }

    /// What lists have of it. `base` is how the client has called this server.
    pub(super) fn short(&self, base: &str) -> Value {
        let record = self.record();
        let agent = base.split_once("://").map_or(base, |(_, rest)| rest);
        let mut short = json!({
            "name": self.name.as_str(),
            "status": record.status().name(),
            "url": format!("{base}/functions/{}", self.name.as_str()),
            "proxy": "",
            "atAgent": agent,
            "version": record.version().map(|version| version.number),
        });
        if let (Some(message), Some(fields)) = (&record.message, short.as_object_mut()) {
            fields.insert("message".into(), message.as_str().into());
            fields.insert("lines".into(), record.lines.clone().into());
        }
        short
    }

    /// All that is known of it.
    pub(super) fn details(&self, base: &str) -> Value {
        let mut details = self.short(base);
        let state = self.lock();
        let (record, pool) = (&state.record, &state.pool);
        let status = pool.as_ref().map(|pool| pool.status());
        let version = record.version();
        let signature = version.and_then(|version| version.signature.as_ref());
        let deployed = record.current.as_ref().and_then(Version::deployed_text);
        let more = json!({
            "definition": version.map(|version| version.definition.to_json()),
            "signature": signature.map(Signature::to_json),
            "deployed": deployed,
            "previous": record.previous.as_ref().map(|version| version.number),
            "workers": status.as_ref().map_or(0, |status| status.workers.iter().filter(|worker| worker.pid.is_some()).count()),
            "queue": status.as_ref().map_or(0, |status| status.queue),
            "requests": pool.as_ref().map_or(0, |pool| pool.ops.metrics.answered()),
        });
        if let (Some(details), Value::Object(more)) = (details.as_object_mut(), more) {
            details.extend(more);
        }
        details
    }
}

impl Version {
    fn deployed_text(&self) -> Option<String> {
        let time: SystemTime = self.deployed?;
        Some(humantime::format_rfc3339_seconds(time).to_string())
    }
}
