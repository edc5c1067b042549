//! The worker's own watch on its front: no worker survives it.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::Once;
use std::time::Duration;

use extendr_api::prelude::*;
use faucet_core::environment::Environment;
use faucet_core::signals;
use nix::sys::signal::{kill, killpg, SigSet, Signal};
use nix::unistd::{dup2_stdin, getpgrp, getpid, getppid, Pid};

/// How long R may take to run its exit hooks when the front has vanished.
const GRACE: Duration = Duration::from_secs(1);

static WATCHING: Once = Once::new();

/// The front's pid, if this process was forked by a template; otherwise the front is its parent.
static FRONT: AtomicI32 = AtomicI32::new(0);

/// From now on the front is the process with this pid, not the parent.
pub fn set_front(pid: Pid) {
    FRONT.store(pid.as_raw(), Ordering::Relaxed);
}

/// Ends this process when standard input ends: the front holds its other end, and whatever becomes of
/// the front, the system closes it.
/// @noRd
#[extendr(invisible)]
fn worker_watch() {
    WATCHING.call_once(|| {
        let Ok(front) = take_stdin() else {
            return;
        };
        // Without the thread there is still the system's own notice (Linux).
        let socket = socket();
        let _ = signals::start_thread("faucet-watch", signals::SMALL_STACK, move || {
            watch(front, socket);
        });
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

fn watch(mut front: File, socket: Option<PathBuf>) {
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
    if let Some(socket) = socket {
        remove_sockets(&socket);
    }
    let deadline = std::time::Instant::now() + GRACE;
    while std::time::Instant::now() < deadline {
        // One interrupt may only abort what R is doing; the next one ends it.
        let _ = kill(getpid(), Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(200));
    }
    let _ = killpg(getpgrp(), Signal::SIGKILL);
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
            kill(Pid::from_raw(known), None).is_ok()
        }
    }
}

/// Where this process serves, if it is native. On R's thread alone.
fn socket() -> Option<PathBuf> {
    let environment = Environment::read();
    let variables = environment.variables();
    let mut named = variables.iter().filter(|(name, _)| name == "FAUCET_SOCKET");
    named.next().map(|(_, path)| path.into())
}

/// What a front that vanished has left in the file system: its folder goes with the last worker.
fn remove_sockets(socket: &Path) {
    let _ = std::fs::remove_file(socket);
    let _ = std::fs::remove_file(faucet_core::worker::native::control_path(socket));
    if let Some(folder) = socket.parent() {
        // Fails while others are there.
        let _ = std::fs::remove_dir(folder);
    }
}

extendr_module! {
    mod watch;
    fn worker_watch;
    fn worker_leave;
}
