//! What a proxy is told at its start.

use std::path::PathBuf;
use std::time::Duration;

use crate::functions::calls;
use crate::functions::fleet::AgentName;
use crate::functions::management::Access;
use crate::pool::PoolLimits;
use crate::token::Token;

/// Which agents there are, where a proxy keeps what is deployed, and who may deploy.
#[derive(Clone, Debug, PartialEq)]
pub struct ProxySettings {
    /// Besides those that were added while it ran.
    pub agents: Vec<AgentName>,
    /// Where agents dial in that cannot be dialled, if they may: a host and a port, 0 for any free one.
    pub door: Option<(String, u16)>,
    /// Whether agents are reached with TLS.
    pub tls: bool,
    /// Whose certificates are believed then (PEM); `None` for the system's.
    pub ca: Option<PathBuf>,
    /// What agents are shown; `None` for the token of those who deploy here.
    pub agent_token: Option<Token>,
    pub state_dir: PathBuf,
    pub access: Access,
    /// What an upload may have, in bytes.
    pub max_bundle: u64,
    pub limits: PoolLimits,
    /// How long an agent may not answer before its functions are started elsewhere.
    pub agent_grace: Duration,
    /// Between two looks at an agent.
    pub check_every: Duration,
    /// How long a function that is stopped may take to finish what it has; `None` for ever.
    pub drain_timeout: Option<Duration>,
    /// What may be kept of calls that nobody waits for.
    pub async_calls: calls::Settings,
}
