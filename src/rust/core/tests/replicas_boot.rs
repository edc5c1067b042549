//! The first replicas, or none: what is told of a server that never came to serve.

mod common;

use std::time::Duration;

use common::dns::Dns;
use common::replicas::{ips, Port, Replicas, Setup, NAME};
use common::{Wire, SOON};
use faucet_core::ops::status::State;
use faucet_core::server::Phase;

fn soon(setup: &mut Setup) {
    setup.replicas.boot_timeout = SOON;
}

/// Why the server did not start; it is gone then.
async fn told(server: Replicas) -> String {
    let failure = server.failed().await;
    assert_eq!(failure.class, "boot", "{failure}");
    server.is_over().await;
    failure.message
}

#[tokio::test]
async fn a_name_that_nobody_knows() {
    let dns = Dns::start_new();
    let port = Port::new();
    let message = told(Replicas::start(&port.url(), Some(&dns), soon)).await;
    assert!(message.contains(NAME), "{message}");
}

#[tokio::test]
async fn a_name_without_addresses() {
    let mut dns = Dns::start_new();
    dns.empty(NAME);
    let port = Port::new();
    let message = told(Replicas::start(&port.url(), Some(&dns), soon)).await;
    assert!(message.contains(NAME), "{message}");
}

#[tokio::test]
async fn no_dns_server() {
    let mut dns = Dns::start_new();
    dns.stop();
    let port = Port::new();
    let message = told(Replicas::start(&port.url(), Some(&dns), soon)).await;
    assert!(message.contains(NAME), "{message}");
}

#[tokio::test]
async fn addresses_where_nobody_listens() {
    let port = Port::new();
    let dns = Dns::of(NAME, &ips(1..=3));
    let message = told(Replicas::start(&port.url(), Some(&dns), soon)).await;
    assert!(message.contains(NAME), "{message}");
    assert!(message.contains('3'), "{message}");
    assert!(message.to_lowercase().contains("refused"), "{message}");
}

#[tokio::test]
async fn replicas_that_say_they_are_not_ready() {
    let port = Port::new();
    let _one = port
        .start(1, |_, wire: Wire| wire.answer(500, "", "not yet"))
        .await;
    let dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::start(&port.url(), Some(&dns), |setup| {
        soon(setup);
        setup.replicas.ready_path = Some("/health".into());
    });
    let message = told(server).await;
    assert!(message.contains("/health"), "{message}");
    assert!(message.contains("500"), "{message}");
}

#[tokio::test]
async fn whoever_comes_before_the_first_replica_is_served_by_it() {
    let port = Port::new();
    let mut dns = Dns::start_new();
    let server = Replicas::start(&port.url(), Some(&dns), |_| {});
    let mut clients = Vec::new();
    for number in 0..3 {
        clients.push(server.start_get(&format!("/{number}")).await);
        server.queued(number + 1).await;
    }
    let mut health = server.client().await;
    assert_eq!(health.get("/__faucet__/readyz").await.status, 503);
    assert!(matches!(server.server.phase(), Phase::Starting));
    let one = port.echo(1).await;
    dns.set(NAME, &ips([1]));
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "1");
    }
    assert_eq!(one.targets(), ["/0", "/1", "/2"]);
    assert!(matches!(server.server.phase(), Phase::Ready));
    assert_eq!(health.get("/__faucet__/readyz").await.status, 200);
}

#[tokio::test]
async fn once_it_has_served_nothing_fails_the_boot() {
    let port = Port::new();
    let one = port.echo(1).await;
    let dns = Dns::of(NAME, &ips([1]));
    let patience = |setup: &mut Setup| setup.replicas.boot_timeout = Duration::from_secs(2);
    let server = Replicas::ready(&port, &dns, &[1], patience).await;
    one.kill();
    let mut client = server.start_get("/").await;
    server.is(port.at(1), State::Suspended).await;
    // Another one, begun later, fails when its time is over.
    let other = Replicas::start(&port.url_of("other.test"), Some(&dns), patience);
    told(other).await;
    assert!(matches!(server.server.phase(), Phase::Ready));
    let _one = port.echo(1).await;
    assert_eq!(client.response().await.text(), "1");
}
