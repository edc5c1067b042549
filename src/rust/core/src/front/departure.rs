//! Whether a client has left, whatever it has left unread.
//!
//! A client that closes its connection and one that only says that it sends no more (`nc -N`, `shutdown(SHUT_WR)`) look
//! the same: both send a FIN. They differ in what they do with bytes that come later: who has closed resets the
//! connection, who waits for an answer takes them. The first bytes of every answer are the same, so they are sent early,
//! one at a time: nothing is said that would not be said anyway, and who has left is known after one round trip.
//!
//! Within an answer there is no such byte. Who sends a FIN while a worker still works on the rest has left.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use super::direct::KeptProgress;
use crate::body::SpoolProgress;
use crate::client_stream::ClientStream;
use crate::clock::coarse_millis;

/// How all answers begin, HTTP/1.0's and HTTP/1.1's.
const BEGINNING: &[u8] = b"HTTP/1.";

/// A client that waits on is looked at again, but not sooner than this, in milliseconds.
const PAUSE: u64 = 50;

/// How far the answer to the request in progress is.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Answer {
    None = 0,
    /// Nobody works on it any more.
    Ready = 1,
    /// It has begun, and its rest is on its way from a worker.
    Coming = 2,
}

/// How far a body is that is on its way.
pub enum Progress {
    Spool(SpoolProgress),
    Kept(KeptProgress),
}

impl Progress {
    /// Whether it has still to come to its end.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Spool(progress) => progress.is_open(),
            Self::Kept(progress) => progress.is_open(),
        }
    }
}

/// What is known of one client's leaving.
pub struct Departure {
    /// Whether [`departed`] has to be polled.
    stirred: AtomicBool,
    /// Whether the client has sent all it will ever send, and may be there all the same.
    half_closed: AtomicBool,
    /// An [`Answer`].
    answer: AtomicU8,
    /// Of an answer that is coming.
    progress: Mutex<Option<Progress>>,
    /// Whether all that was to be written is written.
    drained: AtomicBool,
    /// How many bytes of the next answer have been sent.
    ahead: AtomicU8,
    /// When the last of them was.
    looked: AtomicU64,
}

impl Default for Departure {
    fn default() -> Self {
        Self {
            stirred: AtomicBool::new(true),
            half_closed: AtomicBool::new(false),
            answer: AtomicU8::new(Answer::None as u8),
            progress: Mutex::default(),
            drained: AtomicBool::new(true),
            ahead: AtomicU8::new(0),
            looked: AtomicU64::new(0),
        }
    }
}

impl Departure {
    pub fn stir(&self) {
        self.stirred.store(true, Ordering::Relaxed);
    }

    /// Whether [`departed`] has to be polled now.
    pub fn take_stirred(&self) -> bool {
        let stirred = self.stirred.load(Ordering::Relaxed);
        if stirred {
            self.stirred.store(false, Ordering::Relaxed);
        }
        stirred
    }

    pub fn request_started(&self) {
        self.answer.store(Answer::None as u8, Ordering::Relaxed);
    }

    /// The answer's head is there; its body has `progress` if a worker is not done with it.
    pub fn answered(&self, progress: Option<Progress>) {
        let answer = match progress {
            None => Answer::Ready,
            Some(progress) => {
                let mut known = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
                *known = Some(progress);
                Answer::Coming
            }
        };
        self.answer.store(answer as u8, Ordering::Relaxed);
    }

    fn is_coming(&self) -> bool {
        if self.answer.load(Ordering::Relaxed) != Answer::Coming as u8 {
            return false;
        }
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.as_ref().is_some_and(Progress::is_open)
    }

    /// Bytes are being written.
    pub fn writing(&self) {
        self.drained.store(false, Ordering::Relaxed);
    }

    /// Nothing is left to write.
    pub fn drained(&self) {
        self.drained.store(true, Ordering::Relaxed);
    }

    /// How many bytes of what is about to be written have been sent already. They count as written from now on.
    pub fn take_ahead(&self) -> usize {
        let ahead = self.ahead.load(Ordering::Relaxed);
        if ahead > 0 {
            self.ahead.store(0, Ordering::Relaxed);
        }
        ahead.into()
    }

    /// Looks at a client that may have left: sends a byte of its answer if that has not begun. `busy`: a request is being
    /// served.
    ///
    /// # Errors
    /// What the system says of a connection that is broken.
    pub fn look(&self, stream: &ClientStream, busy: bool) -> io::Result<()> {
        if !self.half_closed.load(Ordering::Relaxed)
            || !busy
            || self.answer.load(Ordering::Relaxed) != Answer::None as u8
            || !self.drained.load(Ordering::Relaxed)
        {
            return Ok(());
        }
        let ahead = self.ahead.load(Ordering::Relaxed);
        let soon = coarse_millis() < self.looked.load(Ordering::Relaxed) + PAUSE;
        let Some(byte) = BEGINNING.get(usize::from(ahead)) else {
            return Ok(());
        };
        if ahead > 0 && soon {
            return Ok(());
        }
        match stream.try_write(&[*byte]) {
            Ok(sent) => {
                self.ahead.store(ahead + sent as u8, Ordering::Relaxed);
                self.looked.store(coarse_millis(), Ordering::Relaxed);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether departures are noticed here; elsewhere hyper does, by reading.
pub const IS_WATCHED: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Resolves when the client is known to have left.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub async fn departed(stream: &ClientStream, departure: &Departure) {
    use tokio::io::Interest;
    // With `PRIORITY` comes the end of the stream, but not the bytes before it, which are others' to read.
    match stream.ready(Interest::PRIORITY | Interest::ERROR).await {
        Ok(ready) if !ready.is_error() && !departure.is_coming() => {}
        _ => return,
    }
    departure.half_closed.store(true, Ordering::Relaxed);
    // However that ends.
    let _ = stream.ready(Interest::ERROR).await;
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub async fn departed(_: &ClientStream, _: &Departure) {
    std::future::pending().await
}
