//! What programs cost the process that runs them: its memory and threads are looked at, so it does nothing else.

mod common;

use std::fs;

use common::{until, Client};
use faucet_core::functions::Signature;
use faucet_core::pool::{PoolLimits, Route};
use faucet_core::server::{Phase, PoolSettings, Server, Settings};
use faucet_core::sources::command::CommandSettings;
use faucet_core::sources::local::WorkerRange;
use faucet_core::sources::Source;
use tokio::io::AsyncReadExt;

/// How many pools there are.
const POOLS: usize = 300;

/// What a program writes, and what is to be the most that its way takes, in bytes.
const LONG: usize = 256 << 20;
const ROOM: usize = 48 << 20;

/// A number of this process's status, in its own unit.
fn status(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.expect(name).parse().expect("a number")
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux").count()
}

fn pool(number: usize) -> PoolSettings {
    let script = format!("cat; head -c {LONG} /dev/zero");
    PoolSettings {
        route: Route::parse(&format!("/{number}")).expect("a route"),
        limits: PoolLimits::default(),
        source: Source::Command(CommandSettings {
            confinement: Default::default(),
            command: vec!["sh".into(), "-c".into(), script],
            dir: None,
            env: [].into(),
            workers: WorkerRange { min: 0, max: 4 },
            signature: Signature::default(),
        }),
        sessions: None,
    }
}

async fn started(pools: usize) -> Server {
    let server = Server::start(Settings {
        pools: (0..pools).map(pool).collect(),
        ..Settings::default()
    });
    let server = server.expect("a server");
    until("it is ready", || matches!(server.phase(), Phase::Ready)).await;
    let all = || server.status().iter().all(|pool| pool.workers.len() == 4);
    until("all pools serve", all).await;
    server
}

#[tokio::test]
async fn idle_they_cost_next_to_nothing_and_busy_they_cost_what_is_on_its_way() {
    let one = started(1).await;
    let (threads, files) = (status("Threads:"), open_files());
    drop(one);
    until("it is gone", || status("Threads:") < threads - 5).await;
    let server = started(POOLS).await;
    assert!(status("Threads:") <= threads, "{threads} threads before");
    // Its two sockets.
    assert!(open_files() - files <= 2 * POOLS, "{files} files before");

    let url = server.url().expect("a port");
    let address = url.trim_start_matches("http://").parse();
    let mut client = Client::connect(address.expect("an address")).await;
    let before = status("VmRSS:");
    client.start_post("/7", &vec![b'x'; 1000]).await;
    let mut buffer = vec![0; 1 << 20];
    let mut read = 0;
    while read < LONG {
        let count = client.stream.read(&mut buffer).await.expect("it goes on");
        assert!(count > 0, "it broke off after {read} bytes");
        read += count;
    }
    let most = status("VmHWM:");
    assert!((most - before) * 1024 < ROOM, "{before} kB, then {most} kB");
}
