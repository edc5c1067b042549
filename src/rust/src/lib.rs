//! Glue between R and `faucet-core`: R values in, plain Rust values out. The only crate that knows R.
//!
//! Nothing here raises an R error: every function returns a list that says `ok`, and R raises.

// See clippy.toml. Tests may do as they like.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod answer;
mod call;
mod client;
mod compiled;
mod functions;
mod hubs;
mod interrupts;
mod memory;
mod metric;
mod outlet;
mod panics;
mod rook;
mod serve;
mod server;
mod settings;
mod signals;
mod template;
mod watch;

use extendr_api::prelude::*;

/// Cores that this process may use: affinity and cgroup limits are respected.
/// @noRd
#[extendr]
fn usable_cores() -> i32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|cores| i32::try_from(cores.get()).ok())
        .unwrap_or(1)
}

extendr_module! {
    mod faucet;
    fn usable_cores;
    use call;
    use client;
    use compiled;
    use hubs;
    use metric;
    use outlet;
    use serve;
    use server;
    use settings;
    use signals;
    use template;
    use watch;
}
