//! faucet's front over workers that run already, without R: for benchmarks and experiments.
//!
//! `front --listen 127.0.0.1:8080 --upstream 127.0.0.1:9001,127.0.0.1:9002 [--slots 1] [--queue 1024]`

use std::net::SocketAddr;
use std::sync::Arc;

use faucet_core::body::Store;
use faucet_core::descriptors::Descriptors;
use faucet_core::front::{
    accept, bind, expire, Connections, Front, Fronts, Limits, TrustedProxies,
};
use faucet_core::lock::Table;
use faucet_core::ops::{access::AccessLog, log::Log, metrics::Metrics, Ops};
use faucet_core::sources::{fixed, Roster};

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args();
    arguments.find(|argument| argument == name)?;
    arguments.next()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen: SocketAddr = argument("--listen")
        .unwrap_or_else(|| "127.0.0.1:0".into())
        .parse()?;
    let upstreams: Vec<SocketAddr> = argument("--upstream")
        .ok_or("--upstream is missing")?
        .split(',')
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let slots = argument("--slots").map_or(Ok(1), |text| text.parse())?;
    let queue = argument("--queue").map_or(Ok(1024), |text| text.parse())?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(bind(listen)?)?;
        let table = Table::new(queue);
        let roster = Arc::new(Roster::new(table.clone()));
        let limits = Limits::default();
        let descriptors = Descriptors::of_process(limits.max_connections, upstreams.len());
        let store = Store::new(limits.total_body_memory, descriptors, Store::THREADS)?;
        let front = Arc::new(Front {
            table: table.clone(),
            roster: roster.clone(),
            limits,
            store,
            trusted: TrustedProxies::default(),
            fronts: Fronts::default(),
            ops: Arc::new(Ops {
                metrics: Metrics::default(),
                access: AccessLog::none(),
                log: Arc::new(Log::default()),
            }),
            connections: Connections::default(),
        });
        println!("listening on {}", listener.local_addr()?);
        tokio::spawn(fixed::run(table, roster, upstreams, slots));
        tokio::spawn(expire(front.clone()));
        accept(front, listener).await;
        Ok(())
    })
}
