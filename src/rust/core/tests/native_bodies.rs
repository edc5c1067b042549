//! Large bodies of requests to a native worker: it reads the front's file instead of a socket.
#![cfg(target_os = "linux")]

mod common;

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::native::{stream, text, Asked, Control, NativeWorker, CANCEL, PATIENT};
use common::{pattern, until, Gate, Upstream};
use faucet_core::worker::{Address, Report, Worker};

const MEGABYTE: usize = 1024 * 1024;

/// The length that is said, and the path.
fn rest(asked: &Asked) -> Option<(usize, PathBuf)> {
    let (length, path) = asked.header("faucet-body-file")?.split_once(' ')?;
    Some((length.parse().expect("a number"), path.into()))
}

fn whole(asked: &Asked) -> Vec<u8> {
    let mut body = asked.body.to_vec();
    if let Some((length, path)) = rest(asked) {
        let before = body.len();
        let mut file = std::fs::File::open(path).expect("open in the front");
        file.read_to_end(&mut body).expect("readable");
        assert_eq!(body.len() - before, length);
    }
    body
}

/// Whether any open file of this process is a deleted one as long as this.
fn keeps_a_file(length: u64) -> bool {
    std::fs::read_dir("/proc/self/fd")
        .expect("Linux")
        .filter_map(Result::ok)
        .filter_map(|entry| std::fs::metadata(entry.path()).ok())
        .any(|file| file.is_file() && file.len() == length)
}

#[tokio::test]
async fn a_body_arrives_whole_whatever_of_it_is_in_a_file() {
    let worker = NativeWorker::start(Control::Obey, |asked: Asked| async move {
        let mut answer = text(200, whole(&asked));
        if let Some((length, _)) = rest(&asked) {
            answer.headers_mut().insert("x-file", length.into());
        }
        answer
    });
    for (body_memory, least, most) in [
        (10_000_000, 0, 0),
        (1_000_000, 1, 3 * MEGABYTE - 1),
        (0, 3 * MEGABYTE, 3 * MEGABYTE),
    ] {
        let house = worker
            .house(CANCEL, |plan| plan.limits.body_memory = body_memory)
            .await;
        let body = pattern(3 * MEGABYTE);
        let mut client = house.client().await;
        for _ in 0..2 {
            let response = client.post("/", &body).await;
            assert!(response.body == body, "differs");
            let in_file = response.header("x-file").unwrap_or("0");
            let in_file: usize = in_file.parse().expect("a number");
            assert!((least..=most).contains(&in_file), "{in_file}");
        }
        let response = client.post("/", b"").await;
        assert_eq!((response.text(), response.header("x-file")), ("", None));
    }
}

#[tokio::test]
async fn the_file_is_there_until_the_exchange_is_over() {
    // A length of its own, as other tests of this program have files open.
    const LENGTH: usize = MEGABYTE + 12_345;
    let gate = Gate::default();
    let read = Arc::new(Mutex::new(Vec::new()));
    let (inner, sink) = (gate.clone(), read.clone());
    let worker = NativeWorker::start(Control::Obey, move |asked: Asked| {
        let (answer, writer) = stream();
        let (gate, sink) = (inner.clone(), sink.clone());
        tokio::spawn(async move {
            let _ = writer.send(Bytes::from_static(b"head")).await;
            gate.pass().await;
            sink.lock().expect("no panic").extend(whole(&asked));
        });
        async move { answer }
    });
    let house = worker
        .house(PATIENT, |plan| plan.limits.body_memory = 0)
        .await;
    let body = pattern(LENGTH);
    let mut client = house.client().await;
    client.start_post("/", &body).await;
    while !client.unread.ends_with(b"head\r\n") {
        assert!(client.fill().await);
    }
    drop(client);
    worker.heard("interrupt 1 left").await;
    assert!(keeps_a_file(LENGTH as u64));
    gate.open(1);
    house.idle().await;
    assert!(*read.lock().expect("no panic") == body, "differs");
    until("the file is closed", || !keeps_a_file(LENGTH as u64)).await;
}

#[tokio::test]
async fn a_body_that_moves_on_to_another_worker_goes_whole() {
    let (gone, _gate) = NativeWorker::gated(Control::Obey);
    std::fs::remove_file(&gone.socket).expect("there");
    let house = gone
        .house(CANCEL, |plan| plan.limits.body_memory = 1000)
        .await;
    let http = Upstream::echo().await;
    let mut client = house.client().await;
    let body = pattern(MEGABYTE);
    client.start_post("/on", &body).await;
    until("it has been tried", || {
        gone.reports() == [Report::Unreachable]
    })
    .await;
    let address = Address::Tcp(http.address);
    let worker = Worker::new(2, 2, address, Box::new(|_, _| {}));
    house.pool.table.add(Arc::new(worker), 1);
    assert_eq!(client.response().await.text(), "/on");
    assert!(http.last().body == body, "differs");
    assert_eq!(http.last().header("faucet-body-file"), None);
}
