//! Signals while R waits in the foreground; SIGINT stays R's own.
//!
//! R has no handler for SIGTERM, which `docker stop` sends. It has some for the others that end it or raise an error:
//! SIGUSR1 (save the workspace and quit), SIGUSR2 (quit) and SIGPIPE. As in other servers, SIGHUP reloads, SIGUSR1 opens
//! the logs again, which SIGHUP does, too, and the others do nothing.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::sync::PoisonError;

use extendr_api::prelude::*;
use nix::libc::c_int;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

static TERM: AtomicBool = AtomicBool::new(false);
static HUP: AtomicBool = AtomicBool::new(false);
static REOPEN: AtomicBool = AtomicBool::new(false);

const NOTED: [Signal; 3] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGUSR1];
const IGNORED: [Signal; 2] = [Signal::SIGUSR2, Signal::SIGPIPE];

extern "C" fn note(signal: c_int) {
    // Only async-signal-safe work: R's loop looks at these within 100 ms.
    if signal == Signal::SIGTERM as c_int {
        TERM.store(true, Ordering::Relaxed);
        return;
    }
    if signal == Signal::SIGHUP as c_int {
        HUP.store(true, Ordering::Relaxed);
    }
    REOPEN.store(true, Ordering::Relaxed);
}

/// How often the signals are held, and what was there before the first time.
struct Held {
    depth: u32,
    before: Vec<(Signal, SigAction)>,
}

static HELD: Mutex<Held> = Mutex::new(Held {
    depth: 0,
    before: Vec::new(),
});

/// Notes SIGTERM, SIGHUP and SIGUSR1 for `server_poll()`, and ignores SIGUSR2 and SIGPIPE, until `signals_release()`.
/// @noRd
#[extendr(invisible)]
fn signals_hold() {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.depth += 1;
    if held.depth > 1 {
        return;
    }
    TERM.store(false, Ordering::Relaxed);
    HUP.store(false, Ordering::Relaxed);
    REOPEN.store(false, Ordering::Relaxed);
    let noted = NOTED.map(|signal| (signal, SigHandler::Handler(note)));
    let ignored = IGNORED.map(|signal| (signal, SigHandler::SigIgn));
    for (signal, handler) in noted.into_iter().chain(ignored) {
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler only stores to atomics.
        if let Ok(before) = unsafe { sigaction(signal, &action) } {
            held.before.push((signal, before));
        }
    }
}

/// Restores the handlers that were there before.
/// @noRd
#[extendr(invisible)]
fn signals_release() {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.depth = held.depth.saturating_sub(1);
    if held.depth == 0 {
        for (signal, before) in held.before.drain(..) {
            // SAFETY: this is the action that was in force before.
            let _ = unsafe { sigaction(signal, &before) };
        }
    }
}

/// Whether a signal waits to be taken.
pub fn is_pending() -> bool {
    [&TERM, &HUP, &REOPEN]
        .into_iter()
        .any(|signal| signal.load(Ordering::Relaxed))
}

/// Whether the logs are to be opened again, once.
pub fn take_reopen() -> bool {
    REOPEN.swap(false, Ordering::Relaxed)
}

/// The signal noted since the last call; SIGTERM first.
pub fn take() -> &'static str {
    if TERM.swap(false, Ordering::Relaxed) {
        "term"
    } else if HUP.swap(false, Ordering::Relaxed) {
        "hup"
    } else {
        ""
    }
}

/// The signal noted since it was last told, for when `server_poll()` fails.
/// @noRd
#[extendr]
fn signals_taken() -> &'static str {
    take()
}

extendr_module! {
    mod signals;
    fn signals_hold;
    fn signals_taken;
    fn signals_release;
}
