//! How much of what was written the other machine's system has not taken.

// One ioctl that no crate has.
#![allow(unsafe_code)]

use std::os::fd::AsFd;

/// Bytes written to a TCP socket that the other side has not acknowledged; `None` where the system does not tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn unacknowledged(socket: impl AsFd) -> Option<u64> {
    use rustix::ioctl::{ioctl, Getter, Opcode};
    /// `SIOCOUTQ` of tcp(7), where it has its usual number.
    const OUTQ: Opcode = 0x5411;
    const IS_USUAL: bool = cfg!(any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64"
    ));
    if !IS_USUAL {
        return None;
    }
    // SAFETY: it writes one int, and nothing else.
    let bytes = unsafe { ioctl(socket, Getter::<OUTQ, std::ffi::c_int>::new()) };
    bytes.ok().and_then(|bytes| u64::try_from(bytes).ok())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn unacknowledged(_: impl AsFd) -> Option<u64> {
    None
}
