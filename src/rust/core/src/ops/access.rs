//! The access log: one line a request, text or JSON.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{sync_channel, SyncSender, TrySendError};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tracing::Level;

use super::log::{Kind, Log};
use crate::signals;

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
    pub client: IpAddr,
    pub method: &'a str,
    /// Target with query, still percent-encoded: nothing in it can break a line.
    pub path: &'a str,
    pub status: u16,
    /// Why faucet answered itself; empty when a worker answered.
    pub cause: &'a str,
    /// Bytes of body handed to the client's connection.
    pub bytes: u64,
    pub total: Duration,
    pub queue: Duration,
    pub in_worker: Option<Duration>,
    pub worker: Option<u32>,
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
                    self.method,
                    self.path,
                    Millis(self.total),
                    self.client,
                    Millis(self.queue),
                );
                if let (Some(worker), Some(in_worker)) = (self.worker, self.in_worker) {
                    line.push_str(&format!(" worker={worker} r={}ms", Millis(in_worker)));
                }
                line.push_str(&format!(" bytes={} id={}", self.bytes, self.id));
                if !self.cause.is_empty() {
                    line.push_str(&format!(" cause={}", self.cause));
                }
                line
            }
            Format::Json => json!({
                "time": time.to_string(),
                "id": self.id,
                "client": self.client.to_string(),
                "method": self.method,
                "path": self.path,
                "status": self.status,
                "cause": if self.cause.is_empty() { None } else { Some(self.cause) },
                "bytes": self.bytes,
                "total_ms": Millis(self.total).number(),
                "queue_ms": Millis(self.queue).number(),
                "worker_ms": self.in_worker.map(|time| Millis(time).number()),
                "worker": self.worker,
            })
            .to_string(),
        }
    }
}

enum Sink {
    /// To whoever fetches the log: the waiting R.
    Log(Arc<Log>),
    /// Straight to a file, through a thread of its own.
    File(SyncSender<String>, Arc<Log>),
}

/// Where entries go, if anywhere.
pub struct AccessLog {
    to: Option<(Format, Sink)>,
}

/// Lines on their way to the file; more are dropped and counted.
const FILE_QUEUE: usize = 20_000;

impl AccessLog {
    /// No access log.
    pub fn none() -> Self {
        Self { to: None }
    }

    /// Lines of `log`.
    pub fn to_log(format: Format, log: Arc<Log>) -> Self {
        Self {
            to: Some((format, Sink::Log(log))),
        }
    }

    /// Lines appended to a file. The file is opened for appending, so that logrotate's
    /// `copytruncate` works on it.
    ///
    /// # Errors
    /// The file cannot be opened, or its thread cannot be started.
    pub fn to_file(format: Format, path: &Path, log: Arc<Log>) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let (sender, receiver) = sync_channel::<String>(FILE_QUEUE);
        let report = log.clone();
        signals::start_thread("faucet-log", signals::STACK, move || {
            let mut file = BufWriter::new(file);
            while let Ok(line) = receiver.recv() {
                let written = write_batch(&mut file, line, || receiver.try_recv().ok());
                if let Err(error) = written {
                    report.push(
                        Kind::Event,
                        Level::ERROR,
                        format!("access log cannot be written: {error}"),
                    );
                }
            }
        })?;
        Ok(Self {
            to: Some((format, Sink::File(sender, log))),
        })
    }

    /// Whether anything is written at all.
    pub fn is_on(&self) -> bool {
        self.to.is_some()
    }

    pub fn write(&self, entry: &Entry<'_>) {
        match &self.to {
            None => {}
            Some((format, Sink::Log(log))) => {
                log.push(Kind::Access, Level::INFO, entry.render(*format));
            }
            Some((format, Sink::File(sender, log))) => {
                let line = entry.render(*format);
                if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
                    sender.try_send(line)
                {
                    log.note_dropped();
                }
            }
        }
    }
}

fn write_batch(
    file: &mut BufWriter<File>,
    first: String,
    mut more: impl FnMut() -> Option<String>,
) -> io::Result<()> {
    let mut next = Some(first);
    while let Some(line) = next {
        writeln!(file, "{line}")?;
        next = more();
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry<'static> {
        Entry {
            time: SystemTime::UNIX_EPOCH,
            id: "abc",
            client: [127, 0, 0, 1].into(),
            method: "GET",
            path: "/a?b=%22",
            status: 200,
            cause: "",
            bytes: 12,
            total: Duration::from_micros(12_340),
            queue: Duration::ZERO,
            in_worker: Some(Duration::from_millis(11)),
            worker: Some(2),
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
    fn json_lines_are_json() {
        let line = entry().render(Format::Json);
        let parsed: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(parsed["worker_ms"], 11.0);
        assert_eq!(parsed["cause"], serde_json::Value::Null);
    }
}
