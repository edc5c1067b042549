//! The worker's own watch on its front: no worker survives it.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Duration;

use extendr_api::prelude::*;
use faucet_core::environment::Environment;
use faucet_core::signals;
use faucet_core::sources::local::{leave, Hold};
use nix::sys::signal::{kill, killpg, SigSet, Signal};
use nix::unistd::{dup2_stdin, getpgrp, getpid, getppid, Pid};

use crate::metric;
use crate::template::at_exit;

/// How long R may take to run its exit hooks when the front has vanished.
const GRACE: Duration = Duration::from_secs(1);

static WATCHING: Once = Once::new();

/// The front's pid, if this process was forked by a template; otherwise the front is its parent.
static FRONT: AtomicI32 = AtomicI32::new(0);

/// From now on the front is the process with this pid, not the parent.
pub fn set_front(pid: Pid) {
    FRONT.store(pid.as_raw(), Ordering::Relaxed);
}

/// What this process has in the file system by the front's will.
struct Held {
    /// Whose it is: a process that R forks has this value, but nothing of what it names.
    owner: Pid,
    /// Its parent while the front, or the template, lives.
    parent: Pid,
    socket: Option<PathBuf>,
    /// Its temporary files.
    temporary: Option<PathBuf>,
    /// Those are in use.
    _hold: Option<Hold>,
}

static HELD: Mutex<Option<Held>> = Mutex::new(None);

/// Nobody else removes what this process holds.
static ABANDONED: AtomicBool = AtomicBool::new(false);

/// Remembers what the front has said. To be called on R's thread, and before the app may say other things in the environment.
pub fn remember_held() {
    let environment = Environment::read();
    let variables = environment.variables();
    let path = |name: &str| {
        let mut named = variables.iter().filter(|(known, _)| known == name);
        named.next().map(|(_, path)| PathBuf::from(path))
    };
    let temporary = path("TMPDIR");
    let held = Held {
        owner: getpid(),
        parent: getppid(),
        socket: path("FAUCET_SOCKET"),
        _hold: temporary.as_deref().and_then(Hold::of),
        temporary,
    };
    metric::begin(path("FAUCET_METRICS"));
    let before = HELD
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .replace(held);
    // In a process that was forked: its template's, which both use, and to give up a lock would give it up for both.
    std::mem::forget(before);
}

/// From now on the front is not expected to remove anything.
pub fn abandoned() {
    ABANDONED.store(true, Ordering::Relaxed);
}

/// Removes what this process has, if nobody else does. The last thing it does: R's exit hooks may need their temporary files.
pub fn remove_held() {
    let Some(held) = HELD.lock().unwrap_or_else(PoisonError::into_inner).take() else {
        return;
    };
    if held.owner != getpid() {
        return;
    }
    // The system may have told R of the front's end before the watch saw it.
    let known = FRONT.load(Ordering::Relaxed);
    let is_gone = if known == 0 {
        getppid() != held.parent
    } else {
        !exists(known)
    };
    if is_gone || ABANDONED.load(Ordering::Relaxed) {
        if let Some(temporary) = held.temporary {
            leave(&temporary);
        }
        if let Some(socket) = held.socket {
            leave(&socket);
        }
    }
}

/// Ends this process when standard input ends: the front holds its other end, and whatever becomes of
/// the front, the system closes it.
/// @noRd
#[extendr(invisible)]
fn worker_watch() {
    WATCHING.call_once(|| {
        remember_held();
        at_exit();
        let Ok(front) = take_stdin() else {
            return;
        };
        // Without the thread there is still the system's own notice (Linux).
        let _ = signals::start_thread("faucet-watch", signals::SMALL_STACK, move || watch(front));
    });
}

/// From now on this process ends, and is not interrupted at that: SIGINT waits for ever. Whoever asked has
/// other means.
/// @noRd
#[extendr(invisible)]
fn worker_leave() {
    let mut interrupt = SigSet::empty();
    interrupt.add(Signal::SIGINT);
    // Of a valid signal: cannot fail.
    let _ = interrupt.thread_block();
}

/// Takes the pipe away from standard input, which is empty from then on: an app that read there, or a
/// child of it, would wait for ever for what nobody writes.
pub fn take_stdin() -> std::io::Result<File> {
    let front = std::io::stdin().as_fd().try_clone_to_owned()?;
    // To watch matters more.
    let _ = File::open("/dev/null").map(dup2_stdin);
    Ok(front.into())
}

fn watch(mut front: File) {
    let alive = front_is_alive();
    let (sender, ended) = std::sync::mpsc::channel();
    let reader = signals::start_thread("faucet-stdin", signals::SMALL_STACK, move || {
        let mut sink = [0u8; 64];
        // Nobody writes there; an error is an end, but not that the system broke off to be asked again.
        loop {
            match front.read(&mut sink) {
                Ok(1..) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => break,
            }
        }
        let _ = sender.send(());
    });
    if reader.is_err() {
        return;
    }
    // A process that the front's R session forked may hold the pipe open: the front's own death shows too.
    while ended.recv_timeout(Duration::from_millis(500))
        == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
    {
        if !alive() {
            break;
        }
    }
    // Nobody will connect there, and R may be gone before this is.
    remove_sockets();
    abandoned();
    let deadline = std::time::Instant::now() + GRACE;
    while std::time::Instant::now() < deadline {
        // One interrupt may only abort what R is doing; the next one ends it.
        let _ = kill(getpid(), Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(200));
    }
    remove_held();
    let _ = killpg(getpgrp(), Signal::SIGKILL);
}

/// Whether there is a process with this pid, which may be another user's.
fn exists(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
}

/// Asks whether the front lives. A parent that has died is not the parent any more; of a process that is
/// not the parent, its pid is known.
fn front_is_alive() -> impl Fn() -> bool {
    let known = FRONT.load(Ordering::Relaxed);
    let parent = getppid();
    move || {
        if known == 0 {
            getppid() == parent
        } else {
            exists(known)
        }
    }
}

/// What a front that vanished has left in the file system: its folder goes with the last worker.
fn remove_sockets() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(socket) = held.as_ref().and_then(|held| held.socket.as_deref()) {
        leave(&faucet_core::worker::native::control_path(socket));
        leave(socket);
    }
}

extendr_module! {
    mod watch;
    fn worker_watch;
    fn worker_leave;
}
