//! A worker machine without R: for benchmarks and experiments.
//!
//! `machine --target http://127.0.0.1:9001 --hubs 127.0.0.1:4040,127.0.0.1:4041 [--dns 127.0.0.1:53]`
//!
//! Its workers are the replicas at the target, one slot each. It offers each slot to all hubs.

use std::net::SocketAddr;
use std::time::Duration;

use faucet_core::gates::GateSettings;
use faucet_core::offers::{HubAddress, OffersSettings};
use faucet_core::pool::{PoolLimits, Route};
use faucet_core::server::{PoolSettings, Server, Settings};
use faucet_core::sources::replicas::{Settings as ReplicasSettings, Target};
use faucet_core::sources::Source;

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args();
    arguments.find(|argument| argument == name)?;
    arguments.next()
}

fn hub(address: &str) -> Result<HubAddress, Box<dyn std::error::Error>> {
    let address: SocketAddr = address.parse()?;
    Ok(HubAddress {
        host: address.ip().to_string(),
        port: address.port(),
        tls: false,
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hubs = argument("--hubs").ok_or("--hubs is missing")?;
    let hubs = hubs.split(',').map(hub).collect::<Result<_, _>>()?;
    let target = Target::parse(&argument("--target").ok_or("--target is missing")?)?;
    let dns = argument("--dns").map(|text| text.parse()).transpose()?;
    let server = Server::start(Settings {
        port: None,
        pools: vec![PoolSettings {
            route: Route::root(),
            limits: PoolLimits::default(),
            source: Source::Replicas(ReplicasSettings {
                target,
                slots: 1,
                refresh: None,
                ready_path: None,
                dns,
                boot_timeout: Duration::from_secs(60),
                cancel: true,
                ca: None,
            }),
            sessions: None,
        }],
        offers: Some(OffersSettings {
            hubs,
            token: None,
            name: "machine".into(),
            route: Route::root(),
            gates: GateSettings::default(),
            ca: None,
            redirect: None,
        }),
        ..Settings::default()
    });
    let server = server.map_err(|failure| failure.message)?;
    while server.is_running() {
        server.wait(Duration::from_secs(1));
        server.take_lines();
    }
    Ok(())
}
