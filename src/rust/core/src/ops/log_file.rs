//! A file that lines are appended to, by a thread of its own: nobody else ever waits for it.
//!
//! The file is opened again when asked, and rotated when it is full. Whatever goes wrong is said once. Lines are
//! kept meanwhile, up to [`CAPACITY`], and each goes into one file, whole: what the system took of a line before it failed is taken
//! back.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use tracing::Level;

use super::log::{Kind, Log};
use super::rotation::{Opened, Rotated};
use crate::environment::SystemError;
use crate::signals;

/// Bytes that wait for the thread, and as many may be in its hands; lines beyond are dropped and counted.
const CAPACITY: usize = 8 * 1024 * 1024;

/// What a buffer may keep when it is empty, in bytes.
const KEPT: usize = 1024 * 1024;

/// Between two attempts at what has failed.
const RETRY: Duration = Duration::from_secs(1);

/// How long a pipe that is full is waited for until it counts as a failure.
const FULL: u16 = 500;

/// Where the file is and how large it may become.
#[derive(Clone, Debug)]
pub struct LogFile {
    pub path: PathBuf,
    /// Bytes at which it is rotated; `None` for never.
    pub max_size: Option<u64>,
    /// How many files are kept beside it.
    pub keep: u32,
}

/// The way to the thread. When it is dropped, the thread writes what it has, if it can, and ends.
pub struct Appender {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// For the thread: there is something to do.
    work: Condvar,
    /// For [`Appender::finish`]: the thread has ended, or makes no progress.
    settled: Condvar,
    log: Arc<Log>,
}

#[derive(Default)]
struct State {
    /// Whole lines, each with its end.
    waiting: Vec<u8>,
    /// Lines dropped since that was last told.
    dropped: u64,
    reopen: bool,
    closed: bool,
    /// The thread waits for something to do.
    idle: bool,
    /// What the thread tries to write is not taken.
    stuck: bool,
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, level: Level, text: String) {
        self.log.push(Kind::Event, level, text);
    }
}

impl Appender {
    /// Opens the file and starts the thread. A pipe that nobody reads yet is opened when somebody does.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread.
    pub fn start(file: LogFile, log: Arc<Log>) -> io::Result<Self> {
        let opened = match Opened::open(&file.path) {
            Ok(opened) => Some(opened),
            Err(error) if is_unread_pipe(&error, &file.path) => None,
            Err(error) => return Err(error),
        };
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            settled: Condvar::new(),
            log,
        });
        let writer = Writer {
            file,
            opened,
            batch: Vec::new(),
            done: 0,
            failing: false,
            rotation_failing: false,
            shared: shared.clone(),
        };
        signals::start_thread("faucet-log", signals::SMALL_STACK, move || writer.run())?;
        Ok(Self { shared })
    }

    /// Appends a line, or drops it. Never waits.
    pub fn push(&self, line: &str) {
        let mut state = self.shared.lock();
        if state.closed || state.waiting.len() + line.len() >= CAPACITY {
            state.dropped += 1;
            let first = state.dropped == 1 && !state.closed;
            drop(state);
            self.shared.log.note_lost(0, 1);
            if first {
                let text = "lines of the access log are dropped: `log_file` does not take them";
                self.shared.say(Level::WARN, text.into());
            }
            return;
        }
        state.waiting.extend_from_slice(line.as_bytes());
        state.waiting.push(b'\n');
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        if idle {
            self.shared.work.notify_one();
        }
    }

    /// Has the file opened again under its name, soon.
    pub fn reopen(&self) {
        self.shared.lock().reopen = true;
        self.shared.work.notify_one();
    }

    /// Has everything written; waits at most `patience`, and not at all for a file that does not take it.
    pub fn finish(&self, patience: Duration) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.work.notify_one();
        let _ = self
            .shared
            .settled
            .wait_timeout_while(state, patience, |state| !state.ended && !state.stuck);
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_one();
    }
}

/// Whether a pipe has a name and no reader.
fn is_unread_pipe(error: &io::Error, path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    error.raw_os_error() == Some(Errno::ENXIO as i32)
        && path
            .metadata()
            .is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// The thread's own.
struct Writer {
    file: LogFile,
    /// None for a pipe without a reader.
    opened: Option<Opened>,
    /// Whole lines; those up to `done` are written.
    batch: Vec<u8>,
    done: usize,
    /// That nothing can be written has been said.
    failing: bool,
    /// That it cannot be rotated has been said.
    rotation_failing: bool,
    shared: Arc<Shared>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.settled.notify_all();
    }
}

impl Writer {
    fn run(mut self) {
        while let Some(reopen) = self.next() {
            if reopen {
                self.reopen();
            }
            match self.write() {
                Ok(()) => self.recovered(),
                Err(error) => {
                    self.take_back();
                    if !self.failed(&error) {
                        return;
                    }
                }
            }
        }
    }

    /// Waits for something to do: whether to open the file again first. None at the end.
    fn next(&mut self) -> Option<bool> {
        let mut state = self.shared.lock();
        loop {
            let reopen = std::mem::take(&mut state.reopen);
            if self.batch.is_empty() {
                std::mem::swap(&mut self.batch, &mut state.waiting);
            }
            if reopen || !self.batch.is_empty() {
                break Some(reopen);
            }
            if state.closed {
                break None;
            }
            state.idle = true;
            state = self
                .shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes the batch.
    fn write(&mut self) -> io::Result<()> {
        while self.done < self.batch.len() {
            let end = self.writable()?;
            let opened = match &mut self.opened {
                Some(opened) => opened,
                None => self.opened.insert(Opened::open(&self.file.path)?),
            };
            match opened.append(&self.batch[self.done..end]) {
                Ok(count) => {
                    self.done += count;
                    self.moved();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut room = [PollFd::new(opened.as_fd(), PollFlags::POLLOUT)];
                    if !matches!(poll(&mut room, PollTimeout::from(FULL)), Ok(1..)) {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.batch.clear();
        self.batch.shrink_to(KEPT);
        self.done = 0;
        Ok(())
    }

    /// How far the batch may be written now: as many lines as the file has room for, after it was rotated if it has room for
    /// none.
    fn writable(&mut self) -> io::Result<usize> {
        let all = self.batch.len();
        let (Some(most), Some(opened)) = (self.file.max_size, &self.opened) else {
            return Ok(all);
        };
        let rest = &self.batch[self.done..];
        let Some(size) = opened.size()? else {
            return Ok(all);
        };
        let room = usize::try_from(most.saturating_sub(size)).unwrap_or(usize::MAX);
        if rest.len() <= room {
            return Ok(all);
        }
        let line_end = |from: usize| {
            let end = rest[from..].iter().position(|byte| *byte == b'\n');
            end.map_or(all, |end| self.done + from + end + 1)
        };
        if let Some(end) = rest[..room].iter().rposition(|byte| *byte == b'\n') {
            return Ok(self.done + end + 1);
        }
        if size == 0 {
            // A line that is larger than any file may be.
            return Ok(line_end(0));
        }
        // What has begun is finished where it began.
        if self.begun() > 0 {
            return Ok(line_end(0));
        }
        match opened.rotate(&self.file.path, self.file.keep) {
            Ok(rotated) => {
                if let Rotated::Anew(new) = rotated {
                    self.opened = Some(new);
                }
                if std::mem::take(&mut self.rotation_failing) {
                    let text = "`log_file` can be rotated again".to_owned();
                    self.shared.say(Level::INFO, text);
                }
                self.writable()
            }
            Err(error) => {
                if !std::mem::replace(&mut self.rotation_failing, true) {
                    let text = format!(
                        "`log_file` cannot be rotated, and grows: {}: {}",
                        self.file.path.display(),
                        SystemError(&error)
                    );
                    self.shared.say(Level::ERROR, text);
                }
                // Tried again with the next lines.
                Ok(all)
            }
        }
    }

    /// How much of a line is written whose end is not.
    fn begun(&self) -> usize {
        let written = &self.batch[..self.done];
        let whole = written.iter().rposition(|byte| *byte == b'\n');
        written.len() - whole.map_or(0, |end| end + 1)
    }

    /// Takes back what was written of a line without its end: all of it will be written again. Where that is not possible (a
    /// pipe), the same file gets the rest of it.
    fn take_back(&mut self) {
        let begun = self.begun();
        if begun > 0
            && self
                .opened
                .as_ref()
                .is_some_and(|opened| opened.take_back(begun))
        {
            self.done -= begun;
        }
    }

    /// Opens the file by its name; goes on with the one that is open if that fails.
    fn reopen(&mut self) {
        match Opened::open(&self.file.path) {
            Ok(new) => {
                self.take_back();
                self.done -= self.begun();
                self.opened = Some(new);
                self.shared
                    .say(Level::INFO, "`log_file` was opened again".into());
            }
            Err(error) => {
                let text = format!(
                    "`log_file` cannot be opened again: {}: {}; what was open is written on",
                    self.file.path.display(),
                    SystemError(&error)
                );
                self.shared.say(Level::ERROR, text);
            }
        }
    }

    /// The system has taken something.
    fn moved(&mut self) {
        if self.failing {
            self.shared.lock().stuck = false;
        }
    }

    fn recovered(&mut self) {
        let dropped = {
            let mut state = self.shared.lock();
            state.stuck = false;
            std::mem::take(&mut state.dropped)
        };
        if std::mem::take(&mut self.failing) {
            let text = "the access log is written again".to_owned();
            self.shared.say(Level::INFO, text);
        }
        if dropped > 0 {
            let text = format!("{dropped} lines of the access log were dropped");
            self.shared.say(Level::WARN, text);
        }
    }

    /// Says so, once, and waits until it is time to try again; whether it is.
    fn failed(&mut self, error: &io::Error) -> bool {
        if !std::mem::replace(&mut self.failing, true) {
            let path = self.file.path.display();
            let text = if error.kind() == io::ErrorKind::WouldBlock
                || error.kind() == io::ErrorKind::BrokenPipe
                || is_unread_pipe(error, &self.file.path)
            {
                format!("the access log cannot be written: nobody reads {path}")
            } else {
                format!(
                    "the access log cannot be written: {path}: {}",
                    SystemError(error)
                )
            };
            self.shared.say(Level::ERROR, text);
        }
        if error.kind() == io::ErrorKind::BrokenPipe {
            // Whoever reads next has not seen the beginning of the line.
            self.done -= self.begun();
            self.opened = None;
        }
        let mut state = self.shared.lock();
        state.stuck = true;
        self.shared.settled.notify_all();
        if error.kind() != io::ErrorKind::WouldBlock {
            let idle = |state: &mut State| !state.reopen && !state.closed;
            state = self
                .shared
                .work
                .wait_timeout_while(state, RETRY, idle)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        !state.closed
    }
}
