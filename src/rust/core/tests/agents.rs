//! A front whose workers are agents, each a faucet with several pools of its own.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{until, Client, Gate, Seen, Upstream, Wire, PATIENCE};
use faucet_core::front::Networks;
use faucet_core::ops::status::{State, WorkerStatus};
use faucet_core::pool::{PoolLimits, Route};
use faucet_core::server::{PoolSettings, Request, Server, Settings};
use faucet_core::sources::agents::{Addresses, AgentSet, AgentsSettings};
use faucet_core::sources::replicas::{Settings as ReplicasSettings, Target};
use faucet_core::sources::Source;
use faucet_core::worker::Address;

const ROUTE: &str = "/functions/f";

fn loopback() -> Networks {
    Networks::parse(&["127.0.0.0/8"]).expect("a network")
}

fn pool(route: &str, source: Source) -> PoolSettings {
    PoolSettings {
        route: Route::parse(route).expect("a route"),
        limits: PoolLimits::default(),
        source,
        sessions: None,
    }
}

fn over(upstream: &Upstream) -> Source {
    let target = format!("http://{}", upstream.address);
    Source::Replicas(ReplicasSettings {
        boot_timeout: PATIENCE,
        ..ReplicasSettings::of(Target::parse(&target).expect("an address"))
    })
}

fn address(server: &Server) -> SocketAddr {
    let url = server.url().expect("a port");
    let address = url.trim_start_matches("http://").parse();
    address.expect("an address")
}

/// A server with one pool for each of these, whose one worker is that upstream.
async fn agent(pools: &[(&str, &Upstream)]) -> Server {
    let server = Server::start(Settings {
        fronts: loopback(),
        pools: pools
            .iter()
            .map(|(route, upstream)| pool(route, over(upstream)))
            .collect(),
        ..Settings::default()
    });
    let server = server.expect("it starts");
    until("the agent is ready", || {
        server.counts().serving == pools.len()
    })
    .await;
    server
}

/// A front with one pool, whose workers are these agents.
struct Proxy {
    server: Server,
    agents: AgentSet,
}

impl Proxy {
    async fn of(agents: &[&Server]) -> Self {
        let set = AgentSet::new();
        let server = Server::start(Settings {
            pools: vec![pool(
                ROUTE,
                Source::Agents(AgentsSettings::new(set.clone())),
            )],
            ..Settings::default()
        });
        let proxy = Self {
            server: server.expect("it starts"),
            agents: set,
        };
        proxy.has(agents);
        proxy.serves(agents.len()).await;
        proxy
    }

    fn has(&self, agents: &[&Server]) {
        let addresses: Addresses = agents
            .iter()
            .map(|agent| (Address::Tcp(address(agent)), None))
            .collect();
        self.agents.set(addresses);
    }

    async fn serves(&self, count: usize) {
        until("the agents serve", || {
            self.server.counts().serving == count && self.server.counts().total == count
        })
        .await;
    }

    async fn client(&self) -> Client {
        Client::connect(address(&self.server)).await
    }

    async fn start_get(&self, target: &str) -> Client {
        let mut client = self.client().await;
        client.start_get(target).await;
        client
    }
}

/// Answers with its name and what it was asked for, once its gate is opened.
async fn gated(name: &'static str) -> (Upstream, Gate) {
    let gate = Gate::default();
    let inner = gate.clone();
    let upstream = Upstream::start(move |seen: Seen, wire: Wire| {
        let gate = inner.clone();
        async move {
            gate.pass().await;
            wire.ok(format!("{name} {}", seen.target)).await
        }
    })
    .await;
    (upstream, gate)
}

#[tokio::test]
async fn the_agent_takes_the_route_off() {
    let upstream = Upstream::echo().await;
    let agent = agent(&[(ROUTE, &upstream)]).await;
    let proxy = Proxy::of(&[&agent]).await;
    let mut client = proxy.client().await;
    client
        .send("GET /functions/f/a/b?c=1 HTTP/1.1\r\nHost: a\r\nFaucet-Pool: /\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 200);
    let seen = upstream.last();
    assert_eq!(seen.target, "/a/b?c=1");
    assert_eq!(seen.header("x-forwarded-prefix"), Some(ROUTE));
    assert_eq!(seen.header("faucet-pool"), None);
    let answer = proxy.client().await.get("/functions/g").await;
    assert_eq!((answer.status, answer.cause()), (404, "no_route"));
}

/// The turn must be for the function's worker, whatever other pools the agent has.
#[tokio::test]
async fn an_agent_that_is_busy_gives_a_turn_for_the_functions_pool() {
    let ((mine, gate), (other, _)) = (gated("mine").await, gated("other").await);
    let agent = agent(&[("/", &other), (ROUTE, &mine)]).await;
    // One front each: neither knows what the other has sent.
    let proxies = (Proxy::of(&[&agent]).await, Proxy::of(&[&agent]).await);
    let mut first = proxies.0.start_get("/functions/f/1").await;
    until("the first is at work", || mine.count() == 1).await;
    let mut second = proxies.1.start_get("/functions/f/2").await;
    until("its front has been told", || {
        proxies.1.server.status()[0].queue == 1
    })
    .await;
    gate.open(2);
    assert_eq!(first.response().await.text(), "mine /1");
    assert_eq!(second.response().await.text(), "mine /2");
    assert_eq!((mine.peak(), other.count()), (1, 0));
    drop((proxies, agent));
}

#[tokio::test]
async fn an_agent_that_has_the_function_no_more_is_passed_over() {
    let ((one, one_gate), (other, other_gate)) = (gated("one").await, gated("other").await);
    let mut leaves = agent(&[(ROUTE, &one), ("/", &one)]).await;
    let stays = agent(&[(ROUTE, &other)]).await;
    let proxy = Proxy::of(&[&leaves, &stays]).await;
    let removed = leaves.ask(Request::RemovePool(ROUTE.into(), Some(PATIENCE)));
    until("it is removed", || leaves.result(removed).is_some()).await;
    // One of them is sent there first.
    let mut clients = [
        proxy.start_get("/functions/f/x").await,
        proxy.start_get("/functions/f/x").await,
    ];
    let suspended = |worker: &WorkerStatus| worker.state == State::Suspended;
    until("it is set aside", || {
        proxy.server.status()[0].workers.iter().any(suspended)
    })
    .await;
    one_gate.open(2);
    other_gate.open(2);
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "other /x");
    }
}

#[tokio::test]
async fn agents_come_and_go_while_requests_wait() {
    let ((one, one_gate), (other, other_gate)) = (gated("one").await, gated("other").await);
    let (first, second) = (
        agent(&[(ROUTE, &one)]).await,
        agent(&[(ROUTE, &other)]).await,
    );
    let proxy = Proxy::of(&[]).await;
    let mut early = proxy.start_get("/functions/f/early").await;
    until("it waits", || proxy.server.status()[0].queue == 1).await;
    proxy.has(&[&first]);
    until("it is at work", || one.count() == 1).await;
    // What is in flight there is finished there.
    proxy.has(&[&second]);
    let mut late = proxy.start_get("/functions/f/late").await;
    other_gate.open(1);
    assert_eq!(late.response().await.text(), "other /late");
    one_gate.open(1);
    assert_eq!(early.response().await.text(), "one /early");
    proxy.serves(1).await;
}

#[tokio::test]
async fn as_many_requests_at_a_time_as_the_agents_have_workers() {
    let gates: Vec<_> = [gated("a").await, gated("b").await, gated("c").await].into();
    let mut agents = Vec::new();
    for (upstream, _) in &gates {
        agents.push(agent(&[(ROUTE, upstream)]).await);
    }
    let proxy = Proxy::of(&agents.iter().collect::<Vec<_>>()).await;
    let mut clients = Vec::new();
    for number in 0..9 {
        clients.push(proxy.start_get(&format!("/functions/f/{number}")).await);
    }
    until("each agent has one", || {
        gates.iter().all(|(upstream, _)| upstream.count() == 1)
    })
    .await;
    for (_, gate) in &gates {
        gate.open(9);
    }
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    let all: usize = gates.iter().map(|(upstream, _)| upstream.count()).sum();
    assert_eq!(all, 9);
    assert!(gates.iter().all(|(upstream, _)| upstream.peak() == 1));
    tokio::time::timeout(Duration::from_secs(1), proxy.serves(3))
        .await
        .expect("none was lost");
}
