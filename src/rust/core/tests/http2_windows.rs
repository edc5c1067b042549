//! HTTP/2 clients say of each stream how much they take. What nobody takes is not kept for ever.

mod common;

use std::time::{Duration, Instant};

use common::wire2::{self, Frame, Wire2, DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM};
use common::{far, house, pattern, until, Gate, House, Plan, Seen, Upstream, Wire, SOON};

const FOR_EVER: &str = "Faucet-Workers: 8\r\nFaucet-Stream: 1\r\n";

/// A worker that is asked for an answer of some kind, and for one that takes its time.
async fn worker(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::start(move |seen: Seen, mut wire: Wire| {
        let gate = gate.clone();
        async move {
            match seen.target.as_str() {
                "/held" => {
                    gate.pass().await;
                    wire.ok(seen.target).await
                }
                "/stream" => {
                    wire.raw(format!(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FOR_EVER}\r\n"
                    ))
                    .await;
                    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
                    // Until the front breaks it off.
                    loop {
                        let sent = tokio::io::AsyncWriteExt::write_all(
                            &mut wire.stream,
                            chunk.as_bytes(),
                        );
                        if sent.await.is_err() {
                            return None;
                        }
                    }
                }
                "/quiet" => {
                    wire.raw(format!(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{FOR_EVER}\r\n3\r\none\r\n"
                    ))
                    .await;
                    gate.pass().await;
                    wire.raw("3\r\ntwo\r\n0\r\n\r\n").await;
                    wire.end()
                }
                size => {
                    let size = size.trim_start_matches('/').parse().unwrap_or(0);
                    wire.ok(pattern(size)).await
                }
            }
        }
    })
    .await
}

fn impatient(plan: &mut Plan) {
    plan.limits.idle_timeout = Some(SOON);
    plan.limits.body_memory = 100_000;
    plan.slots = 8;
}

/// A client whose first stream is at the worker until the gate opens.
async fn busy(house: &House, worker: &Upstream, window: u32) -> Wire2 {
    let mut client = Wire2::connect(house.address, window).await;
    client.get(1, "/held").await;
    worker.arrived(1).await;
    client
}

#[tokio::test]
async fn a_stream_whose_client_takes_nothing_is_reset_and_its_worker_is_free() {
    let gate = Gate::default();
    let worker = worker(&gate).await;
    let house = far(&[&worker], impatient).await;
    let mut client = busy(&house, &worker, 0).await;
    // In one piece, in several, in a file, and without an end.
    let paths = ["/5", "/60000", "/5000000", "/stream"];
    for (number, path) in paths.iter().enumerate() {
        let stream = 3 + 2 * number as u32;
        client.get(stream, path).await;
        assert_eq!(client.expect(HEADERS, stream).await.status(), Some(200));
        let reset = client.expect(RST_STREAM, stream).await;
        assert_eq!(reset.word(0), wire2::CANCEL, "{path}");
        until("its worker is free", || house.leases() == 1).await;
        until("it is over", || {
            house.counted(200, "") == (number + 1) as f64
        })
        .await;
    }
    // Nobody has waited for the first one's client: it is served.
    gate.open(1);
    assert_eq!(client.expect(HEADERS, 1).await.status(), Some(200));
    client.send(Frame::window_update(1, 100)).await;
    let body = client.expect(DATA, 1).await;
    assert_eq!(body.payload, b"/held");
}

#[tokio::test]
async fn a_connections_window_counts_as_well() {
    let gate = Gate::default();
    let worker = worker(&gate).await;
    let house = far(&[&worker], impatient).await;
    let mut client = busy(&house, &worker, 1_000_000).await;
    client.get(3, "/stream").await;
    client.expect(HEADERS, 3).await;
    let mut taken = 0;
    let reset = loop {
        let frame = client.next().await.expect("a frame");
        match frame.kind {
            DATA => taken += frame.payload.len(),
            _ => break frame,
        }
    };
    // RFC 9113, 6.9.2.
    assert_eq!(taken, 65_535);
    assert_eq!((reset.kind, reset.stream), (RST_STREAM, 3));
    until("its worker is free", || house.leases() == 1).await;
    gate.open(1);
}

#[tokio::test]
async fn a_file_that_nobody_takes_is_closed() {
    use common::native::{self, Asked, Control, NativeWorker, CANCEL};
    let path = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(path.path(), pattern(300_000)).expect("written");
    let open = || {
        std::fs::read_dir("/proc/self/fd")
            .expect("descriptors")
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target == path.path())
            .count()
    };
    let before = open();

    let name = path.path().to_owned();
    let worker = NativeWorker::start(Control::Obey, move |_asked: Asked| {
        let answer = native::file(&name);
        async move { answer }
    });
    let house = worker.house(CANCEL, impatient).await;
    let mut client = Wire2::connect(house.address, 0).await;
    client.get(1, "/").await;
    client.expect(HEADERS, 1).await;
    assert_eq!(open(), before + 1);
    let frame = client.next().await.expect("a frame");
    assert_eq!(frame.kind, RST_STREAM);
    until("the file is closed", || open() == before).await;
}

#[tokio::test]
async fn a_stream_that_is_merely_quiet_is_not_reset() {
    let gate = Gate::default();
    let worker = worker(&gate).await;
    let house = far(&[&worker], impatient).await;
    let mut client = Wire2::connect(house.address, 10).await;
    client.get(1, "/quiet").await;
    client.expect(HEADERS, 1).await;
    assert_eq!(client.expect(DATA, 1).await.payload, b"one");
    // Two others have their time, one after the other, while it says nothing.
    for stream in [3, 5] {
        client.get(stream, "/50000").await;
        client.expect(HEADERS, stream).await;
        assert_eq!(client.expect(DATA, stream).await.payload.len(), 10);
        client.expect(RST_STREAM, stream).await;
    }
    gate.open(1);
    assert_eq!(client.expect(DATA, 1).await.payload, b"two");
    let end = client.expect(DATA, 1).await;
    assert_eq!(end.flags & END_STREAM, END_STREAM);
}

#[tokio::test]
async fn a_client_that_takes_its_time_gets_all() {
    const PATIENCE: Duration = Duration::from_secs(2);
    let gate = Gate::default();
    let worker = worker(&gate).await;
    let house = far(&[&worker], |plan| {
        impatient(plan);
        plan.limits.idle_timeout = Some(PATIENCE);
    })
    .await;
    let mut client = Wire2::connect(house.address, 0).await;
    client.get(1, "/3000000").await;
    client.expect(HEADERS, 1).await;
    client.send(Frame::window_update(0, 10_000_000)).await;
    let start = Instant::now();
    let mut body: Vec<u8> = Vec::new();
    let mut ended = false;
    while !ended {
        let slow = start.elapsed() < PATIENCE.mul_f64(1.2);
        let window = if slow { 20_000 } else { 3_000_000 };
        client.send(Frame::window_update(1, window)).await;
        let enough = (body.len() + window as usize).min(3_000_000);
        while body.len() < enough {
            let frame = client.expect(DATA, 1).await;
            body.extend(&frame.payload);
            ended = frame.flags & END_STREAM != 0;
        }
        if slow {
            tokio::time::sleep(PATIENCE / 20).await;
        } else if !ended {
            ended = client.expect(DATA, 1).await.flags & END_STREAM != 0;
        }
    }
    assert!(body == pattern(3_000_000), "differs");
}

#[tokio::test]
async fn what_lies_in_buffers_for_a_client_ends_its_connection() {
    let gate = Gate::default();
    let worker = worker(&gate).await;
    let house = house(&[&worker], impatient).await;
    // One byte: the rest of an answer is h2's to keep, and nobody else knows of it.
    let mut client = busy(&house, &worker, 1).await;
    client.get(3, "/5").await;
    client.expect(HEADERS, 3).await;
    client.expect(DATA, 3).await;
    until("it is over", || house.counted(200, "") == 1.0).await;
    // What is being served is finished first.
    client.expect(GOAWAY, 0).await;
    assert_eq!(house.front.connections.count(), 1);
    client.send(Frame::window_update(1, 100)).await;
    gate.open(1);
    while client.next().await.is_some() {}
    assert_eq!(house.counted(200, ""), 2.0);
    until("it is closed", || house.front.connections.count() == 0).await;
}
