//! What an agent is told at its start.

use std::path::PathBuf;
use std::time::Duration;

use crate::functions::calls;
use crate::functions::management::Access;
use crate::offers::CallsSettings;
use crate::pool::PoolLimits;
use crate::sources::local::LocalSettings;

/// Where an agent keeps what is deployed, who may deploy, and what functions get that say nothing of it.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSettings {
    pub state_dir: PathBuf,
    pub access: Access,
    /// What an upload may have, in bytes.
    pub max_bundle: u64,
    /// How workers of functions are started: `dir` and what is the function's own are not set yet.
    pub worker: LocalSettings,
    /// How the process is started that their workers are forked from; `None` for none.
    pub template: Option<LocalSettings>,
    pub limits: PoolLimits,
    /// How long the version before may take to finish what it has; `None` for ever.
    pub drain_timeout: Option<Duration>,
    /// Proxies that cannot dial this agent: it dials them.
    pub calls: Option<CallsSettings>,
    /// Whose certificates are believed (PEM) of those whom it asks, other agents and those who are told the ends of calls; `None` for
    /// the system's.
    pub ca: Option<PathBuf>,
    /// As which user functions run, if the agent may choose.
    pub run_as: Option<String>,
    /// What may be kept of calls that nobody waits for.
    pub async_calls: calls::Settings,
}
