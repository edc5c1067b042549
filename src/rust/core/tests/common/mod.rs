//! A front over upstreams that do exactly what a test says, and clients that see every byte.
//!
//! Each test file is a program of its own that uses a part of this.
#![allow(dead_code, unused_imports)]

pub mod agent;
mod client;
pub mod collector;
pub mod dns;
pub mod grpc;
mod house;
pub mod hub;
pub mod local;
mod local_worker;
pub mod machine;
pub mod native;
pub mod pod;
pub mod proxy;
pub mod replicas;
pub mod template;
pub mod tls;
mod upstream;
pub mod wire2;

pub use client::{Client, Incomplete, Response};
pub use house::{add_sticky, far, house, House, Plan};
pub use upstream::{dial, shake, Gate, Seen, Upstream, Wire};

use std::future::Future;
use std::time::{Duration, Instant};

use faucet_core::pool::{PoolLimits, Route};
use faucet_core::server::PoolSettings;
use faucet_core::sources::Source;

/// A server's only pool.
pub fn only(limits: PoolLimits, source: Source) -> Vec<PoolSettings> {
    vec![PoolSettings {
        route: Route::root(),
        limits,
        source,
        sessions: None,
    }]
}

/// Far more than anything here takes; a test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Short enough to wait for in a test.
pub const SOON: Duration = Duration::from_millis(200);

/// Waits for a condition.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Awaits something that must happen.
pub async fn within<F: Future>(what: &str, work: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, work).await {
        Ok(output) => output,
        Err(_) => panic!("never happened: {what}"),
    }
}

/// Numbers that look random and are the same in each run (xorshift64).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Bytes in which a lost or misplaced piece shows.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}
