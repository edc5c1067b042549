//! Workers that are no processes: each runs a program for each of its requests, and is nothing between two of them.
//!
//! To the front they are native workers, which are told by their control socket when a request is to be broken off, and say
//! when it is over. One socket is enough for all of a pool's, as no two of its requests have the same number.

mod arguments;
mod call;
mod input;
mod output;
mod pipes;
mod pool;
mod program;
mod programs;

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::local::{Confinement, WorkerRange};
use crate::functions::Signature;

pub use pool::CommandPool;

/// A program, and how it is run.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandSettings {
    /// Program and first arguments; the options of a request come behind them.
    pub command: Vec<String>,
    /// Where it runs; without, in a new temporary folder for each request.
    pub dir: Option<PathBuf>,
    /// Added to the environment that it inherits.
    pub env: BTreeMap<String, String>,
    /// At most so many requests at a time. The least means nothing: between requests there is no process.
    pub workers: WorkerRange,
    pub confinement: Confinement,
    /// The options that callers may give.
    pub signature: Signature,
}

impl CommandSettings {
    /// The program's name, for people.
    fn name(&self) -> &str {
        self.command.first().map_or("", |program| program)
    }
}
