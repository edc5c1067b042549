//! What may be kept of calls that nobody waits for.

use std::time::Duration;

use super::CallbackUrl;

/// Limits of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How long a result is kept if its caller says nothing, and at most.
    pub result_ttl: Duration,
    /// Calls at a time: those that wait, that run, and whose results are kept.
    pub max_calls: usize,
    /// Their inputs and results together, in bytes.
    pub max_results: u64,
    /// Under which URLs there may be callbacks.
    pub callbacks: Vec<CallbackUrl>,
    /// How long it is waited between two tries of a callback. There is one try more.
    pub pauses: Vec<Duration>,
}

/// No callbacks.
impl Default for Settings {
    fn default() -> Self {
        Self {
            result_ttl: Duration::from_secs(3600),
            max_calls: 1000,
            max_results: 1 << 30,
            callbacks: Vec::new(),
            pauses: [1, 5].map(Duration::from_secs).into(),
        }
    }
}
