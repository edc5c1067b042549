//! Where workers come from. A source adds workers to a lock table and takes them away; the front
//! does not know which source it serves.

pub mod agents;
pub mod backoff;
pub mod command;
mod failure;
pub mod fixed;
pub mod hub;
pub mod local;
pub mod members;
pub mod replicas;
mod roster;
mod source;

pub use failure::Failure;
pub use roster::{Counts, Entry, Roster};
pub use source::{
    Command, Notifier, Prepared, Reply, Source, SourceContext, SourceEvent, SourceHandle,
    SourceTask,
};
