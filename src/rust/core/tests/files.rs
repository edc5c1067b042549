//! Files that a native worker answers with: the front reads them, and the worker is free meanwhile.

mod common;

use std::fs::File;
use std::path::PathBuf;

use common::native::{self, Asked, Control, NativeWorker, CANCEL};
use common::{pattern, until, House, Seen, Upstream, Wire};
use faucet_core::worker::Report;
use hyper::StatusCode;
use tempfile::TempDir;

const MEGABYTE: usize = 1024 * 1024;

/// Answers with the file that its target names, in the status that it begins with.
fn worker(folder: &TempDir) -> NativeWorker {
    let folder = folder.path().to_owned();
    NativeWorker::start(Control::Obey, move |asked: Asked| {
        let (status, name) = asked.target[1..].split_once('/').expect("two parts");
        let mut answer = native::file(&folder.join(name));
        *answer.status_mut() = StatusCode::from_bytes(status.as_bytes()).expect("valid");
        let kind = "text/x".parse().expect("valid");
        answer.headers_mut().insert("content-type", kind);
        async move { answer }
    })
}

fn folder_with(name: &str, content: &[u8]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(name), content).expect("written");
    folder
}

async fn house(worker: &NativeWorker) -> House {
    worker.house(CANCEL, |_| {}).await
}

#[tokio::test]
async fn a_file_arrives_whole() {
    let content = pattern(3 * MEGABYTE + 17);
    let folder = folder_with("räum lich", &content);
    std::fs::write(folder.path().join("empty"), "").expect("written");
    let path = folder.path().join("räum lich");
    let named = NativeWorker::start(Control::Obey, move |_: Asked| {
        let answer = native::file(&path);
        async move { answer }
    });
    let at = house(&named).await;
    for _ in 0..2 {
        let response = at.client().await.get("/").await;
        assert!(response.body == content, "differs");
    }

    let worker = worker(&folder);
    let house = house(&worker).await;
    let mut client = house.client().await;
    let response = client.get("/200/empty").await;
    assert_eq!((response.status, response.text()), (200, ""));
    assert_eq!(response.header("content-length"), Some("0"));
    assert_eq!(response.header("content-type"), Some("text/x"));
    assert_eq!(response.header("faucet-file"), None);
    house.idle().await;
    assert_eq!(worker.lines(), [""; 0]);
}

#[tokio::test]
async fn where_no_body_belongs_there_is_none() {
    let folder = folder_with("a", b"content");
    let worker = worker(&folder);
    let house = house(&worker).await;
    let mut client = house.client().await;
    client.send("HEAD /200/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let head = client.response_to_head().await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("7"))
    );
    for status in [204, 304] {
        let response = client.get(&format!("/{status}/a")).await;
        assert_eq!(response.status, status);
        assert_eq!(response.header("content-length"), None);
    }
    let response = client.get("/404/a").await;
    assert_eq!((response.status, response.text()), (404, "content"));
    assert_eq!((worker.peak(), worker.connections()), (1, 1));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_told() {
    let folder = folder_with("a", b"content");
    std::fs::create_dir(folder.path().join("folder")).expect("a folder");
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let worker = worker(&folder);
    let house = house(&worker).await;
    let mut client = house.client().await;
    for name in ["missing", "folder", "pipe"] {
        let response = client.get(&format!("/200/{name}")).await;
        assert_eq!(
            (response.status, response.cause()),
            (500, "file_unreadable")
        );
    }
    assert_eq!(client.get("/200/a").await.text(), "content");
    assert_eq!(worker.reports(), [Report::Served; 4]);
    assert_eq!(worker.connections(), 1);

    let relative = NativeWorker::start(Control::Obey, |_: Asked| async {
        native::file(&PathBuf::from("Cargo.toml"))
    });
    let house = relative.house(CANCEL, |_| {}).await;
    assert_eq!(
        house.client().await.get("/").await.cause(),
        "file_unreadable"
    );
}

#[tokio::test]
async fn a_slow_client_holds_no_worker_and_keeps_its_file() {
    let content = pattern(12 * MEGABYTE);
    let folder = folder_with("big", &content);
    std::fs::write(folder.path().join("small"), "small").expect("written");
    let worker = worker(&folder);
    let house = house(&worker).await;
    let mut slow = house.client().await;
    slow.start_get("/200/big").await;
    worker.arrived(1).await;
    house.idle().await;
    // Its name may go: the answer is open.
    std::fs::remove_file(folder.path().join("big")).expect("there");
    assert_eq!(house.client().await.get("/200/small").await.text(), "small");
    assert!(slow.response().await.body == content, "differs");
}

#[tokio::test]
async fn a_client_that_leaves_within_a_file_cancels_nothing() {
    let folder = folder_with("big", &pattern(12 * MEGABYTE));
    let worker = worker(&folder);
    let house = house(&worker).await;
    let mut client = house.client().await;
    client.start_get("/200/big").await;
    assert!(client.fill().await);
    drop(client);
    until("it is counted", || house.counted(200, "") == 1.0).await;
    assert_eq!((house.leases(), worker.lines().len()), (0, 0));
}

#[tokio::test]
async fn a_file_that_becomes_shorter_breaks_off() {
    let folder = folder_with("big", &[]);
    let file = File::options()
        .write(true)
        .open(folder.path().join("big"))
        .expect("there");
    file.set_len(64 * MEGABYTE as u64).expect("sparse");
    let worker = worker(&folder);
    let house = house(&worker).await;
    let mut client = house.client().await;
    client.start_get("/200/big").await;
    assert!(client.fill().await);
    file.set_len(10).expect("shorter");
    let broken = client.try_response(false).await.expect_err("incomplete");
    assert_eq!(broken.head, Some(200));
    assert!(broken.bytes < 64 * MEGABYTE);
    until("it is counted", || {
        house.counted(200, "file_unreadable") == 1.0
    })
    .await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_large_file_takes_no_memory() {
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.expect("kB").parse::<usize>().expect("a number") * 1024
    }
    let folder = folder_with("huge", &[]);
    let length = 600 * MEGABYTE;
    let file = File::options()
        .write(true)
        .open(folder.path().join("huge"))
        .expect("there");
    file.set_len(length as u64).expect("sparse");
    let worker = worker(&folder);
    let house = house(&worker).await;
    let mut client = house.client().await;
    let before = resident();
    client
        .send("GET /200/huge HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .await;
    client.unread.reserve(MEGABYTE);
    let (mut read, mut most, mut reads) = (0, 0, 0);
    while client.fill().await {
        read += client.unread.len();
        client.unread.clear();
        reads += 1;
        if reads % 64 == 0 {
            most = most.max(resident());
        }
    }
    assert!(read > length);
    // The other tests of this program run meanwhile.
    let grown = most.saturating_sub(before);
    assert!(grown < 200 * MEGABYTE, "{grown} more bytes");
}

#[tokio::test]
async fn a_worker_that_is_not_native_opens_no_files() {
    let worker = Upstream::start(|_: Seen, wire: Wire| async move {
        wire.answer(200, "faucet-file: /etc/passwd\r\n", "own")
            .await
    })
    .await;
    let house = common::house(&[&worker], |_| {}).await;
    let response = house.client().await.get("/").await;
    assert_eq!((response.status, response.text()), (200, "own"));
    assert_eq!(response.header("faucet-file"), None);
}
