//! A front over fixed workers, in this process.

use std::net::SocketAddr;
use std::sync::Arc;

use faucet_core::body::Store;
use faucet_core::descriptors::Descriptors;
use faucet_core::front::{
    accept, bind, expire, Connections, Direct, Front, Fronts, Lifecycle, Limits, Networks,
    TrustedProxies,
};
use faucet_core::lock::MemberId;
use faucet_core::ops::access::{AccessLog, Format};
use faucet_core::ops::{log::Log, metrics::Metrics, Ops};
use faucet_core::pool::{Membership, Pool, PoolLimits, Pools, Route};
use faucet_core::sessions::SessionLimits;
use faucet_core::sources::fixed;
use faucet_core::sources::members::{Members, Usage};
use faucet_core::tls::{Peer, ServerTls};
use faucet_core::worker::{Address, Worker};
use tokio::net::TcpListener;

use super::{until, Client, Upstream};

/// What differs from test to test.
pub struct Plan {
    pub limits: Limits,
    /// Of its one pool.
    pub pool: PoolLimits,
    /// Where that is.
    pub route: &'static str,
    /// File descriptors that clients may take together.
    pub descriptors: usize,
    pub slots: u32,
    pub trusted: TrustedProxies,
    /// Who may be another faucet's front: whoever is on this machine.
    pub fronts: Networks,
    /// For workers that are reached over a network: whether requests that nobody waits for may be broken off.
    pub remote: Option<bool>,
    /// If these are reached with TLS.
    pub peer: Option<Peer>,
    /// Whether clients stay with one worker each.
    pub sessions: Option<SessionLimits>,
    pub tls: Option<Arc<ServerTls>>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            limits: Limits {
                max_connections: 1000,
                ..Limits::default()
            },
            pool: PoolLimits::default(),
            route: "/",
            descriptors: 10_000,
            slots: 1,
            trusted: TrustedProxies::default(),
            fronts: loopback(),
            remote: None,
            peer: None,
            sessions: None,
            tls: None,
        }
    }
}

/// Where all clients of a test are.
pub fn loopback() -> Networks {
    Networks::parse(&["127.0.0.0/8"]).expect("valid")
}

/// A running front.
pub struct House {
    pub address: SocketAddr,
    pub front: Arc<Front>,
    pub pool: Arc<Pool>,
    pub log: Arc<Log>,
}

/// Starts a front over `upstreams`, which are far away: they may be faucets.
pub async fn far(upstreams: &[&Upstream], change: impl FnOnce(&mut Plan)) -> House {
    house(upstreams, |plan| {
        plan.remote = Some(true);
        change(plan);
    })
    .await
}

/// Starts a front over `upstreams`.
pub async fn house(upstreams: &[&Upstream], change: impl FnOnce(&mut Plan)) -> House {
    let addresses = upstreams.iter().map(|upstream| upstream.address).collect();
    House::start(addresses, change).await
}

/// Adds a worker to a pool with sessions, and nobody to look after it.
pub fn add_sticky(pool: &Pool, number: u32, address: SocketAddr) -> MemberId {
    let report = Box::new(|_: &Worker, _| {});
    let worker = Worker::new(number, number.into(), Address::Tcp(address), report);
    let sessions = pool.sessions.as_ref().expect("a pool with sessions");
    sessions.add_worker(Arc::new(worker.with_concurrency()))
}

impl House {
    pub async fn start(addresses: Vec<SocketAddr>, change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = Plan::default();
        change(&mut plan);
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let listener = TcpListener::from_std(listener).expect("a runtime");
        let address = listener.local_addr().expect("bound");
        let log = Arc::new(Log::default());
        let descriptors = Descriptors::new(plan.descriptors);
        let store = Store::new(plan.limits.total_body_memory, descriptors, 2).expect("threads");
        let metrics = Metrics::default();
        let ops = Arc::new(Ops {
            pool: Arc::default(),
            metrics: metrics.of_pool(&Arc::default()),
            access: Arc::new(AccessLog::to_log(Format::Json, log.clone())),
            log: log.clone(),
        });
        let route = Route::parse(plan.route).expect("a route");
        let pool_ops = ops.of_pool(route.name(), &metrics);
        let pool = match plan.sessions {
            None => Pool::new(route, plan.pool, pool_ops),
            Some(sessions) => {
                Pool::sticky(route, plan.pool, pool_ops, sessions).expect("random numbers")
            }
        };
        let (table, roster) = (pool.table.clone(), pool.roster.clone());
        let pools = Arc::new(Pools::default());
        pools.add(pool.clone(), Membership::Routed);
        let front = Arc::new(Front {
            pools,
            limits: plan.limits,
            store,
            trusted: plan.trusted,
            fronts: Fronts::new(plan.fronts),
            ops,
            metrics,
            connections: Connections::default(),
            tls: plan.tls,
            lifecycle: Lifecycle::default(),
            management: std::sync::OnceLock::new(),
            rpc: faucet_core::front::RpcSeat::default(),
            direct: Direct::default(),
            traces: None,
        });
        let count = addresses.len();
        match plan.remote {
            _ if pool.sessions.is_some() => {
                for (number, address) in (1..).zip(addresses) {
                    add_sticky(&pool, number, address);
                }
            }
            None => drop(tokio::spawn(fixed::run(
                table.clone(),
                roster,
                addresses,
                plan.slots,
            ))),
            remote => {
                let usage = Usage {
                    slots: plan.slots,
                    remote,
                    peer: plan.peer.clone(),
                    authority: "pods".into(),
                    pool: None,
                    ready_path: None,
                    exclusive: false,
                };
                let (mut members, mut happened) = Members::new(usage, table.clone(), roster);
                for address in addresses {
                    members.enter_unseen(address);
                }
                tokio::spawn(async move {
                    while let Some((key, event)) = happened.recv().await {
                        members.handle(key, event);
                    }
                });
            }
        }
        tokio::spawn(expire(pool.clone()));
        tokio::spawn(accept(front.clone(), listener));
        until("the workers are in the table", || {
            table.snapshot().members.len() == count
        })
        .await;
        Self {
            address,
            front,
            pool,
            log,
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Waits until so many requests wait for a worker.
    pub async fn queued(&self, count: usize) {
        until("requests wait in the queue", || {
            self.pool.table.waiting() == count
        })
        .await;
    }

    pub fn leases(&self) -> usize {
        self.pool.table.snapshot().leases
    }

    /// Waits until no request waits and every worker is free.
    pub async fn idle(&self) {
        until("every lease is given back", || {
            self.leases() == 0 && self.pool.table.waiting() == 0
        })
        .await;
    }

    pub fn worker(&self, index: usize) -> Arc<Worker> {
        self.pool.table.snapshot().members[index].worker.clone()
    }

    /// The value of one line of the metrics, 0 if it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        self.front
            .render_metrics()
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0.0)
    }

    /// Requests counted under a status and a cause, those that found no pool among them.
    pub fn counted(&self, status: u16, cause: &str) -> f64 {
        let of = |pool: &str| {
            self.metric(&format!(
                "faucet_requests_total{{pool=\"{pool}\",status=\"{status}\",cause=\"{cause}\"}}"
            ))
        };
        of(self.pool.name()) + of("")
    }
}
