//! Workers that are processes on this machine: started, watched, restarted, recycled, stopped.

mod backoff;
mod boot;
mod memory;
mod output;
mod pool;
mod position;
mod process;
mod spawn;

pub use memory::resident_memory;
pub use pool::{Command, Pool, PoolEvent, PoolSender};
pub use spawn::Spawner;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What a worker's process is and when it is replaced.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub dir: PathBuf,
    /// Added to the environment that it inherits.
    pub env: BTreeMap<String, String>,
    pub workers: u32,
    pub boot_timeout: Duration,
    /// Requests after which a process is replaced, at the latest; `None` for never.
    pub max_requests: Option<u64>,
    /// Bytes of resident memory above which it is replaced; `None` for never.
    pub max_memory: Option<u64>,
    /// Failed starts in a row after which a worker is given up.
    pub max_failures: u32,
}

/// Why an operation on the workers failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The condition class that R raises, without its prefix.
    pub class: &'static str,
    pub message: String,
    /// The last lines that the worker printed.
    pub lines: Vec<String>,
}
