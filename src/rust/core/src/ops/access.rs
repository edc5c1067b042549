//! The access log: one line a request, text or JSON.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tracing::Level;

use super::escape::{self, word};
use super::log::{Kind, Log};
use super::log_file::{Appender, LogFile};
use super::shown;
use crate::client_address::ClientAddress;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
}

/// One request.
pub struct Entry<'a> {
    pub time: SystemTime,
    pub id: &'a str,
    pub client: ClientAddress,
    pub method: &'a str,
    /// Target with query, still percent-encoded.
    pub path: &'a str,
    /// The name of the pool; empty when it is none's.
    pub pool: &'a str,
    pub status: u16,
    /// Why faucet answered itself; empty when a worker answered.
    pub cause: &'a str,
    /// Bytes of body handed to the client's connection.
    pub bytes: u64,
    pub total: Duration,
    pub queue: Duration,
    pub in_worker: Option<Duration>,
    pub worker: Option<u32>,
    /// Which way its input comes, of a stage of a chain at an agent.
    pub input: Option<&'static str>,
    /// The status of a call by gRPC, whose HTTP status tells nothing.
    pub grpc_status: Option<u16>,
}

/// Milliseconds to a tenth: R answers in about one.
struct Millis(Duration);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1}", self.number())
    }
}

impl Millis {
    fn number(&self) -> f64 {
        (self.0.as_secs_f64() * 10_000.0).round() / 10.0
    }
}

impl Entry<'_> {
    fn render(&self, format: Format) -> String {
        let time = humantime::format_rfc3339_millis(self.time);
        match format {
            Format::Text => {
                let mut line = format!(
                    "{time} {} {} {} {}ms client={} queue={}ms",
                    self.status,
                    word(self.method),
                    word(self.path),
                    Millis(self.total),
                    self.client,
                    Millis(self.queue),
                );
                if let Some(pool) = shown(self.pool) {
                    line.push_str(&format!(" pool={}", word(pool)));
                }
                if let (Some(worker), Some(in_worker)) = (self.worker, self.in_worker) {
                    line.push_str(&format!(" worker={worker} r={}ms", Millis(in_worker)));
                }
                if let Some(input) = self.input {
                    line.push_str(&format!(" input={input}"));
                }
                line.push_str(&format!(" bytes={} id={}", self.bytes, word(self.id)));
                if let Some(status) = self.grpc_status {
                    line.push_str(&format!(" grpc_status={status}"));
                }
                if !self.cause.is_empty() {
                    line.push_str(&format!(" cause={}", self.cause));
                }
                line
            }
            Format::Json => {
                let mut line = json!({
                "time": time.to_string(),
                "id": self.id,
                "client": self.client.to_string(),
                "method": self.method,
                "path": self.path,
                "pool": if self.pool.is_empty() { None } else { Some(self.pool) },
                "status": self.status,
                "cause": if self.cause.is_empty() { None } else { Some(self.cause) },
                "bytes": self.bytes,
                "total_ms": Millis(self.total).number(),
                "queue_ms": Millis(self.queue).number(),
                "worker_ms": self.in_worker.map(|time| Millis(time).number()),
                "worker": self.worker,
                "input": self.input,
                });
                if let Some(status) = self.grpc_status {
                    line["grpc_status"] = status.into();
                }
                escape::json(line.to_string())
            }
        }
    }
}

enum Sink {
    /// To whoever fetches the log: the waiting R.
    Log(Arc<Log>),
    /// Straight to a file.
    File(Appender),
}

/// Where entries go, if anywhere.
pub struct AccessLog {
    to: Option<(Format, Sink)>,
    health: bool,
}

impl AccessLog {
    /// No access log.
    pub fn none() -> Self {
        Self {
            to: None,
            health: false,
        }
    }

    /// Lines of `log`.
    pub fn to_log(format: Format, log: Arc<Log>) -> Self {
        Self {
            to: Some((format, Sink::Log(log))),
            health: false,
        }
    }

    /// Lines appended to a file. What happens to it is said in `log`.
    ///
    /// # Errors
    /// The file cannot be opened, or its thread cannot be started.
    pub fn to_file(format: Format, file: LogFile, log: Arc<Log>) -> io::Result<Self> {
        Ok(Self {
            to: Some((format, Sink::File(Appender::start(file, log)?))),
            health: false,
        })
    }

    /// Whether health checks are among the requests.
    pub fn with_health(self, health: bool) -> Self {
        Self { health, ..self }
    }

    /// Whether anything is written at all.
    pub fn is_on(&self) -> bool {
        self.to.is_some()
    }

    /// Whether health checks are written.
    pub fn has_health(&self) -> bool {
        self.health
    }

    pub fn write(&self, entry: &Entry<'_>) {
        match &self.to {
            None => {}
            Some((format, Sink::Log(log))) => {
                log.push(Kind::Access, Level::INFO, entry.render(*format));
            }
            Some((format, Sink::File(file))) => file.push(&entry.render(*format)),
        }
    }

    /// Has the file, if it is one, opened again under its name: it was moved. From any thread; waits for nothing. How it
    /// went is said in the log.
    pub fn reopen(&self) {
        if let Some((_, Sink::File(file))) = &self.to {
            file.reopen();
        }
    }

    /// Nothing more will come: has everything written. Waits at most `patience`, and not at all for a file that does not take it.
    pub fn finish(&self, patience: Duration) {
        if let Some((_, Sink::File(file))) = &self.to {
            file.finish(patience);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            time: SystemTime::UNIX_EPOCH,
            id: "abc",
            client: std::net::IpAddr::from([127, 0, 0, 1]).into(),
            method: "GET",
            path: "/a?b=%22",
            pool: "/",
            status: 200,
            cause: "",
            bytes: 12,
            total: Duration::from_micros(12_340),
            queue: Duration::ZERO,
            in_worker: Some(Duration::from_millis(11)),
            worker: Some(2),
            input: None,
            grpc_status: None,
        }
    }

    #[test]
    fn text_lines_read_from_left_to_right() {
        assert_eq!(
            entry().render(Format::Text),
            "1970-01-01T00:00:00.000Z 200 GET /a?b=%22 12.3ms client=127.0.0.1 queue=0.0ms worker=2 r=11.0ms bytes=12 id=abc"
        );
    }

    #[test]
    fn what_clients_write_stays_in_its_field() {
        let hostile = Entry {
            id: "a\u{2028}b",
            method: "G\u{85}T",
            path: "/\u{202e}a 200",
            ..entry()
        };
        let text = hostile.render(Format::Text);
        assert!(
            text.bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic()),
            "{text}"
        );
        assert!(text.contains(" G\\u{85}T /\\u{202e}a\\u{20}200 "), "{text}");
        assert!(text.ends_with(" id=a\\u{2028}b"), "{text}");
        let line = hostile.render(Format::Json);
        assert!(
            line.bytes()
                .all(|byte| byte == b' ' || byte.is_ascii_graphic()),
            "{line}"
        );
        let parsed: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(parsed["path"], "/\u{202e}a 200");
    }

    #[test]
    fn json_lines_are_json() {
        let line = entry().render(Format::Json);
        let parsed: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(parsed["worker_ms"], 11.0);
        assert_eq!(parsed["cause"], serde_json::Value::Null);
    }
}
