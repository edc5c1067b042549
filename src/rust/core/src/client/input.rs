//! What a program is given on its standard input, or the like, sent as it comes.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use super::{Feed, Offered};
use crate::environment::SystemError;
use crate::signals::{self, start_thread};

/// How much is read at a time, in bytes.
const CHUNK: usize = 64 * 1024;

/// After so many milliseconds without input it is looked whether it is still wanted.
const LOOK: u16 = 200;

/// Feeds what can be read from `input`, to its end, on a thread of its own, which ends a moment after nothing is sent any more.
///
/// # Errors
/// The system refuses a thread.
pub fn feed_from(input: File, feed: Feed) -> io::Result<()> {
    start_thread("faucet-input", signals::SMALL_STACK, move || {
        let outcome = read_all(&input, &feed);
        feed.end(outcome.map_err(|error| SystemError(&error).to_string()));
    })?;
    Ok(())
}

fn read_all(mut input: &File, feed: &Feed) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while !feed.is_closed() {
        if !is_readable(input)? {
            continue;
        }
        let count = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if is_for_later(&error) => continue,
            Err(error) => return Err(error),
        };
        let mut piece = Bytes::copy_from_slice(&buffer[..count]);
        while let Offered::Full(back) = feed.put(piece, Duration::from_secs(1)) {
            piece = back;
        }
    }
    Ok(())
}

/// Waits for input, its end or an error, but not for long.
fn is_readable(input: &File) -> io::Result<bool> {
    let mut watched = [PollFd::new(input.as_fd(), PollFlags::POLLIN)];
    match poll(&mut watched, PollTimeout::from(LOOK)) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether another try may do: somebody else may have made it a descriptor that does not wait.
pub(super) fn is_for_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
