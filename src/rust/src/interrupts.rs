//! Whether the user, or the front, has interrupted R and R has not yet taken notice.
#![allow(unsafe_code)]

use std::os::raw::c_int;

extern "C" {
    /// R's own (R_ext/GraphicsDevice.h), set by its handler of SIGINT.
    static R_interrupts_pending: c_int;
}

/// Whether an interrupt is pending. On R's thread alone.
pub fn is_pending() -> bool {
    // SAFETY: only this thread and signal handlers on it write it; an int is read whole.
    unsafe { std::ptr::read_volatile(std::ptr::addr_of!(R_interrupts_pending)) != 0 }
}
