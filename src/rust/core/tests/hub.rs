//! Workers that dial in, as the hub and its clients see them.

mod common;

use std::time::Duration;

use common::hub::{HubServer, FORGET};
use common::{dial, shake, until, within, Client, Gate, Seen, Upstream, Wire, PATIENCE};
use faucet_core::server::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const NAME: &str = "Faucet-Worker: box\r\n";

async fn echo(seen: Seen, wire: Wire) -> Option<Wire> {
    wire.ok(seen.target).await
}

/// Answers a request when its gate is opened.
async fn gated(hub: &HubServer, slots: usize) -> (Upstream, Gate) {
    let gate = Gate::default();
    let inner = gate.clone();
    let worker = Upstream::dialling(hub.workers, slots, NAME, move |seen: Seen, wire: Wire| {
        let gate = inner.clone();
        async move {
            gate.pass().await;
            wire.ok(seen.target).await
        }
    })
    .await;
    (worker, gate)
}

#[tokio::test]
async fn a_slot_serves_one_request_after_the_other() {
    let hub = HubServer::start().await;
    assert_eq!(hub.client().await.get("/").await.cause(), "no_route");
    let worker = Upstream::dialling(hub.workers, 1, NAME, echo).await;
    hub.offered(1).await;
    let mut client = hub.client().await;
    for number in 0..20 {
        let target = format!("/{number}");
        assert_eq!(client.get(&target).await.text(), target);
    }
    assert_eq!(
        (worker.peak(), worker.connections(), worker.open()),
        (1, 1, 1)
    );
    let slot = &hub.slots()[0];
    assert_eq!(slot.name.as_deref(), Some("box"));
    assert_eq!((slot.requests, slot.slots), (20, 1));
}

#[tokio::test]
async fn no_slot_has_two_requests_and_none_is_idle_while_one_waits() {
    let hub = HubServer::start().await;
    let (worker, gate) = gated(&hub, 3).await;
    hub.offered(3).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut client = hub.client().await;
        client.start_get("/").await;
        clients.push(client);
    }
    worker.arrived(3).await;
    assert_eq!(worker.in_flight(), 3);
    gate.open(5);
    for client in &mut clients {
        assert_eq!(within("an answer", client.response()).await.status, 200);
    }
    assert_eq!(worker.peak(), 3);
}

#[tokio::test]
async fn a_route_is_a_pool_of_its_own() {
    let hub = HubServer::start().await;
    let headers = format!("{NAME}Faucet-Route: /model-a\r\n");
    let _worker = Upstream::dialling(hub.workers, 1, &headers, echo).await;
    hub.offered(1).await;
    let mut client = hub.client().await;
    assert_eq!(client.get("/model-a/x").await.text(), "/x");
    assert_eq!(client.get("/model-b/x").await.cause(), "no_route");
    assert_eq!(client.get("/").await.status, 404);
}

#[tokio::test]
async fn when_all_workers_of_a_route_are_away_requests_wait_and_then_get_503() {
    let hub = HubServer::with(|hub| {
        hub.limits.queue_timeout = Some(Duration::from_millis(50));
    })
    .await;
    let worker = Upstream::dialling(hub.workers, 2, NAME, echo).await;
    hub.offered(2).await;
    worker.kill();
    hub.offered(0).await;
    let response = hub.client().await.get("/").await;
    assert_eq!(response.cause(), "queue_timeout");
    assert!(response.header("retry-after").is_some());
}

#[tokio::test]
async fn a_route_that_nobody_has_offered_for_long_is_forgotten_and_made_again() {
    let hub = HubServer::with(|hub| hub.forget_after = Some(FORGET)).await;
    let worker = Upstream::dialling(hub.workers, 1, NAME, echo).await;
    hub.offered(1).await;
    worker.kill();
    until("the pool is forgotten", || hub.server.status().is_empty()).await;
    assert_eq!(hub.client().await.get("/").await.cause(), "no_route");
    let _worker = Upstream::dialling(hub.workers, 1, NAME, echo).await;
    hub.offered(1).await;
    assert_eq!(hub.client().await.get("/x").await.text(), "/x");
}

#[tokio::test]
async fn a_slot_is_taken_back_by_closing_it() {
    let hub = HubServer::start().await;
    let idle = dial(hub.workers, NAME).await;
    hub.offered(1).await;
    drop(idle);
    hub.offered(0).await;
    // After an answer, too.
    let worker = Upstream::dialling(hub.workers, 1, NAME, |_, wire: Wire| async move {
        wire.answer(200, "Connection: close\r\n", "bye").await;
        None
    })
    .await;
    hub.offered(1).await;
    assert_eq!(hub.client().await.get("/").await.text(), "bye");
    hub.offered(0).await;
    assert_eq!(worker.count(), 1);
}

#[tokio::test]
async fn a_worker_that_speaks_without_being_asked_loses_its_slot() {
    let hub = HubServer::start().await;
    let mut fresh = dial(hub.workers, NAME).await;
    hub.offered(1).await;
    fresh
        .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
        .await
        .expect("open");
    hub.offered(0).await;
    let mut used = dial(hub.workers, NAME).await;
    hub.offered(1).await;
    let mut client = hub.client().await;
    client.start_get("/").await;
    assert!(used.read(&mut [0; 1024]).await.expect("a request") > 0);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    used.write_all(answer).await.expect("open");
    assert_eq!(client.response().await.status, 200);
    hub.offered(1).await;
    used.write_all(answer).await.expect("open");
    hub.offered(0).await;
}

/// What a worker that closes has not received goes to another one, even if it must not be repeated.
#[tokio::test]
async fn a_request_that_meets_a_closing_connection_goes_to_another_slot() {
    let hub = HubServer::start().await;
    let (worker, gate) = gated(&hub, 1).await;
    gate.open(1000);
    for round in 0..50 {
        // The slot offered last is used first.
        let closing = dial(hub.workers, NAME).await;
        hub.offered(2).await;
        let mut client = hub.client().await;
        let close = tokio::spawn(async move {
            for _ in 0..round {
                tokio::task::yield_now().await;
            }
            drop(closing);
        });
        let response = client.post("/", b"body").await;
        // The worker took the connection and closed it with the request unread: it may have been read.
        assert!(matches!(response.status, 200 | 502), "{}", response.status);
        close.await.expect("no panic");
        hub.offered(1).await;
    }
    assert_eq!(worker.peak(), 1);
}

#[tokio::test]
async fn a_worker_lost_mid_request_is_a_502_and_its_slot_is_gone() {
    let hub = HubServer::start().await;
    let (worker, _gate) = gated(&hub, 1).await;
    hub.offered(1).await;
    let mut client = hub.client().await;
    client.start_get("/").await;
    worker.arrived(1).await;
    // Another one is there, and must not get it.
    let other = Upstream::dialling(hub.workers, 1, NAME, echo).await;
    worker.kill();
    let response = within("an answer", client.response()).await;
    assert_eq!((response.status, response.cause()), (502, "worker_died"));
    hub.offered(1).await;
    assert_eq!(other.count(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_while_queued_takes_its_job_with_it() {
    let hub = HubServer::start().await;
    let (worker, gate) = gated(&hub, 1).await;
    hub.offered(1).await;
    let mut first = hub.client().await;
    first.start_get("/first").await;
    worker.arrived(1).await;
    let mut second = hub.client().await;
    second.start_get("/second").await;
    until("it waits", || hub.server.status()[0].queue == 1).await;
    drop(second);
    until("it has left", || hub.server.status()[0].queue == 0).await;
    gate.open(2);
    assert_eq!(first.response().await.text(), "/first");
    assert_eq!(first.get("/third").await.text(), "/third");
    assert_eq!(worker.targets(), ["/first", "/third"]);
}

#[tokio::test]
async fn a_client_that_leaves_mid_request_closes_the_slots_connection() {
    let hub = HubServer::start().await;
    let mut slot = dial(hub.workers, NAME).await;
    hub.offered(1).await;
    let mut client = hub.client().await;
    client.start_get("/").await;
    assert!(slot.read(&mut [0; 1024]).await.expect("a request") > 0);
    drop(client);
    let end = within("the end", slot.read(&mut [0; 1024])).await;
    assert!(matches!(end, Ok(0) | Err(_)));
    hub.offered(0).await;
}

#[tokio::test]
async fn past_its_deadline_a_request_gets_504_and_its_slot_is_closed() {
    let hub = HubServer::with(|hub| hub.limits.timeout = Some(Duration::from_millis(50))).await;
    let mut slot = dial(hub.workers, NAME).await;
    hub.offered(1).await;
    let mut client = hub.client().await;
    assert_eq!(client.get("/").await.status, 504);
    let mut all = Vec::new();
    let _ = within("the end", slot.read_to_end(&mut all)).await;
    hub.offered(0).await;
}

#[tokio::test]
async fn strangers_are_refused() {
    let hub = HubServer::with(|hub| hub.token = HubServer::token("s3cret")).await;
    let answer = |headers: &'static str| async move {
        let mut stream = TcpStream::connect(hub.workers).await.expect("a hub");
        let (head, body) = shake(&mut stream, headers).await;
        let mut rest = Vec::new();
        within("the end", stream.read_to_end(&mut rest))
            .await
            .expect("no reset");
        let status = head.split(' ').nth(1).expect("a status").to_owned();
        (status, body)
    };
    for headers in [
        "Faucet-Worker: box\r\n",
        "Faucet-Worker: box\r\nAuthorization: Bearer wrong\r\n",
        "Faucet-Worker: box\r\nAuthorization: Basic s3cret\r\n",
        "Faucet-Worker: box\r\nAuthorization: Bearer s3cretx\r\n",
        "Faucet-Worker: box\r\nAuthorization: Bearer \r\n",
        "Faucet-Worker: box\r\nAuthorization:\r\n",
    ] {
        let (status, body) = answer(headers).await;
        assert_eq!(status, "401", "{headers}");
        assert!(!body.contains("s3cret"));
    }
    let known = "Authorization: bearer s3cret\r\nFaucet-Worker: box\r\n";
    let _slot = dial(hub.workers, known).await;
    hub.offered(1).await;
}

#[tokio::test]
async fn what_is_no_handshake_is_told_why() {
    let hub = HubServer::start().await;
    for (request, why) in [
        ("POST /slot HTTP/1.1\r\nContent-Length: 0\r\n", "GET /slot"),
        ("GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: faucet-slot/1\r\nFaucet-Worker: x\r\n", "GET /slot"),
        ("GET /slot HTTP/1.1\r\nFaucet-Worker: x\r\n", "Upgrade"),
        ("GET /slot HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nFaucet-Worker: x\r\n", "Upgrade"),
        ("GET /slot HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: faucet-slot/1\r\n", "Faucet-Worker"),
        ("GET /slot HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: faucet-slot/1\r\nFaucet-Worker: a b\r\n", "Faucet-Worker"),
        ("GET /slot HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: faucet-slot/1\r\nFaucet-Worker: x\r\nFaucet-Route: a.example/\r\n", "Faucet-Route"),
        ("GET /slot HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: faucet-slot/1\r\nFaucet-Worker: x\r\nFaucet-Route: /../x\r\n", "Faucet-Route"),
        ("GET /slot HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: faucet-slot/1\r\nFaucet-Worker: x\r\nFaucet-Route: /__faucet__/x\r\n", "Faucet-Route"),
    ] {
        let mut client = Client::connect(hub.workers).await;
        client.send(format!("{request}Host: hub\r\n\r\n")).await;
        let response = client.response().await;
        assert_eq!(response.status, 400, "{request}");
        assert_eq!(response.header("faucet-error"), Some("malformed"));
        assert!(response.text().contains(why), "{}: {request}", response.text());
        assert!(within("the end", client.is_closed()).await);
    }
    // Garbage, and nothing at all, lead to nothing.
    let mut garbage = Client::connect(hub.workers).await;
    garbage.send(b"\x16\x03\x01garbage\r\n\r\n").await;
    within("the end", garbage.rest()).await;
    assert!(hub.slots().is_empty());
}

#[tokio::test]
async fn a_flood_of_handshakes_that_never_end_does_not_keep_workers_out() {
    let hub = HubServer::start().await;
    let mut flood = Vec::new();
    for _ in 0..700 {
        flood.push(TcpStream::connect(hub.workers).await.expect("a hub"));
    }
    let _worker = Upstream::dialling(hub.workers, 1, NAME, echo).await;
    hub.offered(1).await;
    assert_eq!(hub.client().await.get("/x").await.text(), "/x");
    let admin = hub.server.admin_url().expect("a port");
    let admin = admin.trim_start_matches("http://").parse().expect("one");
    let mut operator = Client::connect(admin).await;
    operator
        .send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await;
    let metrics = operator.response().await;
    let counted = "faucet_offers_total{outcome=\"pushed_out\"}";
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    // The oldest had to go.
    assert!(matches!(
        within("the end", flood[0].read(&mut [0; 1])).await,
        Ok(0) | Err(_)
    ));
}

#[tokio::test]
async fn workers_of_pothead_serve_one_request_with_each_connection() {
    let hub = HubServer::with(|hub| hub.pothead_port = Some(0)).await;
    let port = hub.server.pothead_address().expect("a port");
    for round in 0..3 {
        let mut raw = TcpStream::connect(&port).await.expect("a hub");
        hub.offered(1).await;
        let mut client = hub.client().await;
        client.start_post("/p", b"body").await;
        assert!(raw.read(&mut [0; 4096]).await.expect("a request") > 0);
        let answer = b"HTTP/1.1 418 Teapot\r\nX-Pot: head\r\nContent-Length: 2\r\n\r\nhi";
        raw.write_all(answer).await.expect("open");
        let response = client.response().await;
        assert_eq!((response.status, response.text()), (418, "hi"), "{round}");
        assert_eq!(response.header("x-pot"), Some("head"));
        assert_eq!(raw.read(&mut [0; 1]).await.unwrap_or(0), 0);
        hub.offered(0).await;
    }
}

#[tokio::test]
async fn a_hub_that_stops_finishes_what_is_in_flight_and_closes_its_slots() {
    let mut hub = HubServer::start().await;
    let (worker, gate) = gated(&hub, 2).await;
    hub.offered(2).await;
    let mut client = hub.client().await;
    client.start_get("/last").await;
    worker.arrived(1).await;
    let stop = Request::Stop(Some(PATIENCE));
    let id = hub.server.ask(stop);
    until("it drains", || hub.server.phase().name() == "draining").await;
    gate.open(1);
    assert_eq!(within("an answer", client.response()).await.text(), "/last");
    until("it has stopped", || hub.server.result(id).is_some()).await;
    until("its slots are closed", || worker.open() == 0).await;
}

#[tokio::test]
async fn an_upgrade_uses_a_slot_up() {
    let hub = HubServer::start().await;
    let mut slot = dial(hub.workers, NAME).await;
    hub.offered(1).await;
    let mut client = hub.client().await;
    client
        .send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        .await;
    assert!(slot.read(&mut [0; 1024]).await.expect("a request") > 0);
    let answer =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello";
    slot.write_all(answer).await.expect("open");
    let response = within("an answer", client.response()).await;
    assert_eq!(response.status, 101, "{}", response.text());
    while client.unread.len() < 5 {
        assert!(within("bytes", client.fill()).await);
    }
    assert_eq!(&client.unread[..], b"hello");
    client.send("back").await;
    let mut back = [0; 4];
    within("bytes", slot.read_exact(&mut back))
        .await
        .expect("open");
    assert_eq!(&back, b"back");
    // It is no slot any more, and its tunnel is counted until it ends.
    let tunnels = || hub.slots().iter().map(|slot| slot.tunnels).sum::<usize>();
    assert_eq!(tunnels(), 1);
    let _next = Upstream::dialling(hub.workers, 1, NAME, echo).await;
    assert_eq!(
        within("an answer", hub.client().await.get("/x"))
            .await
            .text(),
        "/x"
    );
    drop(slot);
    // Its close frame.
    within("the end", client.rest()).await;
    until("it is forgotten", || tunnels() == 0).await;
    hub.offered(1).await;
}
