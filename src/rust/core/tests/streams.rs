//! Streams: a native worker writes for a client that listens, and waits for one that is slow.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use bytes::Bytes;
use common::native::{stream, Asked, Control, NativeWorker, CANCEL, PATIENT, WORK_ON};
use common::{until, Client, Gate, SOON};
use faucet_core::worker::Report;

const CHUNK: usize = 64 * 1024;

/// Streams zeros until it is interrupted or its front is gone; counts what was taken from it.
fn endless() -> (NativeWorker, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let worker = NativeWorker::start(Control::Obey, move |mut asked: Asked| {
        let (answer, writer) = stream();
        let counted = counted.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = asked.interrupted() => return,
                    sent = writer.send(Bytes::from_static(&[0; CHUNK])) => match sent {
                        Ok(()) => counted.fetch_add(CHUNK, Ordering::SeqCst),
                        Err(_) => return,
                    },
                };
            }
        });
        async move { answer }
    });
    (worker, count)
}

/// Streams so many chunks, one for each opening of the gate, whatever is said; none when interrupted.
fn stepwise(chunks: usize) -> (NativeWorker, Gate) {
    let gate = Gate::default();
    let inner = gate.clone();
    let worker = NativeWorker::start(Control::Obey, move |mut asked: Asked| {
        let (answer, writer) = stream();
        let gate = inner.clone();
        tokio::spawn(async move {
            for number in 0..chunks {
                tokio::select! {
                    () = asked.interrupted() => return,
                    () = gate.pass() => {}
                }
                let _ = writer.send(format!("<{number}>").into()).await;
            }
        });
        async move { answer }
    });
    (worker, gate)
}

async fn read_until(client: &mut Client, text: &str) {
    while !client
        .unread
        .windows(text.len())
        .any(|seen| seen == text.as_bytes())
    {
        assert!(client.fill().await, "ended before {text}");
    }
}

#[tokio::test]
async fn each_chunk_arrives_before_the_next_is_made() {
    let (worker, gate) = stepwise(3);
    let house = worker.house(CANCEL, |_| {}).await;
    let mut client = house.client().await;
    client.start_get("/").await;
    read_until(&mut client, "\r\n\r\n").await;
    for number in 0..3 {
        assert_eq!(house.leases(), 1);
        gate.open(1);
        read_until(&mut client, &format!("<{number}>")).await;
    }
    let response = client.response().await;
    assert_eq!(response.text(), "<0><1><2>");
    assert_eq!(response.header("faucet-stream"), None);
    house.idle().await;
    assert_eq!((worker.lines().len(), worker.connections()), (0, 1));
    assert_eq!(worker.reports(), [Report::Served]);
}

#[tokio::test]
async fn a_slow_client_makes_the_worker_wait() {
    let (worker, taken) = endless();
    let house = worker
        .house(PATIENT, |plan| plan.limits.body_memory = 100_000)
        .await;
    let mut client = house.client().await;
    client.start_get("/").await;
    // Sockets hold a few megabytes, then it stands still.
    let mut seen = (0, 0);
    until("the worker waits", || {
        let now = taken.load(Ordering::SeqCst);
        seen = if now == seen.0 && now > 0 {
            (now, seen.1 + 1)
        } else {
            (now, 0)
        };
        seen.1 > 200
    })
    .await;
    let stood = taken.load(Ordering::SeqCst);
    // Reading makes it go on.
    let mut read = 0;
    while read < stood + 20 * CHUNK {
        assert!(client.fill().await);
        read += std::mem::take(&mut client.unread).len();
    }
    assert!(taken.load(Ordering::SeqCst) > stood);
    assert_eq!(house.leases(), 1);
    drop(client);
    house.idle().await;
    assert_eq!(worker.lines(), ["interrupt 1 left"]);
    assert_eq!(worker.reports(), [Report::Served]);
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_stream_whether_the_worker_waits_or_works() {
    for body_memory in [0, 1024 * 1024] {
        let (worker, gate) = stepwise(2);
        let house = worker
            .house(PATIENT, |plan| plan.limits.body_memory = body_memory)
            .await;
        let mut client = house.client().await;
        client.start_get("/").await;
        gate.open(1);
        read_until(&mut client, "<0>").await;
        drop(client);
        house.idle().await;
        assert_eq!(worker.lines(), ["interrupt 1 left"]);
    }
}

#[tokio::test]
async fn a_stream_that_is_not_to_be_cancelled_is_read_to_its_end() {
    let (worker, gate) = stepwise(500);
    let house = worker
        .house(WORK_ON, |plan| plan.limits.body_memory = 10)
        .await;
    let mut client = house.client().await;
    client.start_get("/").await;
    gate.open(1);
    read_until(&mut client, "<0>").await;
    drop(client);
    worker.heard("tell 1").await;
    assert_eq!(house.leases(), 1);
    gate.open(499);
    house.idle().await;
    assert_eq!(worker.reports(), [Report::Served]);
}

#[tokio::test]
async fn the_deadline_counts_from_the_last_chunk() {
    let (worker, gate) = stepwise(40);
    let house = worker
        .house(CANCEL, |plan| plan.pool.timeout = Some(SOON * 4))
        .await;
    let mut client = house.client().await;
    client.start_get("/").await;
    // All in all longer than the deadline, each step shorter.
    let start = std::time::Instant::now();
    let mut number = 0;
    while start.elapsed() < SOON * 6 && number < 39 {
        gate.open(1);
        read_until(&mut client, &format!("<{number}>")).await;
        tokio::time::sleep(SOON / 5).await;
        number += 1;
    }
    assert_eq!(worker.lines(), [""; 0]);
    // Then none comes any more.
    let broken = client.try_response(false).await.expect_err("incomplete");
    assert_eq!(broken.head, Some(200));
    house.idle().await;
    assert_eq!(worker.lines(), ["interrupt 1 deadline"]);
    assert_eq!(worker.reports(), [Report::Served]);
    until("it is counted", || house.counted(200, "timeout") == 1.0).await;
}

#[tokio::test]
async fn the_time_that_a_slow_client_takes_is_not_the_workers() {
    let (worker, taken) = endless();
    let house = worker
        .house(CANCEL, |plan| {
            plan.limits.body_memory = 1;
            plan.pool.timeout = Some(SOON);
        })
        .await;
    let mut slow = house.client().await;
    slow.start_get("/").await;
    until("something comes", || taken.load(Ordering::SeqCst) > 0).await;
    // Its deadline has passed several times when this one's has.
    let (other, _gate) = NativeWorker::deaf(Control::Obey);
    let others = other
        .house(CANCEL, |plan| plan.pool.timeout = Some(SOON * 5))
        .await;
    assert_eq!(others.client().await.get("/").await.status, 504);
    assert_eq!(worker.lines(), [""; 0]);
    let mut read = 0;
    while read < 100 * CHUNK {
        assert!(slow.fill().await);
        read += std::mem::take(&mut slow.unread).len();
    }
}

#[tokio::test]
async fn a_worker_that_dies_within_its_stream_breaks_it_off() {
    let (worker, gate) = stepwise(2);
    let house = worker.house(CANCEL, |_| {}).await;
    let mut client = house.client().await;
    client.start_get("/").await;
    gate.open(1);
    read_until(&mut client, "<0>").await;
    worker.kill();
    let broken = client.try_response(false).await.expect_err("incomplete");
    assert_eq!(broken.head, Some(200));
    house.idle().await;
    until("it is counted", || house.counted(200, "worker_died") == 1.0).await;
}

#[tokio::test]
async fn a_worker_that_breaks_its_stream_off_serves_on() {
    let worker = NativeWorker::start(Control::Obey, |asked: Asked| {
        let (mut answer, writer) = stream();
        if asked.target == "/broken" {
            // More than comes.
            answer.headers_mut().insert("content-length", 100.into());
        }
        tokio::spawn(async move {
            let _ = writer.send(asked.target.clone().into()).await;
        });
        async move { answer }
    });
    let house = worker.house(CANCEL, |_| {}).await;
    let mut client = house.client().await;
    client.start_get("/broken").await;
    let broken = client.try_response(false).await.expect_err("incomplete");
    assert_eq!(broken.head, Some(200));
    let mut client = house.client().await;
    assert_eq!(client.get("/next").await.text(), "/next");
    house.idle().await;
    assert_eq!(worker.reports(), [Report::Served, Report::Served]);
}
