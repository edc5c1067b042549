//! What can be asked of a server whose workers are someone else's.

mod common;

use common::dns::Dns;
use common::replicas::{ips, Port, Replicas, NAME, NEVER};
use common::Client;
use faucet_core::ops::status::{LookupState, State};
use faucet_core::server::{Phase, Request};
use faucet_core::sources::local::WorkerRange;

#[tokio::test]
async fn it_does_not_scale() {
    let port = Port::new();
    let _one = port.echo(1).await;
    let dns = Dns::of(NAME, &ips([1]));
    let mut server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let failure = server
        .ask(Request::Scale(None, WorkerRange::fixed(3)))
        .await
        .expect_err("no");
    assert_eq!(failure.class, "unsupported");
    assert!(!failure.message.is_empty());
    server.serve(&port, &[1]).await;
}

#[tokio::test]
async fn a_reload_is_a_lookup_now() {
    let port = Port::new();
    let _replicas = [port.echo(1).await, port.echo(2).await];
    let mut dns = Dns::of(NAME, &ips([1]));
    let mut server = Replicas::ready(&port, &dns, &[1], |setup| {
        setup.replicas.refresh = Some(NEVER);
    })
    .await;
    dns.set(NAME, &ips([2]));
    server.ask(Request::Reload(None)).await.expect("looked up");
    assert_eq!(server.lookup().addresses, 1);
    server.serve(&port, &[2]).await;
    // Several at a time are answered, too.
    let ids: Vec<_> = (0..5)
        .map(|_| server.server.ask(Request::Reload(None)))
        .collect();
    for id in ids {
        server.result(id).await.expect("looked up");
    }

    dns.remove(NAME);
    let failure = server
        .ask(Request::Reload(None))
        .await
        .expect_err("no address");
    assert_eq!(failure.class, "lookup");
    assert_eq!(server.lookup().state, LookupState::Empty);
    dns.set(NAME, &ips([2]));
    server.ask(Request::Reload(None)).await.expect("looked up");
    assert_eq!(server.lookup().state, LookupState::Ok);
    server.serve(&port, &[2]).await;
}

#[tokio::test]
async fn an_address_is_reloaded_without_a_lookup() {
    let port = Port::new();
    let _one = port.echo(1).await;
    let url = format!("http://{}", port.at(1));
    let mut server = Replicas::start(&url, None, |_| {});
    server.serve(&port, &[1]).await;
    server
        .ask(Request::Reload(None))
        .await
        .expect("nothing to do");
    server.serve(&port, &[1]).await;
}

/// Two requests: one in flight, one in the queue.
async fn loaded(server: &Replicas, one: &common::Upstream) -> [Client; 2] {
    let first = server.start_get("/").await;
    one.arrived(1).await;
    let second = server.start_get("/").await;
    server.queued(1).await;
    [first, second]
}

#[tokio::test]
async fn a_stop_finishes_what_is_there() {
    let port = Port::new();
    let (one, gate) = port.gated(1).await;
    let dns = Dns::of(NAME, &ips([1]));
    let mut server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let mut clients = loaded(&server, &one).await;
    let stop = server.server.ask(Request::Stop(Some(common::PATIENCE)));
    gate.open(2);
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "1");
    }
    server.result(stop).await.expect("stopped");
    server.is_over().await;
    assert!(matches!(server.server.phase(), Phase::Stopped));
    // Nothing of ours is left with the replica, which goes on.
    assert!(server.status().workers.is_empty());
    server.until("nothing is open", || one.open() == 0).await;
}

#[tokio::test]
async fn a_stop_past_its_deadline_cuts_what_is_there() {
    let port = Port::new();
    let (one, _gate) = port.gated(1).await;
    let dns = Dns::of(NAME, &ips([1]));
    let mut server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let _clients = loaded(&server, &one).await;
    let stop = Request::Stop(Some(std::time::Duration::ZERO));
    server.ask(stop).await.expect("stopped");
    server.is_over().await;
}

#[tokio::test]
async fn a_kill_ends_at_once() {
    let port = Port::new();
    let (one, _gate) = port.gated(1).await;
    let dns = Dns::of(NAME, &ips([1]));
    let mut server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let _clients = loaded(&server, &one).await;
    server.ask(Request::Kill).await.expect("killed");
    server.is_over().await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_there_and_refuses_the_rest() {
    let port = Port::new();
    let (one, gate) = port.gated(1).await;
    let dns = Dns::of(NAME, &ips([1]));
    let mut server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let mut idle = server.client().await;
    let mut clients = loaded(&server, &one).await;
    let drain = server.server.ask(Request::Drain(None));
    // Whoever is connected and had nothing under way is refused or sees the end.
    idle.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    if let Ok(response) = idle.try_response(false).await {
        assert_eq!((response.status, response.cause()), (503, "draining"));
    }
    gate.open(2);
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "1");
    }
    server.result(drain).await.expect("drained");
    assert_eq!(one.count(), 2);
    server.ask(Request::Stop(None)).await.expect("stopped");
    server.is_over().await;
}

#[tokio::test]
async fn it_ends_whatever_its_replicas_do() {
    // One that is set aside, one that has not joined, one that drains.
    let port = Port::new();
    let (one, _gate) = port.gated(1).await;
    let two = port.echo(2).await;
    let mut dns = Dns::of(NAME, &ips([2]));
    let mut server = Replicas::ready(&port, &dns, &[2], |_| {}).await;
    two.kill();
    let _waiting = server.start_get("/").await;
    server.is(port.at(2), State::Suspended).await;
    dns.set(NAME, &ips([1, 2]));
    one.arrived(1).await;
    dns.set(NAME, &ips([2, 3]));
    server.is(port.at(1), State::Draining).await;
    let stop = Request::Stop(Some(std::time::Duration::ZERO));
    server.ask(stop).await.expect("stopped");
    server.is_over().await;
}
