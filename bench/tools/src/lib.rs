//! What the benchmark's small programs share: arguments, an HTTP client, durations, the stub upstream.

pub mod args;
pub mod client;
pub mod stub;
pub mod times;
