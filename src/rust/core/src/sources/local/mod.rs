//! Workers that are processes on this machine: started, watched, restarted, recycled, stopped.

mod boot;
mod budget;
pub(super) mod confinement;
mod death;
mod folder;
pub(super) mod leftovers;
mod listening;
mod memory;
pub(super) mod output;
mod position;
pub(super) mod process;
mod resources;
pub(super) mod scratch;
mod shared;
mod sockets;
pub(super) mod spawn;
mod streams;
mod supervisor;
mod template;
mod templates;

pub use budget::Budget;
pub use confinement::{Confined, Confinement, Identity};
pub use folder::{leave, sweep, Folder, Hold};
pub use memory::resident_memory;
pub use resources::Resources;
pub use scratch::Scratch;
pub use sockets::Sockets;
pub use spawn::Spawner;
pub use supervisor::Supervisor;
pub use template::ForkOrder;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use self::boot::ReservedPort;
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
    pub workers: WorkerRange,
    /// How long the first request may wait until there is another worker, if there may be.
    pub grow_after: Option<Duration>,
    /// How long a worker serves nobody until it leaves, if it need not be there; `None` for ever.
    pub shrink_after: Option<Duration>,
    /// How workers must serve; `None` leaves it to each.
    pub worker_type: Option<Kind>,
    /// Whether native workers compile the routes of their app.
    pub compile: bool,
    /// What becomes of requests whose client has left, in native workers.
    pub cancelling: Cancelling,
    /// Whether workers are forked from a process that has loaded the app.
    pub preload: bool,
    /// Whether they are forked from the template that all pools of the server share, while there is one: it has loaded no app.
    pub shared_template: bool,
    pub confinement: Confinement,
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

/// How many workers a pool has: at least `min`, at most `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerRange {
    pub min: u32,
    pub max: u32,
}

impl WorkerRange {
    /// Neither more nor fewer.
    pub fn fixed(count: u32) -> Self {
        Self {
            min: count,
            max: count,
        }
    }

    /// Whether their number follows what there is to do.
    pub fn is_elastic(self) -> bool {
        self.min < self.max
    }
}

impl LocalSettings {
    /// What every process is told: the worker of that number, a template as number 0.
    fn process_env(&self, id: u32, port: &ReservedPort) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        let mut tell = |name: &str, value: String| env.insert(name.to_owned(), value);
        // In the words of the setting.
        let worker_type = self.worker_type.map_or("auto", Kind::name);
        tell("FAUCET_WORKER_TYPE", worker_type.into());
        tell("FAUCET_COMPILE", self.compile.to_string());
        tell("FAUCET_PORT", port.address.port().to_string());
        tell("FAUCET_HOST", port.address.ip().to_string());
        tell("FAUCET_WORKER_ID", id.to_string());
        env
    }
}
