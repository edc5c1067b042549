//! How C's allocator treats what R and this crate give back.
#![allow(unsafe_code)]

/// The largest piece that is taken from the heap, in bytes. What is larger has pages of its own, which the system has to
/// clear each time.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const FROM_HEAP: i32 = 16 << 20;

/// How much free memory at the heap's end is kept, in bytes: in a worker, and in a process that has a front, where bodies pass in
/// pieces.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: i32 = 256 << 20;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_FOR_PIECES: i32 = 8 << 20;

/// Lets a worker use the memory of one request's bodies again for the next one's. With the allocator's defaults it
/// goes back to the system in between, and for a body of 1 MiB the clearing of new pages takes a third of R's time.
pub fn reuse() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    set(FROM_HEAP, KEPT);
}

/// The same for the pieces of the bodies that a front passes on, each of which would be of new pages otherwise.
pub fn reuse_pieces() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    set(FROM_HEAP, KEPT_FOR_PIECES);
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn set(from_heap: i32, kept: i32) {
    // SAFETY: both are numbers that the allocator keeps under its own lock. Where it refuses, all works as before.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, from_heap);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, kept);
    }
}
