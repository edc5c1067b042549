//! Looking again: how soon, and what goes on while nothing is found. Those who are known stay.

mod common;

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use common::dns::Dns;
use common::local::get;
use common::replicas::{ips, Port, Replicas, NAME, NEVER};
use common::{Upstream, Wire};
use faucet_core::ops::status::{LookupState, State};
use faucet_core::server::Request;
use serde_json::Value;

#[tokio::test]
async fn records_without_a_time_to_live_are_not_asked_for_all_the_time() {
    let port = Port::new();
    let _replicas = [port.echo(1).await, port.echo(2).await];
    let start = Instant::now();
    let mut dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |setup| setup.replicas.refresh = None).await;
    dns.set(NAME, &ips([1, 2]));
    server.serve(&port, &[1, 2]).await;
    // One at the start, then at most one in 5 s, each for one kind of address.
    let most = 1 + start.elapsed().as_secs() / 5;
    assert!(dns.queries(NAME) as u64 <= most, "{}", dns.queries(NAME));
}

#[tokio::test]
async fn what_is_refreshed_rarely_is_asked_for_once() {
    let port = Port::new();
    let _replicas = [port.echo(1).await, port.echo(2).await];
    let dns = Dns::of(NAME, &ips(1..=2));
    let server = Replicas::ready(&port, &dns, &[1, 2], |setup| {
        setup.replicas.refresh = Some(NEVER);
    })
    .await;
    let mut client = server.client().await;
    for _ in 0..100 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(dns.queries(NAME), 1);
}

#[tokio::test]
async fn a_refresh_of_its_own() {
    let port = Port::new();
    let _one = port.echo(1).await;
    // Records that could be kept for long are not, if told so.
    let mut dns = Dns::with_ttl(3600);
    dns.set(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |setup| {
        setup.replicas.refresh = Some(Duration::from_millis(50));
    })
    .await;
    server
        .until("it is asked again", || dns.queries(NAME) >= 4)
        .await;
    let _two = port.echo(2).await;
    dns.set(NAME, &ips([2]));
    server.serve(&port, &[2]).await;
}

/// What is broken: the name is removed, or left without an address.
async fn outlast(name: &str, outage: fn(&mut Dns, &str), state: LookupState) {
    let port = Port::new();
    let _replicas = [port.echo(1).await, port.echo(2).await];
    let mut dns = Dns::of(name, &ips([1]));
    let mut server = Replicas::start(&port.url_of(name), Some(&dns), |_| {});
    server.serve(&port, &[1]).await;
    let mut client = server.client().await;
    outage(&mut dns, name);
    server.looked_up(state).await;
    let lookup = server.lookup();
    assert!(!lookup.message.is_empty());
    assert_eq!(lookup.addresses, 1);

    // Readiness tells, and stays.
    let ready = client.get("/__faucet__/readyz").await;
    assert_eq!(ready.status, 200);
    let ready: Value = serde_json::from_slice(&ready.body).expect("JSON");
    assert_eq!(ready["pools"][0]["lookup"]["state"], state.name());
    assert_eq!(ready["pools"][0]["lookup"]["message"], lookup.message);

    // Some more lookups change nothing and are not logged.
    for _ in 0..3 {
        let failure = server
            .ask(Request::Reload(None))
            .await
            .expect_err("nothing new");
        assert_eq!(failure.class, "lookup");
        assert!(failure.message.contains(name), "{failure}");
        assert!(failure.message.contains(&lookup.message), "{failure}");
        assert_eq!(client.get("/").await.text(), "1");
    }
    server.serve(&port, &[1]).await;
    assert_eq!(server.lookup().since, lookup.since);
    assert_eq!(server.logged(&lookup.message), 1, "{:#?}", server.lines);
    assert!(server.logged(name) > 0);

    dns.set(name, &ips([2]));
    server.looked_up(LookupState::Ok).await;
    server.serve(&port, &[2]).await;
    assert_eq!(server.lookup().message, "");
    assert_eq!(client.get("/").await.text(), "2");
    // The next time is told again.
    outage(&mut dns, name);
    server.until_logged_times(&lookup.message, 2).await;
}

#[tokio::test]
async fn an_answer_that_is_none() {
    outlast("api.refused.test", Dns::remove, LookupState::Failed).await;
}

#[tokio::test]
async fn no_such_name() {
    outlast(NAME, Dns::remove, LookupState::Empty).await;
}

#[tokio::test]
async fn no_address() {
    outlast(NAME, Dns::empty, LookupState::Empty).await;
}

#[tokio::test]
async fn no_server() {
    let port = Port::new();
    let _replicas = [port.echo(1).await, port.echo(2).await];
    let mut dns = Dns::of(NAME, &ips([1]));
    let mut server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    dns.stop();
    // The one under way may have its answer already.
    while server.ask(Request::Reload(None)).await.is_ok() {}
    assert_eq!(server.lookup().state, LookupState::Failed);
    assert_eq!(server.lookup().addresses, 1);
    let mut client = server.client().await;
    assert_eq!(client.get("/").await.text(), "1");
    assert_eq!(client.get("/__faucet__/readyz").await.status, 200);
    dns.set(NAME, &ips([2]));
    dns.start();
    server.serve(&port, &[2]).await;
    assert_eq!(server.lookup().state, LookupState::Ok);
    assert_eq!(server.client().await.get("/").await.text(), "2");
}

#[tokio::test]
async fn a_server_that_never_answers_stops_nobody() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let dns = silent.local_addr().expect("bound");
    let port = Port::new();
    let mut server = Replicas::start(&port.url(), None, |setup| {
        setup.replicas.dns = Some(dns);
    });
    let mut query = [0; 512];
    silent.recv(&mut query).expect("a query");
    assert_eq!(server.lookup().state, LookupState::Pending);
    server.ask(Request::Stop(None)).await.expect("stopped");
    server.is_over().await;
}

/// By whichever address it answers at in the end.
#[tokio::test]
async fn localhost_may_come_later() {
    let port = Port::new();
    let url = format!("http://localhost:{}", port.number);
    let server = Replicas::start(&url, None, |setup| setup.replicas.refresh = None);
    server.looked_up(LookupState::Ok).await;
    let six = SocketAddr::from((Ipv6Addr::LOCALHOST, port.number));
    let _six = Upstream::start_at(six, |_, wire: Wire| wire.ok("six")).await;
    server.is(six, State::Ready).await;
    assert_eq!(server.status().workers.len(), 1);
    assert_eq!(server.client().await.get("/").await.text(), "six");
}

/// However rarely it is looked up otherwise.
#[tokio::test]
async fn a_name_that_is_not_there_yet_is_looked_up_again_soon() {
    let port = Port::new();
    let _one = port.echo(1).await;
    let mut dns = Dns::start_new();
    let server = Replicas::start(&port.url(), Some(&dns), |setup| {
        setup.replicas.refresh = Some(NEVER);
    });
    server.looked_up(LookupState::Empty).await;
    dns.set(NAME, &ips([1]));
    server.serve(&port, &[1]).await;
    assert_eq!(dns.queries(NAME), 3, "A and AAAA, then A");
}

#[tokio::test]
async fn lookups_are_counted() {
    for (name, outcome) in [(NAME, "empty"), ("api.refused.test", "failed")] {
        let port = Port::new();
        let _one = port.echo(1).await;
        let mut dns = Dns::of(name, &ips([1]));
        let server = Replicas::start(&port.url_of(name), Some(&dns), |setup| {
            setup.admin_port = Some(0);
        });
        server.serve(&port, &[1]).await;
        let admin = server.server.admin_url().expect("an admin port");
        let count = |outcome: &str| -> f64 {
            let (_, metrics) = get(&admin, "/metrics").expect("metrics");
            let series = format!("faucet_lookups_total{{pool=\"/\",outcome=\"{outcome}\"}} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
            value.map_or(0.0, |value| value.parse().expect("a number"))
        };
        server.until("one is counted", || count("ok") > 0.0).await;
        assert_eq!(count("failed") + count("empty"), 0.0);
        dns.remove(name);
        server
            .until("one is counted", || count(outcome) > 0.0)
            .await;
        assert_eq!(count("failed") + count("empty"), count(outcome));
        let (_, status) = get(&admin, "/status").expect("an answer");
        let status: Value = serde_json::from_str(&status).expect("JSON");
        assert_eq!(status["pools"][0]["lookup"]["state"], outcome);
        assert_eq!(status["pools"][0]["lookup"]["addresses"], 1);
        assert_eq!(status["workers"][0]["address"], port.at(1).to_string());
    }
}
