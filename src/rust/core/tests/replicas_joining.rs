//! New addresses, and when they become workers.

mod common;

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::Arc;

use common::dns::Dns;
use common::replicas::{ips, Port, Replicas, NAME};
use common::{Seen, Upstream, Wire};
use faucet_core::ops::status::State;

/// A replica whose health is as it was told last.
async fn healthy(port: &Port, replica: u16, status: u16) -> (Upstream, Arc<AtomicU16>) {
    let health = Arc::new(AtomicU16::new(status));
    let inner = health.clone();
    let upstream = port
        .start(replica, move |seen: Seen, wire: Wire| {
            let status = inner.load(Ordering::SeqCst);
            async move {
                match seen.target.as_str() {
                    "/health" => wire.answer(status, "", "").await,
                    _ => wire.ok(replica.to_string()).await,
                }
            }
        })
        .await;
    (upstream, health)
}

fn ask_health(setup: &mut common::replicas::Setup) {
    setup.replicas.ready_path = Some("/health".into());
}

#[tokio::test]
async fn an_address_is_used_once_it_accepts() {
    let port = Port::new();
    let _one = port.echo(1).await;
    let mut dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    dns.set(NAME, &ips([1, 2]));
    server
        .until("it is known", || server.lookup().addresses == 2)
        .await;
    let mut client = server.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "1");
        assert_ne!(server.state(port.at(2)), Some(State::Ready));
    }
    let _two = port.echo(2).await;
    server.serve(&port, &[1, 2]).await;
}

#[tokio::test]
async fn whoever_waits_gets_a_new_replica_at_once() {
    let port = Port::new();
    let (one, _gate) = port.gated(1).await;
    let mut dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let _busy = server.start_get("/").await;
    one.arrived(1).await;
    let mut waiting = server.start_get("/").await;
    server.queued(1).await;
    let _two = port.echo(2).await;
    dns.set(NAME, &ips([1, 2]));
    assert_eq!(waiting.response().await.text(), "2");
}

#[tokio::test]
async fn an_address_that_never_accepted_is_forgotten() {
    let port = Port::new();
    let _one = port.echo(1).await;
    let mut dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    dns.set(NAME, &ips([1, 2]));
    server
        .until("it is known", || server.lookup().addresses == 2)
        .await;
    dns.set(NAME, &ips([1]));
    server.serve(&port, &[1]).await;
    // It is not waited for any more either.
    let two = port.echo(2).await;
    let probes = two.connections();
    let mut client = server.client().await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.text(), "1");
    }
    server.serve(&port, &[1]).await;
    assert_eq!(two.connections(), probes);
}

#[tokio::test]
async fn a_replica_is_used_once_it_says_that_it_is_ready() {
    let port = Port::new();
    let (one, _) = healthy(&port, 1, 200).await;
    let mut dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], ask_health).await;
    let probe = one.seen().remove(0);
    assert_eq!(
        (probe.method.as_str(), probe.target.as_str()),
        ("GET", "/health")
    );
    let authority = format!("{NAME}:{}", port.number);
    assert_eq!(probe.header("host"), Some(authority.as_str()));

    let mut client = server.client().await;
    // No redirection, no error: nothing but success.
    for (number, status) in [(2, 503), (3, 302), (4, 404)] {
        let (next, health) = healthy(&port, number, status).await;
        dns.set(NAME, &ips(1..=number));
        next.arrived(2).await;
        assert_ne!(server.state(port.at(number)), Some(State::Ready));
        assert_eq!(client.get("/").await.status, 200);
        assert!(next.targets().iter().all(|target| target == "/health"));
        health.store(204, Ordering::SeqCst);
        server.is(port.at(number), State::Ready).await;
        next.kill();
        dns.set(NAME, &ips([1]));
        server.is_gone(port.at(number)).await;
    }
    // Looking is not serving.
    let worker = server.at(port.at(1)).expect("a worker");
    assert_eq!(worker.requests, 3);
}

#[tokio::test]
async fn a_replica_that_comes_back_says_that_it_is_ready_again() {
    let port = Port::new();
    let (one, _) = healthy(&port, 1, 200).await;
    let (two, gate) = {
        // Ready at once, but slow at work.
        let gate = common::Gate::default();
        let inner = gate.clone();
        let upstream = port
            .start(2, move |seen: Seen, wire: Wire| {
                let gate = inner.clone();
                async move {
                    if seen.target != "/health" {
                        gate.pass().await;
                    }
                    wire.ok("2").await
                }
            })
            .await;
        (upstream, gate)
    };
    let dns = Dns::of(NAME, &ips([1, 2]));
    let server = Replicas::ready(&port, &dns, &[1, 2], ask_health).await;
    // Whoever of the two is taken first, the other is next.
    let mut first = server.start_get("/").await;
    one.kill();
    let mut second = server.start_get("/").await;
    let mut third = server.start_get("/").await;
    server.is(port.at(1), State::Suspended).await;
    let (again, health) = healthy(&port, 1, 503).await;
    again.arrived(2).await;
    assert_eq!(server.state(port.at(1)), Some(State::Suspended));
    health.store(200, Ordering::SeqCst);
    server
        .until("it is back", || {
            again.targets().iter().any(|target| target == "/")
        })
        .await;
    gate.open(3);
    for client in [&mut first, &mut second, &mut third] {
        // The first may have been there when it was killed.
        let status = client.response().await.status;
        assert!(status == 200 || status == 502, "{status}");
    }
    server.serve(&port, &[1, 2]).await;
    assert_eq!((two.peak(), again.peak()), (1, 1));
}
