//! Workers that are processes on this machine.

mod memory;

pub use memory::resident_memory;
