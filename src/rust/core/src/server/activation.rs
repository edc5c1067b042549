//! Sockets that systemd has opened for this process: socket activation, as `sd_listen_fds(3)` describes it.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::environment::Environment;
use crate::front::Bound;
use crate::sources::Failure;

/// The first of them.
const FIRST: RawFd = 3;

/// The most that are taken; systemd itself passes no more than a service's `FileDescriptorStoreMax` and sockets.
const MOST: RawFd = 64;

/// By this name (`FileDescriptorName=`) goes the socket of the operators' port.
const ADMIN: &str = "admin";

/// Whether this process has taken its sockets: a later server opens its own.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What was passed.
#[derive(Default)]
pub(super) struct Passed {
    pub(super) clients: Vec<Bound>,
    pub(super) admin: Option<Bound>,
}

/// The sockets that are for this process, once. Nothing if they are for another one: a child inherits the variables.
///
/// # Errors
/// Class `listen`: one is none that a server can listen on.
pub(super) fn take(environment: &Environment) -> Result<Passed, Failure> {
    let number = |name: &str| environment.text(name)?.trim().parse::<u32>().ok();
    let mut passed = Passed::default();
    if number("LISTEN_PID") != Some(std::process::id()) || TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(passed);
    }
    let count = number("LISTEN_FDS").and_then(|count| RawFd::try_from(count).ok());
    let names = environment.text("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    // All of them, that those behind a bad one are closed, too.
    let all: Vec<_> = (0..count.unwrap_or(0).min(MOST))
        .map(|index| (own(FIRST + index), names.next().unwrap_or_default()))
        .collect();
    for (index, (socket, name)) in all.into_iter().enumerate() {
        let bound = socket.and_then(Bound::of).map_err(|error| {
            Failure::new(
                "listen",
                format!(
                    "Cannot listen on the socket number {} that systemd passes: {error}. In the .socket unit, use `ListenStream=` and no `Accept=yes`.",
                    index + 1
                ),
            )
        })?;
        if name != ADMIN {
            passed.clients.push(bound);
        } else if passed.admin.replace(bound).is_some() {
            let message = "systemd passes two sockets of the name `admin`: there can be one.";
            return Err(Failure::new("listen", message));
        }
    }
    Ok(passed)
}

/// The owner of a descriptor that this process was started with.
#[allow(unsafe_code)]
fn own(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: only asks whether it is open.
    if unsafe { nix::libc::fcntl(descriptor, nix::libc::F_GETFD) } < 0 {
        return Err(io::Error::new(io::ErrorKind::NotFound, "it is not open"));
    }
    // SAFETY: whoever started this process has opened it for nobody else in it, and it is taken once.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
