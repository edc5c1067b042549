//! No replica left to serve: those who wait, wait in order, and not for ever.

mod common;

use common::dns::Dns;
use common::replicas::{ips, Port, Replicas, NAME};
use common::SOON;
use faucet_core::ops::status::State;

#[tokio::test]
async fn whoever_waits_too_long_is_told_when_to_come_again() {
    let port = Port::new();
    let replicas = [port.echo(1).await, port.echo(2).await];
    let dns = Dns::of(NAME, &ips(1..=2));
    let server = Replicas::ready(&port, &dns, &[1, 2], |setup| {
        setup.pool.queue_timeout = Some(SOON);
    })
    .await;
    for replica in &replicas {
        replica.kill();
    }
    port.vacant(1).await;
    port.vacant(2).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(server.start_get("/").await);
    }
    for client in &mut clients {
        let response = client.response().await;
        assert_eq!((response.status, response.cause()), (503, "queue_timeout"));
        let after = response.header("retry-after").expect("when to come again");
        assert!(after.parse::<u32>().expect("seconds") > 0);
    }
    for number in 1..=2 {
        server.is(port.at(number), State::Suspended).await;
    }
    let ready = clients[0].get("/__faucet__/readyz").await;
    assert_eq!(ready.status, 503);
    let _two = port.echo(2).await;
    server.is(port.at(2), State::Ready).await;
    assert_eq!(clients[0].get("/").await.text(), "2");
    assert_eq!(clients[0].get("/__faucet__/readyz").await.status, 200);
}

#[tokio::test]
async fn whoever_waits_is_served_in_the_order_of_arrival() {
    let port = Port::new();
    let replicas = [port.echo(1).await, port.echo(2).await, port.echo(3).await];
    let dns = Dns::of(NAME, &ips(1..=3));
    let server = Replicas::ready(&port, &dns, &[1, 2, 3], |_| {}).await;
    for replica in &replicas {
        replica.kill();
    }
    for number in 1..=3 {
        port.vacant(number).await;
    }
    let mut clients = Vec::new();
    for number in 0..10 {
        clients.push(server.start_get(&format!("/{number}")).await);
        server.queued(number + 1).await;
    }
    for number in 1..=3 {
        server.is(port.at(number), State::Suspended).await;
    }
    let two = port.echo(2).await;
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "2");
    }
    let order: Vec<_> = (0..10).map(|number| format!("/{number}")).collect();
    assert_eq!(two.targets(), order);
    assert_eq!(two.peak(), 1);
}

/// However many it has met that are gone.
#[tokio::test]
async fn a_request_waits_for_one_that_is_there() {
    const GONE: u16 = 12;
    let port = Port::new();
    let mut replicas = Vec::new();
    for number in 1..=GONE {
        replicas.push(port.echo(number).await);
    }
    let mut dns = Dns::of(NAME, &ips(1..=GONE));
    let all: Vec<u16> = (1..=GONE).collect();
    let server = Replicas::ready(&port, &dns, &all, |_| {}).await;
    for number in 1..=GONE {
        replicas[usize::from(number) - 1].kill();
        port.vacant(number).await;
    }
    let mut client = server.client().await;
    client.start_post("/", b"body").await;
    for number in 1..=GONE {
        server.is(port.at(number), State::Suspended).await;
    }
    server.queued(1).await;
    let _new = port.echo(GONE + 1).await;
    dns.set(NAME, &ips([GONE + 1]));
    assert_eq!(client.response().await.text(), (GONE + 1).to_string());
    server.serve(&port, &[GONE + 1]).await;
}

/// All of them, one after the other, with new addresses: a rolling update.
#[tokio::test]
async fn a_rolling_update_loses_nothing() {
    let port = Port::new();
    let mut dns = Dns::of(NAME, &ips([1, 2]));
    let mut pods = vec![(1, port.echo(1).await), (2, port.echo(2).await)];
    let server = Replicas::ready(&port, &dns, &[1, 2], |_| {}).await;
    let mut client = server.client().await;
    for next in 3..=12 {
        pods.push((next, port.echo(next).await));
        let (old, pod) = pods.remove(0);
        dns.set(NAME, &ips(pods.iter().map(|(number, _)| *number)));
        for _ in 0..3 {
            assert_eq!(client.post("/", b"body").await.status, 200);
        }
        server.is_gone(port.at(old)).await;
        // Only now, as the pod's grace period has it.
        pod.kill();
        for _ in 0..3 {
            assert_eq!(client.post("/", b"body").await.status, 200);
        }
    }
    server.serve(&port, &[11, 12]).await;
}
