//! Beyond its limits the front answers by itself, at once, and says why.

mod common;

use std::time::Duration;

use common::{house, until, Gate, Upstream, Wire, SOON};

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.pool.queue = 2).await;
    let mut waiting = Vec::new();
    for number in 0..3 {
        let mut client = house.client().await;
        client.start_get(&format!("/{number}")).await;
        if number == 0 {
            worker.arrived(1).await;
        }
        house.queued(number).await;
        waiting.push(client);
    }
    let mut refused = house.client().await;
    let response = refused.get("/refused").await;
    assert_eq!((response.status, response.cause()), (503, "queue_full"));
    let seconds: u32 = response
        .header("retry-after")
        .expect("given")
        .parse()
        .expect("seconds");
    assert!(seconds > 0);
    // Its connection is still good.
    gate.open(4);
    for client in &mut waiting {
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!(refused.get("/again").await.status, 200);
    assert!(!worker.targets().contains(&"/refused".to_owned()));
}

#[tokio::test]
async fn waiting_for_a_worker_has_an_end() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.pool.queue_timeout = Some(SOON)).await;
    let mut first = house.client().await;
    first.start_get("/first").await;
    worker.arrived(1).await;
    let mut late = house.client().await;
    let response = late.get("/late").await;
    assert_eq!((response.status, response.cause()), (503, "queue_timeout"));
    assert!(response.header("retry-after").is_some());
    assert_eq!(house.pool.table.waiting(), 0);
    gate.open(1);
    assert_eq!(first.response().await.status, 200);
    assert_eq!(worker.targets(), ["/first"]);
}

#[tokio::test]
async fn a_declared_body_over_the_limit_is_refused() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.pool.max_body = 1000).await;
    let mut client = house.client().await;
    assert_eq!(client.post("/most", &[b'x'; 1000]).await.status, 200);
    client
        .send("POST /more HTTP/1.1\r\nHost: test\r\nContent-Length: 1001\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (413, "body_too_large"));
    assert!(client.is_closed().await);
    assert_eq!(worker.targets(), ["/most"]);
}

#[tokio::test]
async fn a_chunked_body_over_the_limit_is_refused() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.pool.max_body = 1000).await;
    let mut client = house.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client
        .send(format!("3e8\r\n{}\r\n", "x".repeat(1000)))
        .await;
    client.send("1\r\nx\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (413, "body_too_large"));
    assert_eq!(worker.count(), 0);
}

/// Most clients send their whole body before they read: a reset would destroy the answer.
#[tokio::test]
async fn a_client_that_sends_its_large_body_to_the_end_sees_the_refusal() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.pool.max_body = 1000).await;
    for framing in ["Content-Length: 4000000", "Transfer-Encoding: chunked"] {
        let mut client = house.client().await;
        let body = if framing.starts_with('C') {
            "x".repeat(4_000_000)
        } else {
            format!("3d0900\r\n{}\r\n0\r\n\r\n", "x".repeat(4_000_000))
        };
        client
            .try_send(format!(
                "POST / HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n{body}"
            ))
            .await;
        let response = client.try_response(false).await;
        let response = response.unwrap_or_else(|broken| panic!("{framing}: {broken:?}"));
        assert_eq!((response.status, response.cause()), (413, "body_too_large"));
    }
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.idle_timeout = Some(SOON)).await;
    for head in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let mut client = house.client().await;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nHost: test\r\n{head}\r\n\r\n5\r\n"
            ))
            .await;
        let response = client.response().await;
        assert_eq!((response.status, response.cause()), (408, "body_timeout"));
        assert!(client.is_closed().await);
    }
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn a_head_that_stops_coming_is_given_up() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.header_timeout = SOON).await;
    for half in ["GET / HT", "GET / HTTP/1.1\r\nHost: te", "POST", "G"] {
        let mut client = house.client().await;
        client.send(half).await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.cause()),
            (408, "header_timeout"),
            "{half}"
        );
        assert!(client.is_closed().await);
    }
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn a_head_that_trickles_is_given_up() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.header_timeout = SOON).await;
    let mut client = house.client().await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n").await;
    let mut number = 0;
    // Each line is progress, but not enough.
    while client.try_send(format!("X-{number}: 1\r\n")).await {
        number += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(number < 500, "still taken");
    }
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn the_second_head_on_a_connection_has_the_same_time() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.header_timeout = SOON).await;
    let mut client = house.client().await;
    assert_eq!(client.get("/first").await.status, 200);
    // Not at once: whatever watched the first head must have looked away.
    let mut silent = house.client().await;
    assert!(silent.is_closed().await);
    client.send("GET /second HTTP/1.1\r\n").await;
    let response = tokio::time::timeout(Duration::from_secs(5), client.response())
        .await
        .expect("much sooner");
    assert_eq!((response.status, response.cause()), (408, "header_timeout"));
}

/// It lies in the connection's buffer by the time the answer before it is out.
#[tokio::test]
async fn a_pipelined_head_that_stops_coming_is_given_up() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.header_timeout = SOON).await;
    for (first, half) in [
        (
            "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /b HTTP/1.1\r\nHo",
        ),
        ("GET /a HTTP/1.1\r\nHost: a\r\n\r\n", "\r\nG"),
        (
            "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            "G",
        ),
    ] {
        let mut client = house.client().await;
        client.send(format!("{first}{half}")).await;
        assert_eq!(client.response().await.status, 200);
        let response = tokio::time::timeout(Duration::from_secs(15), client.response())
            .await
            .expect("much sooner");
        assert_eq!((response.status, response.cause()), (408, "header_timeout"));
        assert!(client.is_closed().await);
    }
}

/// Empty lines after a request are no head (RFC 9112, 2.2).
#[tokio::test]
async fn an_empty_line_after_a_request_is_not_taken_for_a_head() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.header_timeout = SOON).await;
    let mut client = house.client().await;
    client.send("GET /a HTTP/1.1\r\nHost: a\r\n\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    // Two heads that came later have been given up by now.
    for _ in 0..2 {
        let mut silent = house.client().await;
        silent.send("GET / HT").await;
        assert_eq!(silent.response().await.status, 408);
    }
    assert_eq!(client.get("/b").await.text(), "/b");
}

#[tokio::test]
async fn a_client_that_says_nothing_is_sent_away_without_a_word() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.header_timeout = SOON).await;
    let mut client = house.client().await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| {
        plan.limits.idle_timeout = Some(SOON);
        plan.limits.header_timeout = SOON;
    })
    .await;
    let mut client = house.client().await;
    assert_eq!(client.get("/").await.status, 200);
    assert!(client.is_closed().await);
    until("nothing is left of it", || {
        house.front.connections.count() == 0
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_thinks_longer_than_the_idle_timeout_may() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| {
        plan.limits.idle_timeout = Some(SOON / 4);
        plan.limits.header_timeout = SOON / 4;
    })
    .await;
    let mut client = house.client().await;
    client.start_get("/").await;
    // Another connection's end shows that more than the limits has passed.
    let mut silent = house.client().await;
    assert!(silent.is_closed().await);
    let mut silent = house.client().await;
    assert!(silent.is_closed().await);
    gate.open(1);
    assert_eq!(client.response().await.status, 200);
}

#[tokio::test]
async fn a_client_that_reads_nothing_for_too_long_is_cut() {
    let worker = Upstream::start(|_, wire: Wire| wire.ok(vec![b'x'; 30_000_000])).await;
    let house = house(&[&worker], |plan| {
        plan.limits.idle_timeout = Some(SOON);
        plan.limits.header_timeout = SOON;
    })
    .await;
    let mut client = house.client().await;
    client.start_get("/").await;
    worker.arrived(1).await;
    until("it is cut", || house.front.connections.count() == 0).await;
    assert!(client.try_response(false).await.is_err());
    house.idle().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.max_header = 16 * 1024).await;
    let mut client = house.client().await;
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n",
            "x".repeat(8_000)
        ))
        .await;
    assert_eq!(client.response().await.status, 200);
    client
        .try_send(format!(
            "GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n",
            "x".repeat(40_000)
        ))
        .await;
    let response = client.response().await;
    assert_eq!(
        (response.status, response.cause()),
        (431, "header_too_large")
    );
    assert!(client.is_closed().await);
    assert_eq!(worker.count(), 1);
}

#[tokio::test]
async fn too_many_header_lines_are_refused() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    let lines: String = (0..500)
        .map(|number| format!("X-{number}: 1\r\n"))
        .collect();
    client
        .try_send(format!("GET / HTTP/1.1\r\nHost: test\r\n{lines}\r\n"))
        .await;
    let response = client.response().await;
    assert_eq!(
        (response.status, response.cause()),
        (431, "header_too_large")
    );
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn a_target_that_is_too_long_is_refused() {
    let worker = Upstream::echo().await;
    // hyper's own limit for a target is 64 KB: the head may be larger.
    let house = house(&[&worker], |plan| plan.limits.max_header = 256 * 1024).await;
    let mut client = house.client().await;
    client
        .try_send(format!(
            "GET /{} HTTP/1.1\r\nHost: test\r\n\r\n",
            "x".repeat(70_000)
        ))
        .await;
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (414, "uri_too_long"));
    assert!(client.is_closed().await);
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn no_worker_left_to_wait_for_is_said_at_once() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    for (why, cause) in [
        (faucet_core::lock::Refused::NoWorkers, "no_workers"),
        (faucet_core::lock::Refused::Closed, "draining"),
    ] {
        house.pool.table.refuse(why);
        let response = house.client().await.get("/").await;
        assert_eq!((response.status, response.cause()), (503, cause));
        assert!(response.header("retry-after").is_some());
    }
    house.pool.table.admit();
    assert_eq!(house.client().await.get("/").await.status, 200);
}

#[tokio::test]
async fn those_who_wait_are_told_when_nothing_will_come() {
    let gate = Gate::default();
    let inner = gate.clone();
    let worker = Upstream::start(move |_, wire: Wire| {
        let gate = inner.clone();
        async move {
            gate.pass().await;
            wire.ok("").await
        }
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut first = house.client().await;
    first.start_get("/").await;
    worker.arrived(1).await;
    let mut second = house.client().await;
    second.start_get("/").await;
    house.queued(1).await;
    house.pool.table.refuse(faucet_core::lock::Refused::Closed);
    assert_eq!(second.response().await.cause(), "draining");
    gate.open(1);
    assert_eq!(first.response().await.status, 200);
}
