//! Who has changed what: a line for each change, in a file that is only ever added to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::environment::SystemError;

/// Lines in a second of those who have shown no token, and of what workers say: whoever fills the disk must be known.
const STRANGERS: u32 = 20;

/// An audit log: JSON lines with `time`, `client`, `action`, `subject`, `status` and `message`. Of strangers, and of
/// what was refused in workers, there are at most 20 lines a second; how many were left out before a line, it has as `skipped`.
pub struct Audit(Mutex<State>);

struct State {
    file: File,
    /// Since when strangers are counted, and how many there were.
    began: Instant,
    strangers: u32,
    skipped: u64,
}

impl State {
    /// Whether there is a line for one more stranger.
    fn takes_stranger(&mut self) -> bool {
        if self.began.elapsed() >= Duration::from_secs(1) {
            (self.began, self.strangers) = (Instant::now(), 0);
        }
        self.strangers += 1;
        let takes = self.strangers <= STRANGERS;
        self.skipped += u64::from(!takes);
        takes
    }
}

impl Audit {
    /// Opens the file, and makes it for this user alone if it is not there.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(path)?;
        Ok(Self(Mutex::new(State {
            file,
            began: Instant::now(),
            strangers: 0,
            skipped: 0,
        })))
    }

    /// Adds a line, and shows it in the log.
    pub fn write(&self, client: &str, action: &str, subject: &str, status: u16, message: &str) {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut line = serde_json::json!({
            "time": time, "client": client, "action": action, "subject": subject, "status": status, "message": message,
        });
        let written = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(status, 401 | 403 | 415) && !state.takes_stranger() {
                return;
            }
            let skipped = std::mem::take(&mut state.skipped);
            if skipped > 0 {
                line["skipped"] = skipped.into();
            }
            // One call: a line is whole, or the disk is full.
            state.file.write_all(format!("{line}\n").as_bytes())
        };
        if let Err(error) = written {
            tracing::error!("the audit log cannot be written: {}", SystemError(&error));
        }
        let what = format!("{action} {subject}");
        let what = what.trim_end();
        match status {
            200..=399 => tracing::info!("{client}: {what}"),
            _ => tracing::warn!("{client}: {what} is refused ({status}): {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_do_not_fill_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.log");
        let audit = Audit::open(&path).expect("a file");
        let lines = || {
            std::fs::read_to_string(&path)
                .expect("text")
                .lines()
                .count() as u64
        };
        for _ in 0..10_000 {
            audit.write("10.0.0.1", "POST /deploy", "", 401, "unauthorized");
        }
        let written = lines();
        // However long that took.
        assert!((1..10_000).contains(&written), "{written}");
        audit.write("10.0.0.2", "deploy", "a", 200, "");
        let text = std::fs::read_to_string(&path).expect("text");
        let counted: u64 = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .map(|line| 1 + line["skipped"].as_u64().unwrap_or_default())
            .sum();
        assert_eq!(counted, 10_001);
    }
}
