//! What a hub is told at its start.

use std::time::Duration;

use crate::pool::PoolLimits;

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

/// A secret that workers and hub share. It shows itself to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub fn new(token: String) -> Self {
        Self(token)
    }

    /// The secret.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}
