//! A DNS server that fails or says nothing useful: those who are known go on.

mod common;

use std::net::UdpSocket;

use common::dns::Dns;
use common::local::get;
use common::replicas::{ips, Port, Replicas, NAME};
use faucet_core::ops::status::LookupState;
use faucet_core::server::Request;
use serde_json::Value;

/// What is broken, and how it is mended.
struct Outage {
    begin: fn(&mut Dns),
    end: fn(&mut Dns),
    state: LookupState,
}

const STOPPED: Outage = Outage {
    begin: Dns::stop,
    end: Dns::start,
    state: LookupState::Failed,
};

const NOT_FOUND: Outage = Outage {
    begin: |dns| dns.remove(NAME),
    end: |dns| dns.set(NAME, &ips([2])),
    state: LookupState::Empty,
};

const NO_ADDRESS: Outage = Outage {
    begin: |dns| dns.empty(NAME),
    end: |dns| dns.set(NAME, &ips([2])),
    state: LookupState::Empty,
};

async fn outlast(outage: Outage) {
    let port = Port::new();
    let _replicas = [port.echo(1).await, port.echo(2).await];
    let mut dns = Dns::of(NAME, &ips([1]));
    let mut server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let mut client = server.client().await;
    (outage.begin)(&mut dns);
    server.looked_up(outage.state).await;
    let lookup = server.lookup();
    assert!(lookup.message.contains(NAME), "{}", lookup.message);
    assert_eq!(lookup.addresses, 1);

    // Readiness tells, and stays.
    let ready = client.get("/__faucet__/readyz").await;
    assert_eq!(ready.status, 200);
    let ready: Value = serde_json::from_slice(&ready.body).expect("JSON");
    assert_eq!(ready["lookup"]["state"], outage.state.name());
    assert_eq!(ready["lookup"]["message"], lookup.message);

    // Some more lookups change nothing and are not logged.
    for _ in 0..3 {
        server.ask(Request::Reload).await.expect_err("nothing new");
        assert_eq!(client.get("/").await.text(), "1");
    }
    server.serve(&port, &[1]).await;
    assert_eq!(server.lookup().since, lookup.since);
    assert_eq!(server.logged(&lookup.message), 1, "{:#?}", server.lines);

    (outage.end)(&mut dns);
    server.looked_up(LookupState::Ok).await;
    assert_eq!(server.lookup().message, "");
    dns.set(NAME, &ips([2]));
    server.serve(&port, &[2]).await;
    assert_eq!(client.get("/").await.text(), "2");
    // That it is well again is told, and once more if it is not.
    let told = server.logged(NAME);
    (outage.begin)(&mut dns);
    server.looked_up(outage.state).await;
    server.until_logged_times(&lookup.message, 2).await;
    assert!(server.logged(NAME) > told);
}

#[tokio::test]
async fn no_server() {
    outlast(STOPPED).await;
}

#[tokio::test]
async fn no_such_name() {
    outlast(NOT_FOUND).await;
}

#[tokio::test]
async fn no_address() {
    outlast(NO_ADDRESS).await;
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

#[tokio::test]
async fn lookups_are_counted() {
    let port = Port::new();
    let _one = port.echo(1).await;
    let mut dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |setup| setup.admin_port = Some(0)).await;
    let count = |outcome: &str| -> f64 {
        let url = server.server.admin_url().expect("an admin port");
        let (_, metrics) = get(&url, "/metrics").expect("metrics");
        let series = format!("faucet_lookups_total{{outcome=\"{outcome}\"}} ");
        let mut values = metrics
            .lines()
            .filter_map(|line| line.strip_prefix(&series));
        values
            .next()
            .map_or(0.0, |value| value.parse().expect("a number"))
    };
    server.until("one is counted", || count("ok") > 0.0).await;
    assert_eq!((count("failed"), count("empty")), (0.0, 0.0));
    dns.empty(NAME);
    server
        .until("one is counted", || count("empty") > 0.0)
        .await;
    dns.stop();
    server
        .until("one is counted", || count("failed") > 0.0)
        .await;
    let (_, status) = get(
        &server.server.admin_url().expect("an admin port"),
        "/status",
    )
    .expect("JSON");
    let status: Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["lookup"]["state"], "failed");
    assert_eq!(status["lookup"]["addresses"], 1);
    assert_eq!(status["workers"][0]["address"], port.at(1).to_string());
}
