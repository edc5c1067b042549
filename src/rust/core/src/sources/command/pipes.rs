//! The pipes to and from a program.

use std::os::fd::AsFd;

/// What a pipe holds before its writer has to wait, in bytes; the system may allow less. Reader and writer then take turns less
/// often.
pub const PIPE: usize = 256 * 1024;

/// Gives a pipe that room.
pub fn widen(pipe: impl AsFd) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use nix::fcntl::{fcntl, FcntlArg};
        // Only an optimisation: what all pipes of a user may hold together is limited.
        let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(PIPE as i32));
    }
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = pipe;
}
