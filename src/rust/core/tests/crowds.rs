//! Many connections, most of which want nothing.

mod common;

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use common::{house, until, Client, Upstream};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

#[tokio::test]
async fn half_heads_do_not_keep_others_out() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.max_connections = 500).await;
    let mut crowd = Vec::new();
    for number in 0..3000 {
        let mut client = house.client().await;
        client.try_send("GET / HTTP/1.1\r\nHost: te").await;
        crowd.push(client);
        if number % 500 == 499 {
            assert_eq!(house.client().await.get("/normal").await.text(), "/normal");
            assert!(house.front.connections.count() <= 501);
        }
    }
    assert_eq!(worker.count(), 6);
    drop(crowd);
    until("all are gone", || house.front.connections.count() == 0).await;
}

#[tokio::test]
async fn whoever_was_unused_longest_makes_room() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.limits.max_connections = 3).await;
    let mut busy = house.client().await;
    busy.start_get("/busy").await;
    worker.arrived(1).await;
    let mut older = house.client().await;
    assert_eq!(older.get("/__faucet__/livez").await.status, 200);
    // Times are known to the millisecond.
    let served = std::time::Instant::now();
    until("a moment has passed", || served.elapsed().as_millis() > 5).await;
    let mut newer = house.client().await;
    assert_eq!(newer.get("/__faucet__/livez").await.status, 200);

    let mut fourth = house.client().await;
    assert_eq!(fourth.get("/__faucet__/livez").await.status, 200);
    assert!(older.is_closed().await);
    assert_eq!(newer.get("/__faucet__/livez").await.status, 200);
    gate.open(1);
    assert_eq!(busy.response().await.text(), "/busy");
}

#[tokio::test]
async fn nobody_makes_room_while_being_served() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.limits.max_connections = 3).await;
    let mut busy: Vec<Client> = Vec::new();
    for number in 0..3 {
        let mut client = house.client().await;
        client.start_get("/busy").await;
        if number == 0 {
            worker.arrived(1).await;
        }
        house.queued(number).await;
        busy.push(client);
    }
    for _ in 0..3 {
        let mut late = house.client().await;
        // Said before anything is read.
        let response = late.response().await;
        assert_eq!(
            (response.status, response.cause()),
            (503, "too_many_connections")
        );
        assert!(response.header("retry-after").is_some());
        assert!(late.is_closed().await);
    }
    gate.open(3);
    for client in &mut busy {
        assert_eq!(client.response().await.text(), "/busy");
    }
    let mut late = house.client().await;
    assert_eq!(late.get("/__faucet__/livez").await.status, 200);
}

#[tokio::test]
async fn clients_that_reset_their_connections_harm_nobody() {
    let worker = Upstream::start(|_, wire: common::Wire| wire.ok(vec![b'x'; 200_000])).await;
    let house = house(&[&worker], |plan| plan.limits.body_memory = 10_000).await;
    for number in 0..200 {
        let mut client = house.client().await;
        client.start_get("/").await;
        if number % 2 == 0 {
            client.fill().await;
        }
        // A close with unread bytes, or lingering for no time, is a reset.
        client.stream.set_zero_linger().expect("a live socket");
    }
    house.idle().await;
    assert_eq!(house.client().await.get("/").await.body.len(), 200_000);
    until("all are gone", || house.front.connections.count() == 0).await;
    assert_eq!(worker.peak(), 1);
}

/// Nothing can come of a request that is not complete: whoever has shown least of one for longest goes first.
#[tokio::test]
async fn unfinished_bodies_do_not_keep_others_out() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.max_connections = 40).await;
    let mut crowd = Vec::new();
    for number in 0..200 {
        let mut client = house.client().await;
        client
            .try_send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
            .await;
        crowd.push(client);
        if number % 50 == 49 {
            assert_eq!(house.client().await.get("/normal").await.text(), "/normal");
            assert!(house.front.connections.count() <= 41);
        }
    }
    let first = crowd[0].response().await;
    assert_eq!((first.status, first.cause()), (503, "too_many_connections"));
    assert!(crowd[0].is_closed().await);
    drop(crowd);
    until("all are gone", || house.front.connections.count() == 0).await;
    assert!(house.counted(503, "too_many_connections") > 100.0);
}

/// A byte now and then is no progress; a body that really comes is.
#[tokio::test]
async fn an_upload_that_moves_outlives_those_that_trickle() {
    let worker = Upstream::start(|seen: common::Seen, wire: common::Wire| async move {
        wire.ok(seen.body.len().to_string()).await
    })
    .await;
    let house = house(&[&worker], |plan| plan.limits.max_connections = 3).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n";
    let mut moving = house.client().await;
    moving.send(post).await;
    let mut trickling = house.client().await;
    trickling.send(post).await;
    until("both are being served", || {
        house.front.connections.count() == 2
    })
    .await;
    let begun = std::time::Instant::now();
    until("a moment has passed", || begun.elapsed().as_millis() > 20).await;
    moving.send([b'x'; 8000]).await;
    trickling.send("x").await;
    let mut third = house.client().await;
    third.send(post).await;
    // One connection is answered while nothing of the others is read: what they sent has arrived.
    until("it is let in", || house.front.connections.count() == 3).await;
    let begun = std::time::Instant::now();
    until("a moment has passed", || begun.elapsed().as_millis() > 20).await;
    let mut fourth = house.client().await;
    assert_eq!(fourth.get("/__faucet__/livez").await.status, 200);
    assert_eq!(trickling.response().await.cause(), "too_many_connections");
    moving.send([b'x'; 1000]).await;
    assert_eq!(moving.response().await.text(), "9000");
}

/// A body that begins and never ends.
struct Half(bool);

impl hyper::body::Body for Half {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"half")))))
    }
}

#[tokio::test]
async fn http2_connections_with_nothing_but_unfinished_bodies_make_room() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.max_connections = 3).await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        let stream = TcpStream::connect(house.address)
            .await
            .expect("the front listens");
        let handshake =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = hyper::Request::post("http://a/").body(Half(false));
        answers.push(tokio::spawn(async move {
            let request = request.expect("valid");
            let answer = sender
                .send_request(request)
                .await
                .map(|answer| answer.status());
            (answer, sender)
        }));
    }
    until("all are there", || house.front.connections.count() == 3).await;
    until("all are being served", || {
        house.front.connections.any_busy()
    })
    .await;
    assert_eq!(house.client().await.get("/normal").await.text(), "/normal");
    let first = answers.remove(0);
    let (answer, _sender) = common::within("an answer", first).await.expect("no panic");
    assert_eq!(answer.expect("an answer"), 503);
}
