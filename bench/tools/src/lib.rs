//! What the benchmark's small programs share: arguments, an HTTP client, durations, drawn numbers, the stub
//! upstream.

pub mod args;
pub mod client;
pub mod draw;
pub mod stub;
pub mod times;
