//! faucet's core: the lock table, the front, the workers and where they come from.
//!
//! A request's way is the only walk through the house: client connection -> [`front`] reads the head
//! and buffers the body -> asks [`lock`] for a lease -> the lease names a [`worker`] -> the request
//! goes over that worker's connection -> the response streams back -> the lease is given up when the
//! worker has finished, not before.

// See clippy.toml. Tests may do as they like.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod app_metrics;
pub mod body;
mod cgroup;
pub mod client;
pub mod client_address;
pub mod client_stream;
mod clock;
pub mod compiled;
pub mod descriptors;
pub mod endpoint;
pub mod environment;
pub mod front;
pub mod functions;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod gates;
mod heads;
mod ids;
pub mod lock;
pub mod memory;
pub mod offers;
pub mod ops;
pub mod pool;
mod rpc;
pub mod serve;
pub mod server;
pub mod sessions;
pub mod signals;
pub mod sources;
pub mod tls;
pub mod token;
pub mod traces;
pub mod watch;
pub mod worker;
