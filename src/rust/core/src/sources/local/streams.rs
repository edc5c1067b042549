//! Pipes for the standard streams of a process that someone else starts.

use std::io;
use std::os::fd::OwnedFd;

/// Our ends.
pub struct Streams {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

impl Streams {
    /// Three pipes: our ends, and those of the process, in the usual order.
    ///
    /// # Errors
    /// Too many files are open.
    pub fn new() -> io::Result<(Self, [OwnedFd; 3])> {
        let (stdin, ours) = pipe()?;
        let (stdout, its_stdout) = pipe()?;
        let (stderr, its_stderr) = pipe()?;
        let streams = Self {
            stdin: ours,
            stdout,
            stderr,
        };
        Ok((streams, [stdin, its_stdout, its_stderr]))
    }
}

/// Reading end and writing end, which no other process that is started meanwhile gets.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// The same where the system cannot do it in one step, as the standard library has it there.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::fcntl::{fcntl, FcntlArg, FdFlag};
    let (reader, writer) = nix::unistd::pipe()?;
    for end in [&reader, &writer] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok((reader, writer))
}
