//! Upgraded connections: bytes both ways, no lease, and a proper end.

mod common;

use std::sync::{Arc, Mutex};

use common::{house, pattern, until, within, Client, Seen, Upstream, Wire};

const HANDSHAKE: &str = concat!(
    "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
);

const SWITCH: &str = concat!(
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
);

/// What a worker got through its tunnels.
type Heard = Arc<Mutex<Vec<u8>>>;

/// Greets, then sends everything back; answers other requests as usual.
async fn worker() -> (Upstream, Heard) {
    let heard = Heard::default();
    let ears = heard.clone();
    let upstream = Upstream::start(move |seen: Seen, mut wire: Wire| {
        let ears = ears.clone();
        async move {
            if seen.header("upgrade") != Some("websocket") {
                return wire.ok(seen.target).await;
            }
            // Its first words come together with the head.
            let greeting = if seen.target == "/socket" { "hi" } else { "" };
            wire.raw(format!("{SWITCH}{greeting}")).await;
            wire.answered();
            loop {
                let bytes = wire.read_some().await;
                if bytes.is_empty() {
                    return None;
                }
                ears.lock().expect("no panic").extend_from_slice(&bytes);
                if bytes == b"end" {
                    return None;
                }
                wire.raw(bytes).await;
            }
        }
    })
    .await;
    (upstream, heard)
}

async fn open(client: &mut Client) {
    client.send(HANDSHAKE).await;
    let response = client.response().await;
    assert_eq!(response.status, 101);
    assert_eq!(response.header("upgrade"), Some("websocket"));
    let connection = response.header("connection").expect("said");
    assert!(connection.eq_ignore_ascii_case("upgrade"));
    assert_eq!(
        response.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    expect(client, b"hi").await;
}

async fn expect(client: &mut Client, bytes: &[u8]) {
    while client.unread.len() < bytes.len() {
        assert!(client.fill().await, "the tunnel ended");
    }
    let got: Vec<u8> = client.unread.drain(..bytes.len()).collect();
    assert!(got == bytes, "differs");
}

#[tokio::test]
async fn bytes_flow_both_ways() {
    let (worker, heard) = worker().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    open(&mut client).await;
    let seen = worker.last();
    assert_eq!(seen.header("connection"), Some("upgrade"));
    assert_eq!(
        seen.header("sec-websocket-key"),
        Some("dGhlIHNhbXBsZSBub25jZQ==")
    );
    assert!(seen.header("x-forwarded-for").is_some());
    client.send("ping").await;
    expect(&mut client, b"ping").await;
    let large = pattern(300_000);
    let (mut reading, mut writing) = client.stream.split();
    let mut echoed = vec![0; large.len()];
    within("an echo", async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (sent, got) = tokio::join!(writing.write_all(&large), reading.read_exact(&mut echoed));
        sent.expect("sent");
        got.expect("echoed");
    })
    .await;
    assert!(echoed == large, "differs");
    assert_eq!(heard.lock().expect("no panic").len(), 300_004);
}

#[tokio::test]
async fn a_tunnel_holds_no_lease() {
    let (worker, _) = worker().await;
    let house = house(&[&worker], |_| {}).await;
    let mut tunnels = Vec::new();
    for number in 1..=3 {
        let mut client = house.client().await;
        open(&mut client).await;
        tunnels.push(client);
        house.idle().await;
        assert_eq!(house.worker(0).tunnels.count(), number);
        assert_eq!(house.client().await.get("/other").await.text(), "/other");
    }
    assert_eq!(worker.peak(), 1);
    for client in &mut tunnels {
        client.send("still").await;
        expect(client, b"still").await;
    }
    assert_eq!(house.pool.status().workers[0].tunnels, 3);
    drop(tunnels);
    until("all tunnels have ended", || {
        house.worker(0).tunnels.count() == 0
    })
    .await;
}

#[tokio::test]
async fn either_sides_end_is_the_tunnels_end() {
    let (worker, _) = worker().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    open(&mut client).await;
    drop(client);
    until("the worker's side is closed", || worker.open() == 0).await;

    let mut client = house.client().await;
    open(&mut client).await;
    client.send("end").await;
    assert!(client.is_closed().await);
    until("it is no longer counted", || {
        house.worker(0).tunnels.count() == 0
    })
    .await;
}

#[tokio::test]
async fn a_drain_says_goodbye_at_the_end_of_a_frame_on_both_sides() {
    let (worker, heard) = worker().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client.send(HANDSHAKE.replace("/socket", "/quiet")).await;
    assert_eq!(client.response().await.status, 101);
    // A masked text frame of five bytes, whose end is still to come. Sent back as it is, it is on
    // its way in both directions.
    let frame = [0x81, 0x85, 0, 0, 0, 0, b'h', b'e', b'l', b'l', b'o'];
    client.send(&frame[..8]).await;
    expect(&mut client, &frame[..8]).await;
    let drained = house.worker(0);
    drained.tunnels.drain();
    client.send(&frame[8..]).await;
    assert_eq!(client.rest().await, b"llo\x88\x02\x03\xe9");
    within("the last tunnel closes", drained.tunnels.closed()).await;
    until("the worker has heard goodbye", || {
        let heard = heard.lock().expect("no panic");
        *heard == [&frame[..], &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]].concat()
    })
    .await;
}

#[tokio::test]
async fn an_idle_tunnel_ends_at_once_when_its_worker_drains() {
    let (worker, heard) = worker().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client.send(HANDSHAKE.replace("/socket", "/quiet")).await;
    assert_eq!(client.response().await.status, 101);
    let drained = house.worker(0);
    drained.tunnels.drain();
    assert_eq!(client.rest().await, [0x88, 0x02, 0x03, 0xe9]);
    within("the last tunnel closes", drained.tunnels.closed()).await;
    until("the worker has heard goodbye", || {
        *heard.lock().expect("no panic") == [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9]
    })
    .await;
}

#[tokio::test]
async fn a_worker_that_declines_answers_as_usual() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for _ in 0..3 {
        client.send(HANDSHAKE).await;
        assert_eq!(client.response().await.text(), "/socket");
        assert_eq!(client.get("/after").await.text(), "/after");
    }
    assert_eq!(house.worker(0).tunnels.count(), 0);
    assert_eq!(worker.connections(), 1);
}

#[tokio::test]
async fn an_offer_of_h2c_is_not_passed_on() {
    let (worker, _) = worker().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for head in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        // Not a wish: Connection does not say so.
        "Upgrade: websocket\r\n",
    ] {
        client
            .send(format!("GET /plain HTTP/1.1\r\nHost: a\r\n{head}\r\n"))
            .await;
        assert_eq!(client.response().await.text(), "/plain");
        assert_eq!(worker.last().header("upgrade"), None);
        assert_eq!(worker.last().header("connection"), None);
    }
}

#[tokio::test]
async fn a_switch_nobody_asked_for_is_a_bad_response() {
    let worker = Upstream::start(|seen: Seen, mut wire: Wire| async move {
        if seen.target == "/after" {
            return wire.ok("right").await;
        }
        wire.raw(SWITCH).await;
        wire.answered();
        while !wire.read_some().await.is_empty() {}
        None
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    let response = client.get("/").await;
    assert_eq!((response.status, response.cause()), (502, "bad_response"));
    assert_eq!(house.client().await.get("/after").await.text(), "right");
    until("it is no tunnel", || house.worker(0).tunnels.count() == 0).await;
}

/// What a tunnel carries is nobody's answer.
#[tokio::test]
async fn bytes_that_look_like_http_pass_through_untouched() {
    let (worker, heard) = worker().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client.send(HANDSHAKE).await;
    assert_eq!(client.response().await.status, 101);
    expect(&mut client, b"hi").await;
    let mut said = 0;
    for words in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nHTTP/1.1 431 x",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz",
    ] {
        client.send(words).await;
        expect(&mut client, words.as_bytes()).await;
        said += words.len();
    }
    assert_eq!(heard.lock().expect("no panic").len(), said);
}

/// httpuv hangs up on what it cannot switch to.
#[tokio::test]
async fn what_is_no_handshake_is_served_as_usual() {
    let (worker, _) = worker().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (method, headers) in [
        ("GET", "Connection: upgrade\r\nUpgrade: foo\r\n".to_owned()),
        (
            "GET",
            format!("Connection: upgrade\r\nUpgrade: foo, websocket\r\n{KEY}"),
        ),
        (
            "GET",
            "Connection: upgrade\r\nUpgrade: websocket\r\n".to_owned(),
        ),
        ("GET", format!("Upgrade: websocket\r\n{KEY}")),
        (
            "POST",
            format!("Connection: upgrade\r\nUpgrade: websocket\r\n{KEY}"),
        ),
    ] {
        client
            .send(format!(
                "{method} /plain HTTP/1.1\r\nHost: a\r\n{headers}\r\n"
            ))
            .await;
        assert_eq!(client.response().await.text(), "/plain", "{headers}");
        assert_eq!(worker.last().header("upgrade"), None, "{headers}");
    }
}
