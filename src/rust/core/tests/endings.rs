//! How connections end: whatever ends them, an answer that has begun comes to its end.

mod common;

use std::time::Duration;

use common::{house, until, Upstream, Wire};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn bytes_behind_the_last_request_cost_nobody_its_answer() {
    let gate = common::Gate::default();
    let opens = gate.clone();
    let worker = Upstream::start(move |_, wire: Wire| {
        let gate = gate.clone();
        async move {
            gate.pass().await;
            wire.ok(vec![b'x'; 1_000_000]).await
        }
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    for (number, behind) in ["\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
        .iter()
        .enumerate()
    {
        let mut client = house.client().await;
        // The system cannot have sent all of the answer before the connection is closed.
        let socket = socket2::SockRef::from(&client.stream);
        socket
            .set_recv_buffer_size(16 * 1024)
            .expect("a live socket");
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
            .await;
        worker.arrived(number + 1).await;
        client.send(behind).await;
        opens.open(1);
        house.idle().await;
        assert_eq!(client.response().await.body.len(), 1_000_000);
        assert!(client.is_closed().await);
    }
    until("all are gone", || house.front.connections.count() == 0).await;
}

/// `P` may be HTTP/2's beginning, but not if nothing follows.
#[tokio::test]
async fn an_end_within_what_may_be_a_preface_is_noticed() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| {
        plan.limits.header_timeout = Duration::from_secs(3600);
    })
    .await;
    for beginning in ["P", "PR"] {
        let mut client = house.client().await;
        client.send(beginning).await;
        client.stream.shutdown().await.expect("a live socket");
        assert!(client.is_closed().await);
        house.client().await.send(beginning).await;
    }
    until("all are gone", || house.front.connections.count() == 0).await;
}
