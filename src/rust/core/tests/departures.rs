//! A client's departure is noticed whatever it left unread, and one that only says that it sends no more is answered.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::native::{stream, Asked, Control, NativeWorker, PATIENT};
use common::{house, pattern, until, within, Client, House, Upstream, Wire};
use tokio::io::AsyncWriteExt;

/// What a client may have sent behind its request.
fn extras() -> Vec<Vec<u8>> {
    let request = b"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    vec![
        b"\r\n".to_vec(),
        b"x".to_vec(),
        request.repeat(3),
        // More than anybody reads ahead, and less than a socket holds: what is not here yet, its end behind it, is nobody's
        // to see.
        request.repeat(900),
    ]
}

fn leave(client: Client, reset: bool) {
    if reset {
        let socket = socket2::SockRef::from(&client.stream);
        socket
            .set_linger(Some(Duration::ZERO))
            .expect("a live socket");
    }
}

const POST: &str = "POST /left HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

#[tokio::test]
async fn who_leaves_the_queue_never_reaches_a_worker() {
    for reset in [false, true] {
        for extra in extras() {
            let (worker, gate) = Upstream::gated().await;
            let house = house(&[&worker], |_| {}).await;
            let mut first = house.client().await;
            first.start_get("/first").await;
            worker.arrived(1).await;
            let mut client = house.client().await;
            client.send(POST).await;
            house.queued(1).await;
            client.send(&extra).await;
            leave(client, reset);
            house.queued(0).await;
            gate.open(2);
            assert_eq!(first.response().await.text(), "/first");
            house.idle().await;
            assert_eq!(worker.targets(), ["/first"]);
            until("it is counted", || house.counted(499, "") == 1.0).await;
        }
    }
}

#[tokio::test]
async fn who_leaves_while_a_worker_works_sets_it_free() {
    for reset in [false, true] {
        for extra in extras() {
            let (worker, _gate) = NativeWorker::gated(Control::Obey);
            let house = worker.house(PATIENT, |_| {}).await;
            let mut client = house.client().await;
            client.send(POST).await;
            worker.arrived(1).await;
            client.send(&extra).await;
            leave(client, reset);
            worker.heard("interrupt 1 left").await;
            house.idle().await;
            assert_eq!(worker.numbers(), [1]);
        }
    }
}

#[tokio::test]
async fn who_leaves_while_pipelined_requests_wait_takes_them_along() {
    let (worker, gate) = NativeWorker::gated(Control::Obey);
    let house = worker.house(PATIENT, |_| {}).await;
    let mut client = house.client().await;
    client.send(POST.repeat(3)).await;
    gate.open(1);
    worker.arrived(2).await;
    drop(client);
    worker.heard("interrupt 2 left").await;
    house.idle().await;
    assert_eq!(worker.numbers(), [1, 2]);
}

/// Requests as clients send them that shut down their sending side (`nc -N`), and how many answers they get.
fn half_closing() -> Vec<(String, usize)> {
    let chunked = concat!(
        "POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "4\r\nbody\r\n0\r\n\r\n"
    );
    vec![
        ("GET /a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 1),
        (
            "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned(),
            1,
        ),
        ("GET /a HTTP/1.0\r\n\r\n".to_owned(), 1),
        ("HEAD /a HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 1),
        (format!("{POST}\r\n"), 1),
        (chunked.to_owned(), 1),
        (POST.repeat(3), 3),
        (format!("{chunked}{POST}{chunked}"), 3),
    ]
}

async fn half_close(client: &mut Client) {
    client.stream.shutdown().await.expect("a live socket");
}

/// A client's half-close, and three looks at it: each is a byte of the answer, sent early.
async fn looked_at(client: &mut Client) {
    let mut seen = [0; 16];
    loop {
        let count = within("looking", client.stream.peek(&mut seen)).await;
        let count = count.expect("a live connection");
        assert!(b"HTTP/1.".starts_with(&seen[..count]), "{seen:?}");
        if count >= 3 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn who_half_closes_is_answered_after_work() {
    for (request, answers) in half_closing() {
        let (worker, gate) = NativeWorker::gated(Control::Obey);
        let house = worker.house(PATIENT, |_| {}).await;
        let mut client = house.client().await;
        client.send(&request).await;
        half_close(&mut client).await;
        worker.arrived(1).await;
        looked_at(&mut client).await;
        for number in 1..=answers {
            worker.arrived(number).await;
            gate.open(1);
            let response = client.try_response(request.starts_with("HEAD")).await;
            let response = response.unwrap_or_else(|broken| panic!("{request:?}: {broken:?}"));
            assert_eq!(response.status, 200, "{request:?}");
            assert!(response.interim.is_empty(), "{request:?}");
        }
        assert!(client.is_closed().await, "{request:?}");
        house.idle().await;
        assert_eq!(worker.lines(), [""; 0]);
    }
}

#[tokio::test]
async fn who_half_closes_is_answered_after_waiting() {
    for (request, answers) in half_closing() {
        let (worker, gate) = Upstream::gated().await;
        let house = house(&[&worker], |_| {}).await;
        let mut first = house.client().await;
        first.start_get("/first").await;
        worker.arrived(1).await;
        let mut client = house.client().await;
        client.send(&request).await;
        half_close(&mut client).await;
        house.queued(1).await;
        looked_at(&mut client).await;
        gate.open(1 + answers);
        for _ in 0..answers {
            let response = client.try_response(request.starts_with("HEAD")).await;
            let response = response.unwrap_or_else(|broken| panic!("{request:?}: {broken:?}"));
            assert_eq!(response.status, 200, "{request:?}");
        }
        assert!(client.is_closed().await, "{request:?}");
        assert_eq!(first.response().await.text(), "/first");
    }
}

#[tokio::test]
async fn who_half_closes_gets_our_own_answers_too() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    for (request, status) in [
        ("GET /__faucet__/livez HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("non(sense\r\n\r\n", 400),
    ] {
        let mut client = house.client().await;
        client.send(request).await;
        half_close(&mut client).await;
        assert_eq!(client.response().await.status, status, "{request:?}");
        assert!(client.is_closed().await);
    }
}

#[tokio::test]
async fn who_half_closes_and_leaves_later_sets_the_worker_free() {
    let (worker, _gate) = NativeWorker::gated(Control::Obey);
    let house = worker.house(PATIENT, |_| {}).await;
    let mut client = house.client().await;
    client.start_get("/left").await;
    half_close(&mut client).await;
    worker.arrived(1).await;
    looked_at(&mut client).await;
    assert_eq!(worker.lines(), [""; 0]);
    drop(client);
    worker.heard("interrupt 1 left").await;
    house.idle().await;
}

#[tokio::test]
async fn who_half_closes_gets_the_rest_of_an_answer_that_is_ready() {
    let body = pattern(20_000_000);
    let copy = body.clone();
    let worker = Upstream::start(move |_, wire: Wire| {
        let body = copy.clone();
        async move { wire.ok(body).await }
    })
    .await;
    for memory in [1000, u64::MAX] {
        let house = house(&[&worker], |plan| plan.limits.body_memory = memory).await;
        let mut client = house.client().await;
        client.start_get("/").await;
        assert!(client.fill().await);
        // The worker is done, the client is not.
        house.idle().await;
        half_close(&mut client).await;
        assert!(client.response().await.body == body, "differs");
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_client_whatever_lies_unread() {
    let worker = NativeWorker::start(Control::Obey, |mut asked: Asked| async move {
        let (answer, writer) = stream();
        tokio::spawn(async move {
            let _ = writer.send(Bytes::from_static(b"half")).await;
            asked.interrupted().await;
        });
        answer
    });
    let house = worker.house(PATIENT, |_| {}).await;
    let mut client = house.client().await;
    client.send(format!("{POST}\r\n")).await;
    while !client.unread.ends_with(b"half\r\n") {
        assert!(client.fill().await);
    }
    drop(client);
    house.idle().await;
    assert_eq!(worker.lines(), ["interrupt 1 left"]);
}

#[tokio::test]
async fn who_leaves_within_an_upload_is_a_client_that_left() {
    const PARTS: [&str; 3] = [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n",
    ];
    for part in PARTS {
        for reset in [false, true] {
            let worker = Upstream::echo().await;
            let house = house(&[&worker], |_| {}).await;
            let mut client = house.client().await;
            client.send(part).await;
            until("its head has arrived", || {
                house.front.connections.any_busy()
            })
            .await;
            leave(client, reset);
            until("it is counted", || house.counted(499, "") == 1.0).await;
            assert_eq!(house.counted(400, "bad_request"), 0.0);
            let (lines, _) = house.log.take();
            assert!(lines[0].text.contains(r#""status":499"#), "{lines:?}");
            assert_eq!(worker.count(), 0);
        }
    }
}

/// An HTTP/2 frame.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u8;
    let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
    bytes.extend_from_slice(payload);
    bytes
}

#[tokio::test]
async fn an_upload_that_its_stream_gives_up_never_reaches_a_worker() {
    const CANCEL: u8 = 8;
    const INTERNAL_ERROR: u8 = 2;
    // POST http://a/
    let head = [0x83, 0x86, 0x84, 0x41, 1, b'a'];
    let mut upload = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    upload.extend(frame(4, 0, 0, &[]));
    upload.extend(frame(1, 4, 1, &head));
    upload.extend(frame(0, 0, 1, b"half"));
    for end in [Some(CANCEL), Some(INTERNAL_ERROR), None] {
        let worker = Upstream::echo().await;
        let house = house(&[&worker], |_| {}).await;
        let mut client = house.client().await;
        client.send(&upload).await;
        until("its head has arrived", || {
            house.front.connections.any_busy()
        })
        .await;
        match end {
            Some(reason) => client.send(frame(3, 0, 1, &[0, 0, 0, reason])).await,
            None => half_close(&mut client).await,
        }
        until("it is counted", || house.counted(499, "") == 1.0).await;
        assert_eq!(worker.count(), 0);
    }
}

/// Nothing of this may cost a front its other clients.
#[tokio::test]
async fn a_crowd_that_leaves_in_every_way_leaves_nothing_behind() {
    let worker = Upstream::echo().await;
    let house: House = house(&[&worker], |_| {}).await;
    let mut crowd = Vec::new();
    for number in 0..120 {
        let address = house.address;
        crowd.push(tokio::spawn(async move {
            let mut client = Client::connect(address).await;
            client.send(POST).await;
            match number % 4 {
                0 => leave(client, true),
                1 => leave(client, false),
                2 => {
                    half_close(&mut client).await;
                    assert_eq!(client.response().await.text(), "/left");
                }
                _ => assert_eq!(client.response().await.text(), "/left"),
            }
        }));
    }
    for client in crowd {
        client.await.expect("its answer");
    }
    house.idle().await;
    until("every connection is closed", || {
        house.front.connections.count() == 0
    })
    .await;
}
