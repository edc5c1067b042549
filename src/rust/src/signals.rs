//! SIGTERM and SIGHUP while R waits in the foreground. R has no handler for the first, and `docker
//! stop` sends it; SIGINT stays R's own.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::sync::PoisonError;

use extendr_api::prelude::*;
use nix::libc::c_int;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

static TERM: AtomicBool = AtomicBool::new(false);
static HUP: AtomicBool = AtomicBool::new(false);

extern "C" fn note(signal: c_int) {
    // Only async-signal-safe work: R's loop looks at these within 100 ms.
    if signal == Signal::SIGTERM as c_int {
        TERM.store(true, Ordering::Relaxed);
    } else {
        HUP.store(true, Ordering::Relaxed);
    }
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

/// Notes SIGTERM and SIGHUP for `server_poll()` until `signals_release()`.
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
    let action = SigAction::new(
        SigHandler::Handler(note),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGTERM, Signal::SIGHUP] {
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
    TERM.load(Ordering::Relaxed) || HUP.load(Ordering::Relaxed)
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

extendr_module! {
    mod signals;
    fn signals_hold;
    fn signals_release;
}
