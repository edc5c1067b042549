//! Threads that never run one of R's signal handlers: those belong to R's own thread.

use nix::sys::signal::{pthread_sigmask, SigSet, SigmaskHow};

/// Runs `start` with all signals blocked, so that the threads it starts are born with all of them blocked: to block them
/// in the new thread would leave a moment in which it could get one.
pub fn blocked<T>(start: impl FnOnce() -> T) -> T {
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
