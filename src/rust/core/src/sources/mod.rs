//! Where workers come from. A source adds workers to a lock table and takes them away; the front
//! does not know which source it serves.

pub mod fixed;
pub mod local;
mod roster;

pub use roster::{Entry, Roster};
