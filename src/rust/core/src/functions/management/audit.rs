//! Who has changed what: a line for each change, in a file that is only ever added to.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::environment::SystemError;

/// An audit log: JSON lines with `time`, `client`, `action`, `subject`, `status` and `message`.
pub struct Audit(Mutex<File>);

impl Audit {
    /// Opens the file, and makes it for this user alone if it is not there.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(0o600).open(path)?;
        Ok(Self(Mutex::new(file)))
    }

    /// Adds a line, and shows it in the log.
    pub fn write(&self, client: &str, action: &str, subject: &str, status: u16, message: &str) {
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let line = serde_json::json!({
            "time": time, "client": client, "action": action, "subject": subject, "status": status, "message": message,
        });
        let written = {
            let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            // One call: a line is whole, or the disk is full.
            file.write_all(format!("{line}\n").as_bytes())
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
