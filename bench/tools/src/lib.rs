//! What the benchmark's small programs share: arguments, HTTP clients, durations, drawn numbers, streams, the stub
//! upstream.

pub mod args;
pub mod asking;
pub mod client;
pub mod draw;
pub mod flow;
pub mod grpc;
pub mod stub;
pub mod times;
