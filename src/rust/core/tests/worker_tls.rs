//! Workers that are reached with TLS: faucets, and others.

mod common;

use std::sync::Arc;

use common::tls::{self_signed, server, Authority};
use common::{house, pattern, House, Seen, Upstream, Wire};
use faucet_core::tls::Peer;
use faucet_core::worker::remote::probe;
use faucet_core::worker::{Address, Remote, Worker};

const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A front over `worker` that only speaks TLS, and one over it that believes its CA.
async fn chain(worker: &Upstream) -> (House, House) {
    let authority = Authority::new();
    let tls = server(&authority.sign(&NAMES));
    let inner = house(&[worker], |plan| plan.tls = tls).await;
    let peer = Peer::new(Arc::new(authority.believed()), "localhost");
    let outer = House::start(vec![inner.address], |plan| {
        plan.remote = Some(true);
        plan.peer = Some(peer);
    })
    .await;
    (inner, outer)
}

async fn echoing() -> Upstream {
    Upstream::start(|seen: Seen, wire: Wire| async move { wire.ok(seen.body).await }).await
}

#[tokio::test]
async fn requests_travel_over_one_connection_with_tls() {
    let worker = echoing().await;
    let (inner, outer) = chain(&worker).await;
    let mut client = outer.client().await;
    for _ in 0..20 {
        assert_eq!(client.post("/", b"body").await.body, b"body");
    }
    // More than any buffer on the way holds.
    let body = pattern(3_000_000);
    assert_eq!(client.post("/", &body).await.body, body);
    assert_eq!(inner.front.connections.count(), 1);
    outer.idle().await;
    inner.idle().await;
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_behind_tls() {
    let (worker, gate) = Upstream::gated().await;
    let (inner, outer) = chain(&worker).await;
    gate.open(1);
    let mut client = outer.client().await;
    // Then it is known that a faucet is there.
    assert_eq!(client.get("/").await.status, 200);
    client.start_get("/").await;
    worker.arrived(2).await;
    drop(client);
    outer.idle().await;
    assert_eq!(inner.leases(), 1);
    gate.open(1);
    inner.idle().await;
}

#[tokio::test]
async fn who_is_not_believed_gets_no_request() {
    let worker = echoing().await;
    let authority = Authority::new();
    let strangers = [
        (server(&self_signed(&NAMES)), "localhost"),
        (server(&authority.sign(&["other.test"])), "localhost"),
        // It speaks no TLS.
        (None, "localhost"),
    ];
    for (tls, name) in strangers {
        let inner = house(&[&worker], |plan| plan.tls = tls).await;
        let peer = Peer::new(Arc::new(authority.believed()), name);
        let outer = House::start(vec![inner.address], |plan| {
            plan.remote = Some(true);
            plan.peer = Some(peer.clone());
            plan.pool.queue_timeout = Some(std::time::Duration::from_millis(200));
        })
        .await;
        assert_eq!(outer.client().await.get("/").await.status, 503);
        let remote = Remote::new(true).with_peer(Some(peer));
        let address = Address::Tcp(inner.address);
        let known = Worker::new(1, 1, address, Box::new(|_, _| {})).with_remote(remote);
        let problem = probe(&known, name, None).await.expect_err("a stranger");
        assert!(problem.starts_with("TLS: "), "{problem}");
    }
    assert_eq!(worker.count(), 0);
    // Nor does anyone without TLS from who wants it.
    let tls = server(&authority.sign(&NAMES));
    let inner = house(&[&worker], |plan| plan.tls = tls).await;
    let outer = far_from(&inner).await;
    assert_ne!(outer.client().await.get("/").await.status, 200);
    assert_eq!(worker.count(), 0);
}

async fn far_from(inner: &House) -> House {
    House::start(vec![inner.address], |plan| plan.remote = Some(true)).await
}
