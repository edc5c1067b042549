//! The task that sends spans to a collector, whatever that does.

use std::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prost::Message;
use tokio::sync::{mpsc, Notify};
use tokio::time::Instant;

use super::messages::{
    attribute, ExportRequest, ExportResponse, Resource, ResourceSpans, Scope, ScopeSpans,
};
use super::span::Finished;
use super::{TraceSettings, Traces};
use crate::client::{Client, Outgoing, RequestBody};
use crate::environment::Environment;
use crate::ids;
use crate::sources::backoff::{jitter, pause};
use crate::sources::Failure;
use crate::tls::ClientTls;

/// How many spans wait; one more is dropped.
pub(super) const QUEUE: usize = 4096;

/// How many are sent at once.
const BATCH: usize = 512;

/// How long the first of them waits for others.
const LINGER: Duration = Duration::from_secs(1);

/// How often a batch is sent that the collector does not take.
const TRIES: u32 = 3;

/// The longest pause while it takes none.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// From connecting to the answer's end.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most that is read of an answer, in bytes.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Sends spans. Runs until its [`Traces`] are closed.
pub struct Exporter {
    settings: TraceSettings,
    client: Client,
    resource: Resource,
    queue: mpsc::Receiver<Finished>,
    dropped: Counter<u64, AtomicU64>,
    closing: Arc<Notify>,
    closed: bool,
    /// In a row.
    failures: u32,
}

/// Why a batch was not taken.
struct Refused {
    why: String,
    /// Whether it may be next time.
    again: bool,
}

impl Exporter {
    /// One, and what makes spans for it. Counts in `dropped` those that come to nothing. To be called on R's thread.
    ///
    /// # Errors
    /// Class `option`: the collector speaks TLS, and this system has no certificates.
    pub fn new(
        settings: TraceSettings,
        environment: &Environment,
        dropped: Counter<u64, AtomicU64>,
    ) -> Result<(Arc<Traces>, Self), Failure> {
        let tls = match settings.address.tls {
            false => None,
            true => Some(Arc::new(ClientTls::of(None, environment)?)),
        };
        let name = environment.text("OTEL_SERVICE_NAME");
        let name = name.filter(|name| !name.is_empty());
        let (sender, queue) = mpsc::channel(QUEUE);
        let closing = Arc::new(Notify::new());
        let traces = Traces::new(sender, dropped.clone(), closing.clone());
        let exporter = Self {
            client: Client {
                address: settings.address.clone(),
                tls,
                token: None,
                connect_timeout: CONNECT_TIMEOUT,
            },
            settings,
            resource: Resource {
                attributes: vec![
                    attribute("service.name", name.unwrap_or_else(|| "faucet".to_owned())),
                    attribute("service.version", env!("CARGO_PKG_VERSION")),
                    attribute("service.instance.id", format!("{:032x}", ids::next())),
                ],
            },
            queue,
            dropped,
            closing,
            closed: false,
            failures: 0,
        };
        Ok((Arc::new(traces), exporter))
    }

    pub async fn run(mut self) {
        while let Some(first) = self.next().await {
            let batch = self.batch(first).await;
            self.deliver(batch).await;
        }
    }

    /// The next span; `None` when all is told that there was when they were closed.
    async fn next(&mut self) -> Option<Finished> {
        loop {
            tokio::select! {
                biased;
                () = self.closing.notified(), if !self.closed => self.close(),
                span = self.queue.recv() => return span,
            }
        }
    }

    fn close(&mut self) {
        self.closed = true;
        self.queue.close();
    }

    async fn batch(&mut self, first: Finished) -> Vec<Finished> {
        let mut batch = vec![first];
        let until = Instant::now() + LINGER;
        while batch.len() < BATCH {
            match tokio::time::timeout_at(until, self.next()).await {
                Ok(Some(span)) => batch.push(span),
                Ok(None) | Err(_) => break,
            }
        }
        batch
    }

    async fn deliver(&mut self, batch: Vec<Finished>) {
        let count = batch.len() as u64;
        let body = Bytes::from(self.encode(&batch));
        drop(batch);
        for _ in 0..TRIES {
            if self.failures > 0 && !self.rest().await {
                break;
            }
            match self.post(body.clone()).await {
                Ok(rejected) => {
                    self.dropped.inc_by(rejected.min(count));
                    return;
                }
                Err(refused) => {
                    self.note_failure(&refused.why);
                    if !refused.again {
                        break;
                    }
                }
            }
        }
        self.dropped.inc_by(count);
    }

    /// Waits before a collector is asked again that has failed. Whether it is to be asked.
    async fn rest(&mut self) -> bool {
        if self.closed {
            return false;
        }
        let pause = pause(self.failures.saturating_add(1), LONGEST_PAUSE, jitter());
        if tokio::time::timeout(pause, self.closing.notified())
            .await
            .is_ok()
        {
            self.close();
        }
        !self.closed
    }

    fn encode(&self, batch: &[Finished]) -> Vec<u8> {
        let scope = Scope {
            name: "faucet".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let request = ExportRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans: batch.iter().map(Finished::message).collect(),
                }],
            }],
        };
        request.encode_to_vec()
    }

    /// Sends a batch. How many of it the collector has rejected, which it wants sent no more.
    async fn post(&mut self, body: Bytes) -> Result<u64, Refused> {
        let exchange = tokio::time::timeout(TIMEOUT, self.exchange(body)).await;
        let (status, answer) = exchange.unwrap_or_else(|_| {
            Err(Refused {
                why: format!("it has not answered within {} s", TIMEOUT.as_secs()),
                again: true,
            })
        })?;
        if !status.is_success() {
            return Err(Refused {
                why: format!("it has answered with status {}", status.as_u16()),
                again: matches!(status.as_u16(), 429 | 502..=504),
            });
        }
        let answer = ExportResponse::decode(&*answer).unwrap_or_default();
        let partial = answer.partial_success.unwrap_or_default();
        match u64::try_from(partial.rejected_spans) {
            Ok(rejected @ 1..) => {
                let why: String = partial.error_message.chars().take(200).collect();
                self.note_failure(&format!("it has rejected some: {why:?}"));
                // It is there, nevertheless.
                Ok(rejected)
            }
            _ => {
                self.note_success();
                Ok(0)
            }
        }
    }

    async fn exchange(&self, body: Bytes) -> Result<(StatusCode, Vec<u8>), Refused> {
        let refused = |why: String| Refused { why, again: true };
        let headers = [
            ("content-type", "application/x-protobuf"),
            ("user-agent", concat!("faucet/", env!("CARGO_PKG_VERSION"))),
        ];
        let path = self.settings.path.to_owned();
        let outgoing = Outgoing::new("POST", path, &headers, RequestBody::Bytes(body));
        let outgoing = outgoing.map_err(refused)?;
        let answer = self.client.send(outgoing).await;
        let answer = answer.map_err(|error| refused(format!("it {error}")))?;
        let status = answer.status;
        // Whether it has taken them is in the status.
        Ok((
            status,
            answer.whole(LONGEST_ANSWER).await.unwrap_or_default(),
        ))
    }

    fn note_failure(&mut self, why: &str) {
        if self.failures == 0 {
            tracing::warn!(
                "spans do not reach {}: {why}; what does not fit into the queue is dropped until they do",
                self.settings.address
            );
        }
        self.failures = self.failures.saturating_add(1);
    }

    fn note_success(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("spans reach {} again", self.settings.address);
        }
    }
}
