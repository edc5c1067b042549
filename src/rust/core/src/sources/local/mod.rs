//! Workers that are processes on this machine: started, watched, restarted, recycled, stopped.

mod boot;
mod death;
mod folder;
mod memory;
mod output;
mod position;
mod process;
mod resources;
mod scratch;
mod sockets;
mod spawn;
mod streams;
mod supervisor;
mod template;

pub use folder::{leave, Hold};
pub use memory::resident_memory;
pub use resources::Resources;
pub use scratch::Scratch;
pub use sockets::Sockets;
pub use spawn::Spawner;
pub use supervisor::Supervisor;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::ops::status::Kind;
use crate::worker::native::Cancelling;

/// What a worker's process is and when it is replaced.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalSettings {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub dir: PathBuf,
    /// Added to the environment that it inherits.
    pub env: BTreeMap<String, String>,
    pub workers: u32,
    /// How workers must serve; `None` leaves it to each.
    pub worker: Option<Kind>,
    /// What becomes of requests whose client has left, in native workers.
    pub cancelling: Cancelling,
    /// Whether workers are forked from a process that has loaded the app.
    pub preload: bool,
    pub boot_timeout: Duration,
    /// Requests after which a process is replaced, at the latest; `None` for never.
    pub max_requests: Option<u64>,
    /// Bytes of resident memory above which it is replaced; `None` for never.
    pub max_memory: Option<u64>,
    /// Failed starts in a row after which a worker counts as failed, and is tried again more rarely.
    pub max_failures: u32,
    /// How long nothing may serve before the server says that it is not live; `None` for ever.
    pub give_up_after: Option<Duration>,
    /// Whether a change of the files in `dir` leads to a reload.
    pub watch: bool,
}

impl LocalSettings {
    /// `worker` in the words of the setting.
    fn worker_choice(&self) -> &'static str {
        self.worker.map_or("auto", Kind::name)
    }
}
