//! Threads that never run one of R's signal handlers: those belong to R's own thread.

use std::io;
use std::thread::JoinHandle;

use nix::sys::signal::{pthread_sigmask, SigSet, SigmaskHow};

/// The stack of a thread that serves, in bytes. Said always: a thread without would have the standard library look for
/// `RUST_MIN_STACK` in the environment.
pub const STACK: usize = 2 * 1024 * 1024;

/// Enough for a thread that only waits.
pub const SMALL_STACK: usize = 128 * 1024;

/// Starts a thread that no signal reaches. All threads of this crate and of the glue are started here, or by a runtime on one
/// of these, which hands its mask on.
///
/// # Errors
/// The system refuses another thread.
#[allow(clippy::disallowed_methods)]
pub fn start_thread<T: Send + 'static>(
    name: &str,
    stack: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    blocked(|| {
        std::thread::Builder::new()
            .name(name.into())
            .stack_size(stack)
            .spawn(work)
    })
}

/// Runs `start` with all signals blocked, so that the threads it starts are born with all of them blocked: to block them
/// in the new thread would leave a moment in which it could get one.
fn blocked<T>(start: impl FnOnce() -> T) -> T {
    let mut before = SigSet::empty();
    let masked = pthread_sigmask(
        SigmaskHow::SIG_BLOCK,
        Some(&SigSet::all()),
        Some(&mut before),
    );
    let started = start();
    if masked.is_ok() {
        // Sets what was in force: cannot fail.
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    }
    started
}
