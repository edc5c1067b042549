//! Slow clients hold no worker.

mod common;

use common::{house, pattern, until, Gate, Seen, Upstream, Wire};

const MEGABYTE: usize = 1024 * 1024;

/// `/big` gets a large answer, everything else its own body back.
async fn worker(chunked: bool) -> Upstream {
    Upstream::start(move |seen: Seen, mut wire: Wire| async move {
        if seen.target != "/big" {
            return wire.ok(seen.body).await;
        }
        let body = pattern(12 * MEGABYTE);
        if !chunked {
            return wire.ok(body).await;
        }
        wire.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        for chunk in body.chunks(100_001) {
            wire.raw(format!("{:x}\r\n", chunk.len())).await;
            wire.raw(chunk).await;
            wire.raw("\r\n").await;
        }
        wire.raw("0\r\n\r\n").await;
        wire.end()
    })
    .await
}

#[tokio::test]
async fn a_slow_upload_holds_no_worker() {
    let worker = worker(false).await;
    let house = house(&[&worker], |_| {}).await;
    let mut slow = house.client().await;
    slow.send("POST /slow HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhello")
        .await;
    until("its request is being served", || {
        house.front.connections.any_busy()
    })
    .await;
    let mut other = house.client().await;
    for _ in 0..5 {
        assert_eq!(other.post("/other", b"quick").await.text(), "quick");
    }
    assert_eq!(worker.targets(), vec!["/other"; 5]);
    slow.send("world").await;
    assert_eq!(slow.response().await.text(), "helloworld");
}

#[tokio::test]
async fn an_upload_larger_than_memory_arrives_intact() {
    let worker = worker(false).await;
    let house = house(&[&worker], |plan| plan.limits.body_memory = 10_000).await;
    let body = pattern(3 * MEGABYTE);
    let mut client = house.client().await;
    // The answer is larger than memory as well.
    let response = client.post("/echo", &body).await;
    assert!(response.body == body, "differs");

    let mut chunked =
        b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(70_001) {
        chunked.extend_from_slice(format!("{:x};extension=1\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    client.send(chunked).await;
    assert!(client.response().await.body == body, "differs");
    assert_eq!(worker.last().header("content-length"), Some("3145728"));
}

async fn a_slow_download(chunked: bool, body_memory: u64) {
    let worker = worker(chunked).await;
    let house = house(&[&worker], |plan| plan.limits.body_memory = body_memory).await;
    let mut slow = house.client().await;
    slow.start_get("/big").await;
    worker.arrived(1).await;
    // The slow client has read nothing when this one is served.
    let mut other = house.client().await;
    assert_eq!(other.post("/other", b"quick").await.text(), "quick");
    house.idle().await;
    let response = slow.response().await;
    assert!(response.body == pattern(12 * MEGABYTE), "differs");
    assert_eq!((worker.peak(), worker.connections()), (1, 1));
}

#[tokio::test]
async fn a_slow_download_from_memory_holds_no_worker() {
    a_slow_download(false, 64 * MEGABYTE as u64).await;
}

#[tokio::test]
async fn a_slow_download_from_a_file_holds_no_worker() {
    a_slow_download(false, 10_000).await;
}

#[tokio::test]
async fn a_slow_chunked_download_from_memory_holds_no_worker() {
    a_slow_download(true, 64 * MEGABYTE as u64).await;
}

#[tokio::test]
async fn a_slow_chunked_download_from_a_file_holds_no_worker() {
    a_slow_download(true, 10_000).await;
}

#[tokio::test]
async fn a_pipelining_client_that_reads_nothing_holds_no_worker() {
    let worker = worker(false).await;
    let house = house(&[&worker], |_| {}).await;
    let mut slow = house.client().await;
    for _ in 0..3 {
        slow.start_get("/big").await;
    }
    worker.arrived(1).await;
    let mut other = house.client().await;
    assert_eq!(other.post("/other", b"quick").await.text(), "quick");
    house.idle().await;
    for _ in 0..3 {
        assert!(
            slow.response().await.body == pattern(12 * MEGABYTE),
            "differs"
        );
    }
}

/// Long enough for a connection to be taken for an idle one, though its response is not out.
#[tokio::test]
async fn a_client_that_pauses_within_its_response_gets_the_rest() {
    for body_memory in [10_000, 64 * MEGABYTE as u64] {
        let worker = worker(false).await;
        let house = house(&[&worker], |plan| {
            plan.limits.body_memory = body_memory;
            plan.limits.header_timeout = common::SOON;
        })
        .await;
        let mut slow = house.client().await;
        slow.start_get("/big").await;
        worker.arrived(1).await;
        for _ in 0..3 {
            let mut silent = house.client().await;
            assert!(silent.is_closed().await);
        }
        assert!(
            slow.response().await.body == pattern(12 * MEGABYTE),
            "differs"
        );
        assert_eq!(slow.post("/after", b"body").await.text(), "body");
    }
}

#[tokio::test]
async fn a_response_streams_while_it_is_made() {
    let gate = Gate::default();
    let inner = gate.clone();
    let worker = Upstream::start(move |_, mut wire: Wire| {
        let gate = inner.clone();
        async move {
            wire.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                .await;
            gate.pass().await;
            wire.raw("6\r\nsecond\r\n0\r\n\r\n").await;
            wire.end()
        }
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    client.start_get("/").await;
    while !client.unread.windows(5).any(|five| five == b"first") {
        assert!(client.fill().await);
    }
    gate.open(1);
    assert_eq!(client.response().await.text(), "firstsecond");
}

#[tokio::test]
async fn what_a_client_sends_after_its_last_request_takes_nothing_of_the_answer_back() {
    let worker = worker(false).await;
    let house = house(&[&worker], |_| {}).await;
    for (extra, count) in [
        ("\r\n", 1),
        ("GET /never HTTP/1.1\r\nHost: test\r\n\r\n", 2),
    ] {
        let mut slow = house.client().await;
        slow.send("POST /echo HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 1048576\r\n\r\n")
            .await;
        slow.send(pattern(MEGABYTE)).await;
        // It is no part of what was read with the request.
        worker.arrived(count).await;
        slow.send(extra).await;
        // The system has the rest of the answer, and the front's side is closed.
        until("all was written", || house.front.connections.count() == 0).await;
        let response = slow.response().await;
        assert!(response.body == pattern(MEGABYTE), "differs");
        assert!(slow.is_closed().await);
    }
    assert_eq!(worker.targets(), ["/echo"; 2]);
}
