//! What workers print: read always, shown with the process's name, the last lines kept.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;
use tracing::Level;

use crate::ops::log::{Kind, Log};

/// Lines kept for the error that shows why a worker did not start.
const KEPT: usize = 40;

/// A longer line is broken here, in bytes.
const LONGEST: usize = 8 * 1024;

/// The last lines of one process.
#[derive(Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

/// Reads one stream of a process to its end.
pub async fn follow(stream: OwnedFd, name: String, level: Level, log: Arc<Log>, tail: Tail) {
    let Ok(stream) = Receiver::from_owned_fd(stream) else {
        tracing::error!("{name} prints what cannot be read");
        return;
    };
    let mut stream = BufReader::new(stream);
    let mut lines = Lines::default();
    let mut chunk = [0u8; 4096];
    loop {
        // An error is an end: the other side is gone.
        let read = stream.read(&mut chunk).await.unwrap_or(0);
        let end = read == 0;
        for line in lines.split(&chunk[..read], end) {
            log.push(Kind::Worker, level, format!("[{name}] {line}"));
            tail.push(line);
        }
        if end {
            return;
        }
    }
}

/// Cuts bytes into lines.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn split(&mut self, bytes: &[u8], end: bool) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' || self.partial.len() >= LONGEST {
                lines.push(self.take());
            }
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
        }
        if end && !self.partial.is_empty() {
            lines.push(self.take());
        }
        lines
    }

    fn take(&mut self) -> String {
        let line = String::from_utf8_lossy(&self.partial)
            .trim_end_matches('\r')
            .to_owned();
        self.partial.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_any_cut_and_bad_bytes() {
        let mut lines = Lines::default();
        assert_eq!(lines.split(b"a\r\nb", false), ["a"]);
        assert_eq!(lines.split(b"c\n\xff\n", false), ["bc", "\u{fffd}"]);
        assert_eq!(lines.split(b"end", true), ["end"]);
        assert!(lines.split(b"", true).is_empty());
    }

    #[test]
    fn endless_lines_are_broken() {
        let mut lines = Lines::default();
        let cut = lines.split(&[b'x'; 3 * LONGEST], true);
        assert!(cut.iter().all(|line| line.len() <= LONGEST));
        assert_eq!(cut.iter().map(String::len).sum::<usize>(), 3 * LONGEST);
    }
}
