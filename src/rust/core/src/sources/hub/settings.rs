//! What a hub is told at its start.

use std::time::Duration;

use crate::pool::PoolLimits;
use crate::token::Token;

/// Where workers dial in, and what their pools are like.
#[derive(Clone, Debug, PartialEq)]
pub struct HubSettings {
    /// Where workers dial in: a name or an address.
    pub worker_host: String,
    /// 0 for any free port.
    pub worker_port: u16,
    /// Where workers of POTHEAD dial in, on the same host; 0 for any free port.
    pub pothead_port: Option<u16>,
    /// What a worker has to know.
    pub token: Option<Token>,
    /// How long a pool is kept that no worker offers to; `None` for ever.
    pub forget_after: Option<Duration>,
    /// Of each pool.
    pub limits: PoolLimits,
    /// Whether workers are made to give up requests that nobody waits for.
    pub cancel: bool,
}
