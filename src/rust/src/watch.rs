//! The worker's own watch on its front: no worker survives it.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::Once;
use std::time::Duration;

use extendr_api::prelude::*;
use nix::sys::signal::{kill, killpg, pthread_sigmask, SigSet, SigmaskHow, Signal};
use nix::unistd::{dup2_stdin, getpgrp, getpid, getppid};

/// How long R may take to run its exit hooks when the front has vanished.
const GRACE: Duration = Duration::from_secs(1);

static WATCHING: Once = Once::new();

/// Ends this process when standard input ends: the front holds its other end, and whatever becomes of
/// the front, the system closes it.
/// @noRd
#[extendr(invisible)]
fn worker_watch() {
    WATCHING.call_once(|| {
        let Ok(front) = take_stdin() else {
            return;
        };
        // The thread must never run one of R's signal handlers, so it is born with all of them blocked.
        let mut before = SigSet::empty();
        let masked = pthread_sigmask(
            SigmaskHow::SIG_BLOCK,
            Some(&SigSet::all()),
            Some(&mut before),
        );
        // Without the thread there is still the system's own notice (Linux).
        let _ = std::thread::Builder::new()
            .name("faucet-watch".into())
            .stack_size(128 * 1024)
            .spawn(move || watch(front));
        if masked.is_ok() {
            let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
        }
    });
}

/// Takes the pipe away from standard input, which is empty from then on: an app that read there, or a
/// child of it, would wait for ever for what nobody writes.
fn take_stdin() -> std::io::Result<File> {
    let front = std::io::stdin().as_fd().try_clone_to_owned()?;
    // To watch matters more.
    let _ = File::open("/dev/null").map(dup2_stdin);
    Ok(front.into())
}

fn watch(mut front: File) {
    let parent = getppid();
    let (sender, ended) = std::sync::mpsc::channel();
    let reader = std::thread::Builder::new()
        .name("faucet-stdin".into())
        .stack_size(128 * 1024)
        .spawn(move || {
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
    // A process that the front's R session forked may hold the pipe open: the parent's death shows too.
    while ended.recv_timeout(Duration::from_millis(500))
        == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
    {
        if getppid() != parent {
            break;
        }
    }
    let deadline = std::time::Instant::now() + GRACE;
    while std::time::Instant::now() < deadline {
        // One interrupt may only abort what R is doing; the next one ends it.
        let _ = kill(getpid(), Signal::SIGINT);
        std::thread::sleep(Duration::from_millis(200));
    }
    let _ = killpg(getpgrp(), Signal::SIGKILL);
}

extendr_module! {
    mod watch;
    fn worker_watch;
}
