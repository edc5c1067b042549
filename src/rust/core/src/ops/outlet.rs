//! Standard output and error, written by threads of their own: whoever prints never waits long for whoever reads.
//!
//! A pipe that is full, a terminal that was stopped and a reader that has left are the reader's affair. The writing
//! thread waits for it, or gets the error, with all signals blocked; what does not fit into the queue meanwhile is lost
//! and counted.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::environment::SystemError;
use crate::signals;

/// What waits for a reader at most, in bytes.
const QUEUE: usize = 1024 * 1024;

/// What is written at once, in bytes.
const PIECE: usize = 64 * 1024;

/// How long a reader may take before nobody waits for it.
const PATIENCE: Duration = Duration::from_millis(50);

/// Between two reports that a stream cannot be written.
const REPORTS: Duration = Duration::from_secs(60);

/// Before a stream in non-blocking mode is tried again.
const AGAIN: Duration = Duration::from_millis(10);

/// Standard output of this process.
pub static OUTPUT: Outlet = Outlet::new(|text| {
    let stdout = io::stdout();
    Ok(nix::unistd::write(stdout, text)?)
});

/// Standard error of this process.
pub static ERROR: Outlet = Outlet::new(|text| {
    let stderr = io::stderr();
    Ok(nix::unistd::write(stderr, text)?)
});

/// Sees to it that the standard streams are open. Otherwise the next socket would be one of them, and its client would get
/// what is printed.
pub fn occupy() {
    // The system takes the lowest number that is free.
    while let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
        if null.as_raw_fd() > 2 {
            break;
        }
        let _ = null.into_raw_fd();
    }
}

/// One stream.
pub struct Outlet {
    write: fn(&[u8]) -> io::Result<usize>,
    /// The process whose thread writes; 0 before the first text. A fork of it has no such thread.
    owner: AtomicU32,
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Something was written, or given up.
    moved: Condvar,
}

struct State {
    queue: VecDeque<Vec<u8>>,
    /// Of all that is queued or being written.
    bytes: usize,
    /// The reader took longer than our patience, and has not caught up since.
    stuck: bool,
    /// Lines for which there was no room.
    lost: u64,
    /// Lines that could not be written.
    failed: u64,
    failure: Option<io::Error>,
    reported: Option<Instant>,
}

/// There is no thread that could write: it could not be started, or this is a fork of the process that has it.
#[derive(Debug)]
pub struct NoThread;

impl Outlet {
    pub const fn new(write: fn(&[u8]) -> io::Result<usize>) -> Self {
        Self {
            write,
            owner: AtomicU32::new(0),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                bytes: 0,
                stuck: false,
                lost: 0,
                failed: 0,
                failure: None,
                reported: None,
            }),
            filled: Condvar::new(),
            moved: Condvar::new(),
        }
    }

    /// Writes lines, or has them written soon. Returns after 50 ms at the latest; what found no room by then is lost.
    ///
    /// # Errors
    /// Nothing will write it.
    pub fn put(&'static self, text: &[u8]) -> Result<(), NoThread> {
        self.start()?;
        let deadline = Instant::now() + PATIENCE;
        let mut pieces = pieces(text);
        while let Some(piece) = pieces.next() {
            let state = self.wait(deadline, |state| state.bytes + piece.len() <= QUEUE);
            let Ok(mut state) = state else {
                self.lock().lost += count(piece) + pieces.map(count).sum::<u64>();
                return Ok(());
            };
            state.bytes += piece.len();
            state.queue.push_back(piece.to_vec());
            drop(state);
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits until all is written, but for no reader that is known not to read. What is printed by other means then
    /// comes after it.
    pub fn settle(&self) {
        if self.is_ours() {
            drop(self.wait(Instant::now() + PATIENCE, |state| state.bytes == 0));
        }
    }

    /// Waits until all is written, at most `patience`, for any reader.
    pub fn finish(&self, patience: Duration) {
        if self.is_ours() {
            self.lock().stuck = false;
            drop(self.wait(Instant::now() + patience, |state| state.bytes == 0));
        }
    }

    /// Whether its reader keeps up.
    pub fn is_read(&self) -> bool {
        let good = |state: &State| !state.stuck && state.failure.is_none();
        !self.is_ours() || good(&self.lock())
    }

    /// Why it cannot be written, now and then.
    pub fn trouble(&self) -> Option<String> {
        if !self.is_ours() {
            return None;
        }
        let mut state = self.lock();
        let why = SystemError(state.failure.as_ref()?).to_string();
        if state.reported.is_some_and(|at| at.elapsed() < REPORTS) {
            return None;
        }
        state.reported = Some(Instant::now());
        Some(why)
    }

    /// Lines lost since the last call: for want of room, and because they could not be written.
    pub fn take_lost(&self) -> (u64, u64) {
        if !self.is_ours() {
            return (0, 0);
        }
        let mut state = self.lock();
        (
            std::mem::take(&mut state.lost),
            std::mem::take(&mut state.failed),
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state once `good` holds; an error if it does not by the deadline, or if nobody reads anyway.
    fn wait(
        &self,
        deadline: Instant,
        good: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'_, State>, NoReader> {
        let mut state = self.lock();
        while !good(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            state.stuck = state.stuck || left.is_zero();
            if state.stuck {
                return Err(NoReader);
            }
            state = self
                .moved
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Ok(state)
    }

    fn is_ours(&self) -> bool {
        self.owner.load(Ordering::Acquire) == std::process::id()
    }

    /// Starts the thread, unless it runs. Called by one thread, R's.
    fn start(&'static self) -> Result<(), NoThread> {
        match self.owner.load(Ordering::Acquire) {
            0 => {}
            owner if owner == std::process::id() => return Ok(()),
            _ => return Err(NoThread),
        }
        signals::start_thread("faucet-print", signals::SMALL_STACK, move || self.run())
            .map_err(|_| NoThread)?;
        self.owner.store(std::process::id(), Ordering::Release);
        Ok(())
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            let Some(piece) = state.queue.pop_front() else {
                state.stuck = false;
                state = self
                    .filled
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let written = self.write_all(&piece);
            state = self.lock();
            state.bytes -= piece.len();
            match written {
                Ok(()) => state.failure = None,
                Err(error) => {
                    state.failure = Some(error);
                    state.failed += count(&piece);
                }
            }
            self.moved.notify_all();
        }
    }

    fn write_all(&self, mut text: &[u8]) -> io::Result<()> {
        while !text.is_empty() {
            match (self.write)(text) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => text = &text[written..],
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // Whoever started us shares the stream with someone who wants it so.
                    io::ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }
}

struct NoReader;

/// Cuts text after lines, as far as that goes.
fn pieces(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let most = &text[..text.len().min(PIECE)];
        let end = match most.iter().rposition(|byte| *byte == b'\n') {
            Some(at) if most.len() < text.len() => at + 1,
            _ => most.len(),
        };
        let (piece, rest) = text.split_at(end);
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn count(text: &[u8]) -> u64 {
    text.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    const FOREVER: Duration = Duration::from_secs(60);

    #[test]
    fn text_is_written_in_order_whatever_its_size() {
        static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());
        static OUTLET: Outlet = Outlet::new(|text| {
            let some = text.len().min(1000);
            WRITTEN.lock().expect("no panic").extend(&text[..some]);
            Ok(some)
        });
        let text: Vec<u8> = (0..100_000)
            .flat_map(|number: u32| format!("{number}\n").into_bytes())
            .collect();
        for part in text.chunks(200_000) {
            OUTLET.put(part).expect("a thread");
            OUTLET.finish(FOREVER);
        }
        assert!(OUTLET.is_read());
        assert_eq!(OUTLET.take_lost(), (0, 0));
        assert!(*WRITTEN.lock().expect("no panic") == text);
    }

    #[test]
    fn a_reader_that_does_not_read_is_waited_for_once_and_what_it_misses_is_counted() {
        static READS: AtomicBool = AtomicBool::new(false);
        static OUTLET: Outlet = Outlet::new(|text| {
            while !READS.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(text.len())
        });
        let line = [b"x".repeat(QUEUE / 4 - 1), b"\n".to_vec()].concat();
        for _ in 0..10 {
            OUTLET.put(&line).expect("a thread");
        }
        assert!(!OUTLET.is_read());
        // From now on nobody waits at all.
        let never = OUTLET.wait(Instant::now() + FOREVER, |_| false);
        assert!(never.is_err());
        OUTLET.settle();
        OUTLET.put(&line).expect("a thread");
        assert_eq!(OUTLET.take_lost(), (7, 0));
        assert!(OUTLET.lock().bytes <= QUEUE);
        READS.store(true, Ordering::Relaxed);
        OUTLET.finish(FOREVER);
        OUTLET.put(b"again\n").expect("a thread");
        OUTLET.finish(FOREVER);
        assert!(OUTLET.is_read());
    }

    #[test]
    fn a_reader_that_has_left_is_told_once() {
        static OUTLET: Outlet = Outlet::new(|_| Err(io::ErrorKind::BrokenPipe.into()));
        for _ in 0..3 {
            OUTLET.put(b"a\nb\n").expect("a thread");
            OUTLET.finish(FOREVER);
        }
        assert!(!OUTLET.is_read());
        assert_eq!(OUTLET.trouble().as_deref(), Some("broken pipe"));
        assert_eq!(OUTLET.trouble(), None);
        assert_eq!(OUTLET.take_lost(), (0, 6));
    }
}
