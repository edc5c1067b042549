//! What workers print: read always, shown with the process's name, the last lines kept.
//!
//! It is read on the thread that serves, so its share there is bounded, and so is what it costs in memory, whatever comes.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::unix::pipe::Receiver;
use tracing::Level;

use crate::ops::log::{Kind, Log};
use crate::ops::printable::{self, LONGEST};

/// Lines kept for the error that shows why a worker did not start.
const KEPT: usize = 40;

/// What one read takes, in bytes: what a pipe holds.
const CHUNK: usize = 64 * 1024;

/// Lines that are taken at once: between two such helpings clients are served.
const HELPING: usize = 256;

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

/// Lines that are held back at most.
const MOST_HELD: usize = 1000;

/// Lets the lines of one process into the log, or holds them back. Many workers say the same when they start, and above all
/// when they do not: what the first one says is enough, unless it turns out that others have more to say.
#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<Held>>);

/// What is held back; none if nothing is any more.
type Held = Option<Vec<(Level, String)>>;

impl Gate {
    /// One that holds lines back, until it is opened or has too many of them.
    pub fn closed() -> Self {
        Self(Arc::new(Mutex::new(Some(Vec::new()))))
    }

    fn pass(&self, log: &Log, level: Level, line: String) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *held {
            None => log.push(Kind::Worker, level, line),
            Some(lines) => {
                lines.push((level, line));
                if lines.len() >= MOST_HELD {
                    drop(held);
                    self.open(log);
                }
            }
        }
    }

    /// From now on lines pass, those that were held back first.
    pub fn open(&self, log: &Log) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (level, line) in held.take().into_iter().flatten() {
            log.push(Kind::Worker, level, line);
        }
    }
}

/// Where the lines of a process go.
#[derive(Clone)]
pub struct Outlet {
    /// How they begin.
    pub name: String,
    pub log: Arc<Log>,
    pub gate: Gate,
}

/// Reads one stream of a process to its end.
pub async fn follow(stream: OwnedFd, level: Level, outlet: Outlet, tail: Tail) {
    let Outlet { name, log, gate } = outlet;
    let Ok(stream) = Receiver::from_owned_fd(stream) else {
        tracing::error!("{name} prints what cannot be read");
        return;
    };
    let show = |line: String| {
        // R prints blank lines whenever it is interrupted.
        if !line.trim().is_empty() {
            gate.pass(&log, level, format!("[{name}] {line}"));
        }
        tail.push(line);
    };
    let mut lines = Lines::default();
    while let Some(chunk) = read(&stream).await {
        let mut rest = &chunk[..];
        loop {
            rest = lines.split(rest, HELPING, &show);
            if rest.is_empty() {
                break;
            }
            log.pace().await;
        }
        if chunk.len() >= CHUNK / 2 {
            log.pace().await;
        } else {
            tokio::task::yield_now().await;
        }
    }
    lines.end(&show);
}

/// What is there, or nothing at the end. An error is an end: the other side is gone.
async fn read(stream: &Receiver) -> Option<Vec<u8>> {
    loop {
        stream.readable().await.ok()?;
        // Not kept while a stream is silent, as most are.
        let mut chunk = Vec::with_capacity(CHUNK);
        match stream.try_read_buf(&mut chunk) {
            Ok(0) => return None,
            Ok(_) => return Some(chunk),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

/// Cuts bytes into lines. A line ends with LF, CR (progress bars) or both.
#[derive(Default)]
struct Lines {
    /// The beginning of a line.
    partial: Vec<u8>,
    /// Bytes of that line beyond `LONGEST`, which are not kept.
    left_out: u64,
    after_cr: bool,
}

impl Lines {
    /// Shows up to `most` lines; returns the bytes after them.
    fn split<'a>(
        &mut self,
        mut bytes: &'a [u8],
        most: usize,
        mut show: impl FnMut(String),
    ) -> &'a [u8] {
        for _ in 0..most {
            let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.keep(bytes);
                return &[];
            };
            self.keep(&bytes[..at]);
            let cr = bytes[at] == b'\r';
            bytes = &bytes[at + 1..];
            if self.is_begun() {
                show(self.take());
                self.after_cr = cr;
            } else if !cr {
                if !self.after_cr {
                    show(String::new());
                }
                self.after_cr = false;
            }
        }
        bytes
    }

    fn end(&mut self, mut show: impl FnMut(String)) {
        if self.is_begun() {
            show(self.take());
        }
    }

    fn is_begun(&self) -> bool {
        !self.partial.is_empty()
    }

    fn keep(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(LONGEST - self.partial.len());
        self.partial.extend_from_slice(&bytes[..kept]);
        self.left_out += (bytes.len() - kept) as u64;
    }

    fn take(&mut self) -> String {
        let line = printable::line(&self.partial, self.left_out);
        self.partial.clear();
        self.left_out = 0;
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(lines: &mut Lines, bytes: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = lines.split(rest, 3, |line| all.push(line));
        }
        all
    }

    fn end(lines: &mut Lines) -> Vec<String> {
        let mut all = Vec::new();
        lines.end(|line| all.push(line));
        all
    }

    #[test]
    fn lines_survive_any_cut_and_bad_bytes() {
        let mut lines = Lines::default();
        assert_eq!(split(&mut lines, b"a\r"), ["a"]);
        assert_eq!(split(&mut lines, b"\nb"), [""; 0]);
        assert_eq!(
            split(&mut lines, b"c\n\xff\n\n\r\n"),
            ["bc", "\\xff", "", ""]
        );
        assert_eq!(
            split(&mut lines, b"\r10%\r20%\r30%\n"),
            ["10%", "20%", "30%"]
        );
        assert_eq!(split(&mut lines, b"end"), [""; 0]);
        assert_eq!(end(&mut lines), ["end"]);
        assert!(end(&mut lines).is_empty());
    }

    #[test]
    fn endless_lines_are_cut_and_cost_no_more_than_that() {
        let mut lines = Lines::default();
        for _ in 0..1000 {
            assert!(split(&mut lines, &[b'x'; 1000]).is_empty());
        }
        assert!(lines.partial.capacity() <= 2 * LONGEST);
        let cut = end(&mut lines);
        assert_eq!(cut.len(), 1);
        let more = format!("x ... ({} bytes more)", 1_000_000 - LONGEST);
        assert!(cut[0].ends_with(&more), "{}", cut[0]);
        assert_eq!(split(&mut lines, b"next\n"), ["next"]);
    }

    #[test]
    fn a_helping_ends_in_time() {
        let mut lines = Lines::default();
        let mut count = 0;
        let rest = lines.split(&[b'\n'; 1000], 10, |_| count += 1);
        assert_eq!((count, rest.len()), (10, 990));
    }

    #[test]
    fn a_gate_holds_lines_back_until_it_opens_or_has_too_many() {
        let log = Log::default();
        let seen = || -> Vec<String> {
            let (lines, _) = log.take();
            lines.into_iter().map(|line| line.text).collect()
        };
        let gate = Gate::closed();
        gate.pass(&log, Level::INFO, "one".into());
        gate.pass(&log, Level::WARN, "two".into());
        assert!(seen().is_empty());
        gate.open(&log);
        gate.pass(&log, Level::INFO, "three".into());
        gate.open(&log);
        assert_eq!(seen(), ["one", "two", "three"]);

        let gate = Gate::closed();
        for line in 0..MOST_HELD {
            assert!(seen().is_empty());
            gate.pass(&log, Level::INFO, line.to_string());
        }
        assert_eq!(seen().len(), MOST_HELD);
    }

    proptest! {
        #[test]
        fn where_reads_end_makes_no_difference(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(1usize..20, 1..20),
        ) {
            let mut whole = Lines::default();
            let mut expected = split(&mut whole, &bytes);
            expected.extend(end(&mut whole));
            let mut lines = Lines::default();
            let (mut all, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                all.extend(split(&mut lines, now));
                rest = later;
            }
            all.extend(end(&mut lines));
            prop_assert_eq!(all, expected);
        }
    }

    #[tokio::test]
    async fn who_prints_at_full_speed_leaves_the_thread_to_others() {
        use std::io::Write;
        let (reader, mut writer) = pipe();
        let printing = std::thread::spawn(move || {
            let text = b"y\n".repeat(50_000);
            while writer.write_all(&text).is_ok() {}
        });
        let log = Arc::new(Log::default());
        let tail = Tail::default();
        let following = tokio::spawn(follow(
            reader,
            Level::INFO,
            Outlet {
                name: "worker 1".into(),
                log: log.clone(),
                gate: Gate::default(),
            },
            tail.clone(),
        ));
        // This thread has one runtime: unless the task rests, nothing else is ever run between two lines.
        let mut turns = 0u32;
        while log.dropped_ever() == 0 {
            turns += 1;
            tokio::task::yield_now().await;
        }
        assert!(turns > 20_000 / HELPING as u32, "{turns}");
        assert_eq!(tail.lines().len(), KEPT);
        following.abort();
        let _ = following.await;
        printing.join().expect("no panic");
    }

    fn pipe() -> (OwnedFd, std::fs::File) {
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        (reader, writer.into())
    }
}
