//! What the front allows its clients.

use std::time::Duration;

/// Limits of one front. Sizes are bytes; `None` is no limit.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long a request's head may take to arrive.
    pub header_timeout: Duration,
    /// How long a connection may do nothing: between requests, within a body, or not reading its response.
    pub idle_timeout: Option<Duration>,
    pub max_header: usize,
    /// How much of one body stays in memory.
    pub body_memory: u64,
    /// How much of all bodies together.
    pub total_body_memory: u64,
    pub max_connections: usize,
    /// Whether headers with `_` in their names are passed on.
    pub underscores_in_headers: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Some(Duration::from_secs(75)),
            max_header: 64 * 1024,
            body_memory: 1024 * 1024,
            total_body_memory: 256 * 1024 * 1024,
            max_connections: 10_000,
            underscores_in_headers: false,
        }
    }
}
