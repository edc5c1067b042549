//! What the system refuses: an answer, or a pause, not a signal, a panic or a closed connection.
//!
//! A program of its own, and one test at a time, as limits are the process's.

mod common;

use common::{house, until, Seen, Upstream, Wire};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use tokio::sync::{Mutex, MutexGuard};

/// A limit that is put back.
struct Lowered {
    resource: Resource,
    before: (u64, u64),
    _alone: MutexGuard<'static, ()>,
}

async fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    ONE.lock().await
}

fn lower(resource: Resource, to: u64, alone: MutexGuard<'static, ()>) -> Lowered {
    let (soft, hard) = getrlimit(resource).expect("known");
    setrlimit(resource, to.min(hard), hard).expect("lower is allowed");
    Lowered {
        resource,
        before: (soft, hard),
        _alone: alone,
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        let (soft, hard) = self.before;
        setrlimit(self.resource, soft, hard).expect("it was so before");
    }
}

async fn worker() -> Upstream {
    Upstream::start(|seen: Seen, wire: Wire| async move {
        if seen.target == "/large" {
            return wire.ok(vec![b'x'; 30_000_000]).await;
        }
        wire.ok(seen.body.len().to_string()).await
    })
    .await
}

#[tokio::test]
async fn a_body_that_a_file_cannot_take_is_refused_with_507() {
    // A write beyond it fails as one on a full disk does, and is a signal besides, which would end this program.
    let _lowered = lower(Resource::RLIMIT_FSIZE, 100_000, alone().await);
    let worker = worker().await;
    let house = house(&[&worker], |plan| plan.limits.body_memory = 1000).await;
    let _lines = tracing::subscriber::set_default(house.log.subscriber());
    let mut client = house.client().await;
    for head in ["Content-Length: 300000", "Transfer-Encoding: chunked"] {
        let body = if head.starts_with('C') {
            "x".repeat(300_000)
        } else {
            format!("493e0\r\n{}\r\n0\r\n\r\n", "x".repeat(300_000))
        };
        client
            .try_send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n{body}"
            ))
            .await;
        let response = client.response().await;
        assert_eq!((response.status, response.cause()), (507, "storage"));
        assert!(client.is_closed().await);
        client = house.client().await;
    }
    assert_eq!(client.post("/", &[b'x'; 90_000]).await.text(), "90000");
    // An answer breaks off, once: its head is out. The worker goes on.
    client.start_get("/large").await;
    worker.arrived(2).await;
    house.idle().await;
    let broken = client.try_response(false).await.expect_err("incomplete");
    assert_eq!(broken.head, Some(200));
    assert_eq!(house.client().await.post("/", b"yes").await.text(), "3");
    let lines = house.log.take().0;
    let said = lines
        .iter()
        .filter(|line| line.text.contains("cannot be kept"));
    assert!(said.count() <= 3);
}

/// Whoever starts one when it is needed has none when there can be no more.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_thread_is_started_for_a_file() {
    let threads = || std::fs::read_dir("/proc/self/task").expect("Linux").count();
    let alone = alone().await;
    let worker = worker().await;
    let house = house(&[&worker], |plan| plan.limits.body_memory = 1000).await;
    let before = threads();
    // Of no effect for root.
    let _lowered = lower(Resource::RLIMIT_NPROC, 0, alone);
    let mut client = house.client().await;
    for _ in 0..3 {
        assert_eq!(client.post("/", &[b'x'; 90_000]).await.text(), "90000");
        client.start_get("/large").await;
        assert_eq!(client.response().await.body.len(), 30_000_000);
    }
    assert!(threads() <= before);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn nobody_can_be_accepted_without_descriptors_and_that_passes() {
    let alone = alone().await;
    let worker = worker().await;
    let house = house(&[&worker], |_| {}).await;
    let _lines = tracing::subscriber::set_default(house.log.subscriber());
    let mut before = house.client().await;
    assert_eq!(before.get("/").await.status, 200);
    let client = tokio::net::TcpSocket::new_v4().expect("a socket");
    let lowered = lower(Resource::RLIMIT_NOFILE, 0, alone);
    let mut client = common::Client {
        stream: client
            .connect(house.address)
            .await
            .expect("the system accepts"),
        unread: Vec::new(),
    };
    client.start_get("/").await;
    until("it is said", || {
        let lines = house.log.take().0;
        let said = |line: &faucet_core::ops::log::Line| line.text.contains("cannot accept");
        lines.iter().any(said)
    })
    .await;
    // Whoever was idle makes room, if that helps.
    assert!(before.is_closed().await);
    let lines = house.log.take().0;
    assert!(!lines.iter().any(|line| line.text.contains("cannot accept")));
    drop(lowered);
    assert_eq!(client.response().await.status, 200);
}
