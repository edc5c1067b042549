//! What a name resolves to, and who becomes a worker.

mod common;

use std::net::{Ipv6Addr, SocketAddr};

use common::dns::Dns;
use common::replicas::{ip, ips, Port, Replicas, NAME};
use common::{Upstream, Wire};
use faucet_core::ops::status::{Kind, LookupState, State};

#[tokio::test]
async fn each_address_is_a_worker() {
    let port = Port::new();
    let (_one, first) = port.gated(1).await;
    let (_two, second) = port.gated(2).await;
    let dns = Dns::of(NAME, &ips(1..=2));
    let server = Replicas::ready(&port, &dns, &[1, 2], |_| {}).await;
    let lookup = server.lookup();
    assert_eq!(lookup.state, LookupState::Ok);
    assert_eq!(lookup.addresses, 2);
    assert_eq!(lookup.url, port.url());
    assert_eq!(lookup.message, "");
    for worker in server.status().workers {
        assert_eq!((worker.slots, worker.pid), (1, None));
        assert_ne!(worker.kind, Some(Kind::Native));
    }
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(server.start_get("/").await);
    }
    server.is(port.at(1), State::Busy).await;
    server.is(port.at(2), State::Busy).await;
    server.queued(1).await;
    first.open(3);
    second.open(3);
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
    server.serve(&port, &[1, 2]).await;
}

#[tokio::test]
async fn as_many_requests_at_a_time_as_it_has_slots() {
    let port = Port::new();
    let (one, gate) = port.gated(1).await;
    let dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |setup| setup.replicas.slots = 3).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(server.start_get("/").await);
    }
    one.arrived(3).await;
    server.queued(2).await;
    gate.open(5);
    for mut client in clients {
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!(one.peak(), 3);
}

#[tokio::test]
async fn ipv6_only_if_there_is_no_ipv4() {
    let port = Port::new();
    let _one = port.echo(1).await;
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port.number));
    let _six = Upstream::start_at(six, |_, wire: Wire| wire.ok("six")).await;
    let mut dns = Dns::of(NAME, &[six.ip()]);
    let server = Replicas::start(&port.url(), Some(&dns), |_| {});
    server.is(six, State::Ready).await;
    assert_eq!(server.client().await.get("/").await.text(), "six");

    dns.set(NAME, &[six.ip(), ip(1)]);
    server.serve(&port, &[1]).await;
    assert_eq!(server.lookup().addresses, 1);
    assert_eq!(server.client().await.get("/").await.text(), "1");
}

#[tokio::test]
async fn services_have_hosts_and_ports_of_their_own() {
    let (here, there) = (Port::new(), Port::new());
    let _one = here.echo(1).await;
    let _two = there.echo(2).await;
    let mut dns = Dns::of("one.test", &ips([1]));
    dns.set("two.test", &ips([2]));
    let services = [("one.test", here.number), ("two.test", there.number)];
    dns.srv("_http._tcp.api.test", &services);
    let url = "srv+http://_http._tcp.api.test";
    let server = Replicas::start(url, Some(&dns), |_| {});
    server.is(here.at(1), State::Ready).await;
    server.is(there.at(2), State::Ready).await;
    assert_eq!(server.status().workers.len(), 2);
    // The hosts' addresses are looked up again, too.
    let _three = there.echo(3).await;
    dns.set("two.test", &ips([2, 3]));
    server.is(there.at(3), State::Ready).await;
    assert_eq!(server.status().workers.len(), 3);
}

#[tokio::test]
async fn a_service_whose_host_is_not_known_is_left_out() {
    let port = Port::new();
    let _one = port.echo(1).await;
    let mut dns = Dns::of("one.test", &ips([1]));
    let services = [("gone.test", port.number), ("one.test", port.number)];
    dns.srv("_http._tcp.api.test", &services);
    let url = "srv+http://_http._tcp.api.test";
    let server = Replicas::start(url, Some(&dns), |_| {});
    server.serve(&port, &[1]).await;
    dns.remove("one.test");
    server.looked_up(LookupState::Empty).await;
    server.serve(&port, &[1]).await;
}

#[tokio::test]
async fn an_address_named_twice_is_one_worker() {
    let port = Port::new();
    let (one, gate) = port.gated(1).await;
    let mut dns = Dns::of("one.test", &ips([1]));
    dns.set("also-one.test", &ips([1]));
    let services = [("one.test", port.number), ("also-one.test", port.number)];
    dns.srv("_http._tcp.api.test", &services);
    let url = "srv+http://_http._tcp.api.test";
    let server = Replicas::start(url, Some(&dns), |_| {});
    server.serve(&port, &[1]).await;
    let mut clients = [server.start_get("/").await, server.start_get("/").await];
    server.queued(1).await;
    gate.open(2);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!(one.peak(), 1);
}

#[tokio::test]
async fn localhost_is_one_worker() {
    let port = Port::new();
    let four = SocketAddr::from(([127, 0, 0, 1], port.number));
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port.number));
    let url = format!("http://localhost:{}", port.number);
    let echo = |_, wire: Wire| wire.ok("");
    for addresses in [&[four][..], &[six], &[four, six]] {
        let mut upstreams = Vec::new();
        for address in addresses {
            while tokio::net::TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
            upstreams.push(Upstream::start_at(*address, echo).await);
        }
        let server = Replicas::start(&url, None, |_| {});
        server
            .until("it serves", || server.status().serving() > 0)
            .await;
        assert_eq!(server.client().await.get("/").await.status, 200);
        let workers = server.status().workers;
        assert_eq!(workers.len(), 1, "{addresses:?}: {workers:?}");
        assert_eq!(workers[0].slots, 1);
    }
}

#[tokio::test]
async fn an_address_needs_no_lookup() {
    let port = Port::new();
    let _one = port.echo(1).await;
    let url = format!("http://{}", port.at(1));
    let server = Replicas::start(&url, None, |_| {});
    server.serve(&port, &[1]).await;
    assert_eq!(server.client().await.get("/").await.text(), "1");
}

#[tokio::test]
async fn an_alias_and_a_name_with_its_root() {
    let port = Port::new();
    let _one = port.echo(1).await;
    let mut dns = Dns::of(NAME, &ips([1]));
    dns.alias("alias.test", NAME);
    for name in ["alias.test", "api.test.", "API.test"] {
        let url = format!("http://{name}:{}", port.number);
        let server = Replicas::start(&url, Some(&dns), |_| {});
        server.serve(&port, &[1]).await;
    }
}

#[tokio::test]
async fn more_addresses_than_a_datagram_holds() {
    const MANY: u16 = 320;
    let port = Port::new();
    let mut upstreams = Vec::new();
    for number in 1..=MANY {
        upstreams.push(port.echo(number).await);
    }
    let dns = Dns::of(NAME, &ips(1..=MANY));
    let all: Vec<u16> = (1..=MANY).collect();
    let server = Replicas::ready(&port, &dns, &all, |_| {}).await;
    assert_eq!(server.lookup().addresses, usize::from(MANY));
}

#[tokio::test]
async fn a_single_address_may_be_a_service_that_hides_its_replicas() {
    for (replicas, told) in [(&[1][..], 1), (&[1, 2], 0)] {
        let port = Port::new();
        let _replicas = [port.echo(1).await, port.echo(2).await];
        let dns = Dns::of(NAME, &ips(replicas.iter().copied()));
        let mut server = Replicas::ready(&port, &dns, replicas, |_| {}).await;
        assert_eq!(server.logged("headless"), told);
    }
}

/// As services of Docker Compose do.
#[tokio::test]
async fn names_may_have_underscores_inside_their_labels() {
    let port = Port::new();
    let _one = port.echo(1).await;
    let _two = port.echo(2).await;
    let mut dns = Dns::of("my_api.test", &ips([1]));
    let server = Replicas::start(&port.url_of("my_api.test"), Some(&dns), |_| {});
    server.serve(&port, &[1]).await;

    dns.set("my_host.test", &ips([2]));
    dns.srv("_http._tcp.my_api.test", &[("my_host.test", port.number)]);
    let server = Replicas::start("srv+http://_http._tcp.my_api.test", Some(&dns), |_| {});
    server.serve(&port, &[2]).await;
}
