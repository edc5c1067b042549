//! An exchange whose answer is written out as it comes, on a thread that waits for whoever reads it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use super::input::is_for_later;
use super::{ClientError, Exchange, Polled};
use crate::environment::SystemError;
use crate::signals::{self, start_thread};

/// How long nothing may come, in milliseconds, until it is looked whether anybody still reads.
const LOOK: u16 = 100;

/// What is kept of an answer that is an error, in bytes: it is not written out.
const MOST_REFUSED: usize = 1024 * 1024;

/// A request whose answer goes to a descriptor. To drop it closes its connection.
pub struct Pour {
    exchange: Arc<Exchange>,
    told: Arc<Told>,
}

#[derive(Default)]
struct Told {
    polled: Mutex<Polled>,
    changed: Condvar,
    /// Nobody wants it any more.
    given_up: AtomicBool,
}

impl Told {
    fn change(&self, change: impl FnOnce(&mut Polled)) {
        change(&mut self.polled.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

impl Pour {
    /// Writes the answer to `output`, unless its status is 400 or above, and returns at once. If nobody reads that any more, the
    /// exchange ends by [`ClientError::Unread`].
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(exchange: Exchange, output: File) -> io::Result<Self> {
        let exchange = Arc::new(exchange);
        let told = Arc::new(Told::default());
        let (from, tell) = (exchange.clone(), told.clone());
        start_thread("faucet-output", signals::SMALL_STACK, move || {
            let outcome = pour(&from, &output, &tell);
            from.give_up();
            tell.change(|polled| polled.outcome = Some(outcome));
        })?;
        Ok(Self { exchange, told })
    }

    /// What there is to tell; waits at most `patience` for it. The pieces are those of an answer that is an error.
    pub fn poll(&self, patience: Duration) -> Polled {
        let nothing = |polled: &mut Polled| polled.head.is_none() && polled.outcome.is_none();
        let polled = self.told.polled.lock();
        let polled = polled.unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .told
            .changed
            .wait_timeout_while(polled, patience, nothing);
        let (mut polled, _) = waited.unwrap_or_else(PoisonError::into_inner);
        Polled {
            head: polled.head.take(),
            pieces: std::mem::take(&mut polled.pieces),
            outcome: polled.outcome.clone(),
        }
    }
}

impl Drop for Pour {
    fn drop(&mut self) {
        self.told.given_up.store(true, Ordering::Relaxed);
        self.exchange.give_up();
    }
}

fn pour(exchange: &Exchange, output: &File, told: &Told) -> Result<(), ClientError> {
    let mut refused = false;
    let mut kept = 0;
    loop {
        let polled = exchange.poll(Duration::from_millis(LOOK.into()));
        if let Some(head) = polled.head {
            refused = head.status >= StatusCode::BAD_REQUEST;
            told.change(|polled| polled.head = Some(head));
        }
        if polled.pieces.is_empty() && is_left(output) {
            return Err(ClientError::Unread);
        }
        for piece in polled.pieces {
            if !refused {
                write_all(output, &piece, told)?;
            } else if kept < MOST_REFUSED {
                kept += piece.len();
                told.change(|polled| polled.pieces.push(piece));
            }
        }
        if let Some(outcome) = polled.outcome {
            return outcome;
        }
    }
}

fn write_all(mut output: &File, mut piece: &[u8], told: &Told) -> Result<(), ClientError> {
    while !piece.is_empty() {
        match output.write(piece) {
            Ok(count) => piece = &piece[count..],
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Err(ClientError::Unread)
            }
            // Nobody wakes a descriptor that does not wait.
            Err(error) if is_for_later(&error) => wait_for_room(output),
            Err(error) => return Err(ClientError::Output(SystemError(&error).to_string())),
        }
        if told.given_up.load(Ordering::Relaxed) {
            return Err(ClientError::Answer("it was given up".into()));
        }
    }
    Ok(())
}

fn wait_for_room(output: &File) {
    let mut watched = [PollFd::new(output.as_fd(), PollFlags::POLLOUT)];
    // Whatever comes of it, the next try tells.
    let _ = poll(&mut watched, PollTimeout::from(LOOK));
}

/// Whether nobody reads a pipe any more.
fn is_left(output: &File) -> bool {
    let mut watched = [PollFd::new(output.as_fd(), PollFlags::empty())];
    match poll(&mut watched, PollTimeout::ZERO) {
        Ok(0) | Err(Errno::EINTR) => false,
        Ok(_) => watched[0]
            .revents()
            .is_some_and(|events| events.intersects(PollFlags::POLLERR | PollFlags::POLLHUP)),
        Err(_) => false,
    }
}
