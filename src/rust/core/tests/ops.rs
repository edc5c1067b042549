//! What operators see agrees with what happened.

mod common;

use std::collections::HashMap;
use std::net::SocketAddr;

use common::{house, until, Client, House, Response, Upstream};
use faucet_core::ops::{serve_admin, Hosts};
use serde_json::Value;
use tokio::net::TcpListener;

/// Takes the access log once it has so many lines.
async fn lines(house: &House, count: usize) -> Vec<Value> {
    let mut lines = Vec::new();
    until("the requests are logged", || {
        lines.extend(house.log.take().0.into_iter().map(|line| line.text));
        lines.len() >= count
    })
    .await;
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[tokio::test]
async fn health_is_answered_while_all_workers_are_busy() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut busy = house.client().await;
    busy.start_get("/busy").await;
    worker.arrived(1).await;
    let mut waiting = house.client().await;
    waiting.start_get("/waiting").await;
    house.queued(1).await;

    let mut probe = house.client().await;
    let live = probe.get("/__faucet__/livez").await;
    assert_eq!((live.status, live.text()), (200, r#"{"status":"live"}"#));
    let ready = probe.get("/__faucet__/readyz?x=1").await;
    assert_eq!(
        (ready.status, ready.header("content-type")),
        (200, Some("application/json"))
    );
    let ready: Value = serde_json::from_slice(&ready.body).expect("JSON");
    assert_eq!(
        (&ready["status"], &ready["serving"], &ready["queue"]),
        (&"ready".into(), &1.into(), &1.into())
    );
    assert_eq!(probe.get("/__faucet__/other").await.status, 404);
    probe
        .send("HEAD /__faucet__/livez HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(probe.response_to_head().await.status, 200);
    assert_eq!(probe.get("/__faucet__/livez").await.status, 200);
    gate.open(2);
    assert_eq!(busy.response().await.status, 200);
    assert_eq!(waiting.response().await.status, 200);
    assert_eq!(worker.targets(), ["/busy", "/waiting"]);
}

#[tokio::test]
async fn readiness_ends_with_draining() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    house.pool.roster.set_draining();
    let mut probe = house.client().await;
    assert_eq!(probe.get("/__faucet__/readyz").await.status, 503);
    assert_eq!(probe.get("/__faucet__/livez").await.status, 200);
}

/// Each sample of the text format, after checking that every line is one or a comment.
fn samples(text: &str) -> HashMap<String, f64> {
    let mut samples = HashMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            assert!(
                ["HELP ", "TYPE ", "UNIT ", "EOF"]
                    .iter()
                    .any(|kind| comment.starts_with(kind)),
                "{line}"
            );
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a series and a value");
        let name = series.split('{').next().expect("a name");
        assert!(name.starts_with("faucet_"), "{line}");
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
            "{line}"
        );
        assert!(
            samples
                .insert(series.to_owned(), value.parse().expect("a number"))
                .is_none(),
            "{line}"
        );
    }
    samples
}

#[tokio::test]
async fn metrics_and_access_log_agree_with_what_was_sent() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| {
        plan.pool.queue = 1;
        plan.pool.max_body = 10;
    })
    .await;
    gate.open(3);
    let mut client = house.client().await;
    assert_eq!(client.get("/a?b=%20").await.status, 200);
    assert_eq!(client.post("/b", b"body").await.status, 200);
    assert_eq!(client.get("/c").await.status, 200);
    assert_eq!(client.get("/__faucet__/livez").await.status, 200);

    let mut busy = house.client().await;
    busy.start_get("/busy").await;
    worker.arrived(4).await;
    let mut leaver = house.client().await;
    leaver.start_get("/leaver").await;
    house.queued(1).await;
    assert_eq!(client.get("/refused").await.cause(), "queue_full");
    drop(leaver);
    house.queued(0).await;
    gate.open(1);
    assert_eq!(busy.response().await.status, 200);
    assert_eq!(
        client.post("/large", &[b'x'; 11]).await.cause(),
        "body_too_large"
    );

    // Health checks are not among them, but counted.
    let lines = lines(&house, 7).await;
    let mut by_outcome: HashMap<(u64, String), f64> = HashMap::new();
    for line in &lines {
        let cause = line["cause"].as_str().unwrap_or_default().to_owned();
        *by_outcome
            .entry((line["status"].as_u64().expect("a status"), cause))
            .or_default() += 1.0;
        assert!(line["id"].as_str().is_some_and(|id| !id.is_empty()));
        assert_eq!(line["client"], "127.0.0.1");
    }
    let expected = [
        ((200, ""), 4.0),
        ((499, ""), 1.0),
        ((503, "queue_full"), 1.0),
        ((413, "body_too_large"), 1.0),
    ];
    assert_eq!(by_outcome.len(), expected.len(), "{by_outcome:?}");
    let samples = samples(&house.front.render_metrics());
    for ((status, cause), mut count) in expected {
        assert_eq!(by_outcome[&(status, cause.to_owned())], count);
        count += f64::from(u8::from(status == 200));
        let series =
            format!("faucet_requests_total{{pool=\"/\",status=\"{status}\",cause=\"{cause}\"}}");
        assert_eq!(samples[&series], count, "{series}");
    }
    assert_eq!(
        samples["faucet_request_duration_seconds_count{pool=\"/\"}"],
        8.0
    );
    assert_eq!(samples["faucet_queue_wait_seconds_count{pool=\"/\"}"], 8.0);
    assert_eq!(samples["faucet_queue_length{pool=\"/\"}"], 0.0);
    assert_eq!(samples["faucet_workers{pool=\"/\",state=\"ready\"}"], 1.0);
    assert_eq!(samples["faucet_log_lines_dropped_total"], 0.0);
    assert_eq!(house.pool.status().workers[0].requests, 4);

    let first = lines
        .iter()
        .find(|line| line["path"] == "/a?b=%20")
        .expect("logged");
    assert_eq!(
        (&first["method"], &first["worker"], &first["bytes"]),
        (&"GET".into(), &1.into(), &8.into())
    );
    let leaver = lines
        .iter()
        .find(|line| line["path"] == "/leaver")
        .expect("logged");
    assert_eq!(
        (&leaver["status"], &leaver["worker"]),
        (&499.into(), &Value::Null)
    );
}

#[tokio::test]
async fn a_client_that_left_while_its_worker_worked_is_a_499() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client.start_get("/").await;
    worker.arrived(1).await;
    drop(client);
    until("the front has noticed", || {
        house.front.connections.count() == 0
    })
    .await;
    gate.open(1);
    let lines = lines(&house, 1).await;
    assert_eq!(
        (&lines[0]["status"], &lines[0]["worker"]),
        (&499.into(), &1.into())
    );
    assert_eq!(house.counted(499, ""), 1.0);
}

#[tokio::test]
async fn a_client_that_left_before_the_deadline_is_a_499_without_a_cause() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.pool.timeout = Some(common::SOON)).await;
    let mut client = house.client().await;
    client.start_get("/").await;
    worker.arrived(1).await;
    drop(client);
    let lines = lines(&house, 1).await;
    assert_eq!(
        (&lines[0]["status"], &lines[0]["cause"]),
        (&499.into(), &Value::Null)
    );
    assert_eq!(house.counted(499, ""), 1.0);
    gate.open(1);
}

#[tokio::test]
async fn refused_heads_are_counted() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.header_timeout = common::SOON).await;
    let mut client = house.client().await;
    client.send("non(sense\r\n\r\n").await;
    assert_eq!(client.response().await.cause(), "bad_request");
    let mut client = house.client().await;
    client.send("GET / HT").await;
    assert_eq!(client.response().await.cause(), "header_timeout");
    assert_eq!(house.counted(400, "bad_request"), 1.0);
    assert_eq!(house.counted(408, "header_timeout"), 1.0);
}

/// Asks the admin port by its own name.
async fn ask(client: &mut Client, method: &str, path: &str) -> Response {
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    client.send(head).await;
    client.response().await
}

/// A front whose admin port is at the address.
async fn with_admin(change: impl FnOnce(&mut common::Plan)) -> (House, SocketAddr) {
    let house = house(&[], change).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let hosts = Hosts::new("127.0.0.1", &["metrics.example".to_owned()]);
    tokio::spawn(serve_admin(listener, hosts, house.front.clone()));
    (house, address)
}

#[tokio::test]
async fn the_admin_port_is_asked_by_its_own_names() {
    let (_house, address) = with_admin(|_| {}).await;
    for (head, status) in [
        ("GET /status HTTP/1.1\r\nHost: localhost:1\r\n\r\n", 200),
        ("GET /status HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 200),
        (
            "GET /status HTTP/1.1\r\nHost: METRICS.example.\r\n\r\n",
            200,
        ),
        // No browser sends this.
        ("GET /status HTTP/1.0\r\n\r\n", 200),
        ("GET /status HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 421),
        ("GET /status HTTP/1.0\r\nHost: rebound.example\r\n\r\n", 421),
        (
            "GET /__faucet__/livez HTTP/1.1\r\nHost: rebound.example\r\n\r\n",
            421,
        ),
        ("POST / HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 421),
        (
            "GET http://rebound.example/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
            421,
        ),
        (
            "GET http://localhost/status HTTP/1.1\r\nHost: rebound.example\r\n\r\n",
            421,
        ),
        (
            "GET /status HTTP/1.1\r\nHost: 127.0.0.1, rebound.example\r\n\r\n",
            421,
        ),
        ("GET /status HTTP/1.1\r\nHost:\r\n\r\n", 421),
        (
            "GET /status HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            400,
        ),
        ("GET /status HTTP/1.1\r\n\r\n", 400),
    ] {
        let mut client = Client::connect(address).await;
        client.send(head).await;
        let response = client.response().await;
        assert_eq!(response.status, status, "{head}");
        let body: Value = serde_json::from_slice(&response.body).expect("JSON");
        let refused = body["error"]
            .as_str()
            .map(|error| error.starts_with(&status.to_string()));
        assert_eq!(refused, (status != 200).then_some(true), "{head}");
    }
}

#[tokio::test]
async fn the_admin_port_has_room_for_a_newcomer() {
    let (_house, address) = with_admin(|_| {}).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(Client::connect(address).await);
    }
    let mut newcomer = Client::connect(address).await;
    assert_eq!(ask(&mut newcomer, "GET", "/status").await.status, 200);
    // One that asks stays.
    for _ in 0..100 {
        silent.push(Client::connect(address).await);
        assert_eq!(ask(&mut newcomer, "GET", "/status").await.status, 200);
    }
    for client in &mut silent[..200] {
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn nobody_keeps_the_admin_port_for_nothing() {
    let (_house, address) = with_admin(|plan| plan.limits.idle_timeout = Some(common::SOON)).await;
    let mut silent = Client::connect(address).await;
    let mut slow = Client::connect(address).await;
    slow.send("GET /st").await;
    let mut done = Client::connect(address).await;
    assert_eq!(ask(&mut done, "GET", "/status").await.status, 200);
    for client in [&mut silent, &mut slow, &mut done] {
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn metrics_are_classic_text_unless_open_metrics_is_asked_for() {
    let (_house, address) = with_admin(|_| {}).await;
    let mut client = Client::connect(address).await;
    let classic = ask(&mut client, "GET", "/metrics").await;
    assert_eq!(
        classic.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let text = classic.text();
    assert!(
        text.contains("# TYPE faucet_requests_total counter\n"),
        "{text}"
    );
    assert!(
        !text.contains("# EOF") && !text.contains("# UNIT"),
        "{text}"
    );
    client
        .send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text\r\n\r\n")
        .await;
    let open = client.response().await;
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(open.text().ends_with("# EOF\n"));
    let [mut classic, mut open] = [text, open.text()].map(samples);
    // A clock, which runs.
    for samples in [&mut classic, &mut open] {
        assert!(samples
            .remove("faucet_unserved_seconds{pool=\"/\"}")
            .is_some());
    }
    assert_eq!(classic, open);
}

#[tokio::test]
async fn the_admin_port_shows_the_same() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let hosts = Hosts::new("127.0.0.1", &[]);
    tokio::spawn(serve_admin(listener, hosts, house.front.clone()));
    let mut busy = house.client().await;
    busy.start_get("/busy").await;
    worker.arrived(1).await;

    let mut admin = Client::connect(address).await;
    let metrics = ask(&mut admin, "GET", "/metrics").await;
    assert_eq!(metrics.status, 200);
    let samples = samples(metrics.text());
    assert_eq!(samples["faucet_workers{pool=\"/\",state=\"busy\"}"], 1.0);
    assert_eq!(samples["faucet_connections"], 1.0);
    let status: Value =
        serde_json::from_slice(&ask(&mut admin, "GET", "/status").await.body).expect("JSON");
    assert_eq!(status["workers"][0]["state"], "busy");
    assert_eq!(status["workers"][0]["in_flight"], 1);
    assert_eq!(ask(&mut admin, "GET", "/other").await.status, 404);
    assert_eq!(ask(&mut admin, "POST", "/metrics").await.status, 405);
    gate.open(1);
    assert_eq!(busy.response().await.status, 200);
    house.idle().await;
    let status: Value =
        serde_json::from_slice(&ask(&mut admin, "GET", "/status").await.body).expect("JSON");
    assert_eq!(status["workers"][0]["state"], "ready");
    assert_eq!(status["workers"][0]["requests"], 1);
}
