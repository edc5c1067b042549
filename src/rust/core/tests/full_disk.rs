//! A body for which there is no space: an answer, not a signal and not a closed connection.
//!
//! A program of its own, as the limit of a file's size is the process's.

mod common;

use common::{house, Seen, Upstream, Wire};
use nix::sys::resource::{setrlimit, Resource};

#[tokio::test]
async fn a_body_that_a_file_cannot_take_is_refused_with_507() {
    // A write beyond it fails as one on a full disk does, and is a signal besides, which would end this program.
    setrlimit(Resource::RLIMIT_FSIZE, 100_000, 100_000).expect("lower is allowed");
    let worker = Upstream::start(|seen: Seen, wire: Wire| async move {
        if seen.target == "/large" {
            return wire.ok(vec![b'x'; 30_000_000]).await;
        }
        wire.ok(seen.body.len().to_string()).await
    })
    .await;
    let house = house(&[&worker], |plan| plan.limits.body_memory = 1000).await;
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
