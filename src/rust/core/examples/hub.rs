//! faucet's hub without R: for benchmarks and experiments.
//!
//! `hub [--listen 8080] [--workers 4040] [--pothead 4041] [--queue 1024]`: ports of 127.0.0.1, 0 for any free one.

use std::time::Duration;

use faucet_core::pool::PoolLimits;
use faucet_core::server::{Server, Settings};
use faucet_core::sources::hub::HubSettings;

fn argument<T: std::str::FromStr>(name: &str) -> Result<Option<T>, T::Err> {
    let mut arguments = std::env::args();
    if arguments.find(|argument| argument == name).is_none() {
        return Ok(None);
    }
    arguments.next().map(|text| text.parse()).transpose()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::start(Settings {
        port: Some(argument("--listen")?.unwrap_or(0)),
        hub: Some(HubSettings {
            worker_host: "127.0.0.1".into(),
            worker_port: argument("--workers")?.unwrap_or(0),
            pothead_port: argument("--pothead")?,
            token: None,
            forget_after: None,
            limits: PoolLimits {
                queue: argument("--queue")?.unwrap_or(1024),
                ..PoolLimits::default()
            },
            cancel: true,
        }),
        ..Settings::default()
    });
    let server = server.map_err(|failure| failure.message)?;
    let pothead = server.pothead_address().unwrap_or_else(|| "-".into());
    println!(
        "{} {} {pothead}",
        server.url().unwrap_or_default(),
        server.worker_address().unwrap_or_default()
    );
    while server.is_running() {
        server.wait(Duration::from_secs(1));
        server.take_lines();
    }
    Ok(())
}
