//! faucet's front over workers that run already, without R: for benchmarks and experiments.
//!
//! `front --listen 127.0.0.1:8080 --upstream 127.0.0.1:9001,127.0.0.1:9002 [--slots 1] [--queue 1024] [--idle-pools 0]`
//!
//! `--idle-pools` are there, each with a route of its own, and nobody asks for them.

use std::net::SocketAddr;
use std::sync::Arc;

use faucet_core::body::Store;
use faucet_core::descriptors::Descriptors;
use faucet_core::front::{
    accept, bind, expire, Connections, Direct, Front, Fronts, Lifecycle, Limits, TrustedProxies,
};
use faucet_core::ops::{access::AccessLog, log::Log, metrics::Metrics, Ops};
use faucet_core::pool::{Membership, Pool, PoolLimits, Pools, Route};
use faucet_core::sources::fixed;

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
    let idle_pools: usize = argument("--idle-pools").map_or(Ok(0), |text| text.parse())?;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(bind(listen)?)?;
        let limits = Limits::default();
        let descriptors = Descriptors::of_process(limits.max_connections, upstreams.len());
        let store = Store::new(limits.total_body_memory, descriptors, Store::THREADS)?;
        let metrics = Metrics::default();
        let ops = Arc::new(Ops {
            pool: Arc::default(),
            metrics: metrics.of_pool(&Arc::default()),
            access: Arc::new(AccessLog::none()),
            log: Arc::new(Log::default()),
        });
        let pools = Arc::new(Pools::default());
        let mut routes = vec![Route::root()];
        for number in 0..idle_pools {
            routes.push(Route::parse(&format!("/idle-{number}"))?);
        }
        for route in routes {
            let ops = ops.of_pool(route.name(), &metrics);
            let limits = PoolLimits {
                queue,
                ..PoolLimits::default()
            };
            pools.add(Pool::new(route, limits, ops), Membership::Routed);
        }
        let front = Arc::new(Front {
            pools: pools.clone(),
            limits,
            store,
            trusted: TrustedProxies::default(),
            fronts: Fronts::default(),
            ops,
            metrics,
            connections: Connections::default(),
            tls: None,
            lifecycle: Lifecycle::default(),
            management: std::sync::OnceLock::new(),
            direct: Direct::default(),
            traces: None,
            rpc: faucet_core::front::RpcSeat::default(),
        });
        println!("listening on {}", listener.local_addr()?);
        if let Some(pool) = pools.named("/") {
            let (table, roster) = (pool.table.clone(), pool.roster.clone());
            tokio::spawn(fixed::run(table, roster, upstreams, slots));
            tokio::spawn(expire(pool));
        }
        accept(front, listener).await;
        Ok(())
    })
}
