//! Addresses that vanish: what is in flight there ends, and nothing new is sent.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use common::dns::Dns;
use common::replicas::{ips, Port, Replicas, NAME};
use common::{Client, Upstream, Wire};
use faucet_core::ops::status::State;
use faucet_core::server::Request;

#[tokio::test]
async fn what_is_in_flight_ends_and_nothing_new_comes() {
    let port = Port::new();
    let (one, gate) = port.gated(1).await;
    let mut dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let mut last = server.start_get("/").await;
    one.arrived(1).await;
    let _two = port.echo(2).await;
    dns.set(NAME, &ips([2]));
    server.is(port.at(1), State::Draining).await;
    server.is(port.at(2), State::Ready).await;
    let worker = server.at(port.at(1)).expect("a worker");
    assert_eq!(worker.in_flight, 1);
    for _ in 0..5 {
        assert_eq!(server.client().await.get("/").await.text(), "2");
    }
    gate.open(5);
    assert_eq!(last.response().await.text(), "1");
    server.serve(&port, &[2]).await;
    assert_eq!(one.count(), 1);
    server
        .until("its connections are closed", || one.open() == 0)
        .await;
}

#[tokio::test]
async fn a_free_replica_that_vanishes_is_left_at_once() {
    let port = Port::new();
    let one = port.echo(1).await;
    let _two = port.echo(2).await;
    let mut dns = Dns::of(NAME, &ips(1..=2));
    let server = Replicas::ready(&port, &dns, &[1, 2], |_| {}).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(server.start_get("/").await);
    }
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    dns.set(NAME, &ips([2]));
    server.serve(&port, &[2]).await;
    server
        .until("its connections are closed", || one.open() == 0)
        .await;
}

#[tokio::test]
async fn two_answers_at_once_are_never_asked_of_one_that_comes_back() {
    let port = Port::new();
    let (one, first) = port.gated(1).await;
    let (_two, second) = port.gated(2).await;
    let mut dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let mut clients = vec![server.start_get("/").await];
    one.arrived(1).await;
    // It goes and comes several times while its request lasts.
    for _ in 0..3 {
        dns.set(NAME, &ips([2]));
        server.is(port.at(1), State::Draining).await;
        server.is(port.at(2), State::Ready).await;
        dns.set(NAME, &ips([1, 2]));
        server
            .until("it is known again", || server.lookup().addresses == 2)
            .await;
    }
    for _ in 0..3 {
        clients.push(server.start_get("/").await);
    }
    server.queued(2).await;
    assert_eq!(one.count(), 1);
    first.open(4);
    assert_eq!(clients.remove(0).response().await.text(), "1");
    // Now it serves again, the other one being busy.
    one.arrived(2).await;
    second.open(4);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    server.serve(&port, &[1, 2]).await;
    assert_eq!(one.peak(), 1);
    let addresses: Vec<_> = server.status().workers;
    assert_eq!(addresses.len(), 2);
}

#[tokio::test]
async fn one_that_vanishes_while_it_is_set_aside_is_forgotten() {
    let port = Port::new();
    let one = port.echo(1).await;
    let mut dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    one.kill();
    let mut client = server.start_get("/").await;
    server.is(port.at(1), State::Suspended).await;
    let _two = port.echo(2).await;
    dns.set(NAME, &ips([2]));
    server.serve(&port, &[2]).await;
    assert_eq!(client.response().await.text(), "2");
    let one = port.echo(1).await;
    let probes = one.connections();
    assert_eq!(server.client().await.get("/").await.text(), "2");
    server.serve(&port, &[2]).await;
    assert_eq!(one.connections(), probes);
}

/// Switches to a protocol of its own, in which it sends everything back.
async fn echoing(port: &Port, replica: u16) -> Upstream {
    port.start(replica, |_, mut wire: Wire| async move {
        wire.raw("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await;
        wire.answered();
        loop {
            let bytes = wire.read_some().await;
            if bytes.is_empty() {
                return None;
            }
            wire.raw(bytes).await;
        }
    })
    .await
}

async fn tunnel(server: &Replicas) -> Client {
    let mut client = server.client().await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 101);
    client
}

/// The client is told that the server goes away (RFC 6455, 7.4.1), and then there is no more.
async fn said_goodbye(mut client: Client) {
    let goodbye = client.rest().await;
    assert!(goodbye.starts_with(&[0x88, 2, 0x03, 0xe9]), "{goodbye:?}");
}

#[tokio::test]
async fn a_tunnel_ends_in_order_when_its_replica_vanishes() {
    let port = Port::new();
    let _one = echoing(&port, 1).await;
    let _two = port.echo(2).await;
    let mut dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let client = tunnel(&server).await;
    dns.set(NAME, &ips([2]));
    said_goodbye(client).await;
    server.serve(&port, &[2]).await;
    assert_eq!(server.client().await.get("/").await.text(), "2");
}

#[tokio::test]
async fn tunnels_end_in_order_when_the_server_does() {
    let port = Port::new();
    let _one = echoing(&port, 1).await;
    let dns = Dns::of(NAME, &ips([1]));
    let mut server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let clients = [tunnel(&server).await, tunnel(&server).await];
    server.ask(Request::Stop(None)).await.expect("stopped");
    for client in clients {
        said_goodbye(client).await;
    }
    assert!(server.status().workers.is_empty());
}

/// The worst day: all names change all the time, under load.
#[tokio::test]
async fn nothing_is_lost_while_replicas_come_and_go() {
    const REPLICAS: u16 = 5;
    let port = Port::new();
    let mut replicas = Vec::new();
    for number in 1..=REPLICAS {
        let upstream = port
            .start(number, |_, wire: Wire| async move {
                tokio::time::sleep(std::time::Duration::from_millis(3)).await;
                wire.ok("well").await
            })
            .await;
        replicas.push(upstream);
    }
    let mut dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let (over, served) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = crowd(&server, 16, &over, &served).await;
    let mut dice = common::Dice::new(7);
    for _ in 0..40 {
        let now: Vec<u16> = (1..=REPLICAS).filter(|_| dice.below(2) == 0).collect();
        let now = if now.is_empty() { vec![1] } else { now };
        dns.set(NAME, &ips(now.iter().copied()));
        let goal = served.load(Ordering::SeqCst) + 20;
        server
            .until("requests are served", || {
                served.load(Ordering::SeqCst) >= goal
            })
            .await;
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.expect("no request failed");
    }
    for replica in &replicas {
        assert!(replica.peak() <= 1, "two at once");
    }
    dns.set(NAME, &ips(1..=REPLICAS));
    server.serve(&port, &[1, 2, 3, 4, 5]).await;
}

/// Clients that ask again and again until it is over, and fail if a request does.
async fn crowd(
    server: &Replicas,
    count: usize,
    over: &Arc<AtomicBool>,
    served: &Arc<AtomicUsize>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = server.client().await;
        let (over, served) = (over.clone(), served.clone());
        clients.push(tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let response = client.post("/", b"body").await;
                assert_eq!(response.status, 200, "{response:?}");
                served.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    clients
}
