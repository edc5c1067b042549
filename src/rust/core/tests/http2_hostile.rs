//! HTTP/2 clients that mean harm, or are in the way: every connection that we end is told so by a `GOAWAY`, and no
//! healthy one is.

mod common;

use std::time::Duration;

use common::pod::Pod;
use common::wire2::{
    Frame, Wire2, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS,
    NO_STREAM_YET, PING, RST_STREAM, SETTINGS,
};
use common::{house, until, House, Upstream, SOON};
use faucet_core::front::Shutdown;
use faucet_core::server::Request;

const WINDOW: u32 = 65_535;

/// A client that has had an answer, and asks for nothing.
async fn idle(house: &House) -> Wire2 {
    let mut client = Wire2::connect(house.address, WINDOW).await;
    client.get(1, "/first").await;
    assert_eq!(client.response(1).await.1, b"/first");
    client
}

#[tokio::test]
async fn an_idle_connection_hears_goodbye() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.idle_timeout = Some(SOON)).await;
    let mut client = idle(&house).await;
    assert_eq!(client.goodbye().await, (1, 0));
}

#[tokio::test]
async fn pings_neither_end_an_idle_connection_nor_keep_it() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| {
        plan.limits.header_timeout = SOON;
        plan.limits.idle_timeout = Some(8 * SOON);
    })
    .await;
    let mut client = idle(&house).await;
    let mut other = idle(&house).await;
    client.send(Frame::new(PING, 0, 0, [0; 8])).await;
    // Another one is in the middle of something.
    let ping = Frame::new(PING, 0, 0, [0; 8]).bytes();
    other.send_raw(&ping[..10]).await;
    assert_eq!(other.goodbye().await, (1, 0));
    client.get(3, "/next").await;
    assert_eq!(client.response(3).await.1, b"/next");
    loop {
        tokio::select! {
            biased;
            frame = client.next() => {
                let frame = frame.expect("a goodbye first");
                assert_eq!((frame.kind, frame.word(0)), (GOAWAY, 3));
                break;
            }
            () = tokio::time::sleep(SOON / 10) => {
                client.send(Frame::new(PING, 0, 0, [0; 8])).await;
            }
        }
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_ends_with_goodbye() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.header_timeout = SOON).await;
    let block = Frame::get(3, "/second", &[(":authority", "a")]).payload;
    // The first request's head, and one that comes later.
    let mut first = Wire2::connect(house.address, WINDOW).await;
    first.settle().await;
    first
        .send(Frame::new(HEADERS, END_STREAM, 1, &block[..5]))
        .await;
    let mut later = idle(&house).await;
    later
        .send(Frame::new(HEADERS, END_STREAM, 3, &block[..5]))
        .await;
    later
        .send(Frame::new(CONTINUATION, 0, 3, &block[5..9]))
        .await;
    assert_eq!(first.goodbye().await, (0, 0));
    assert_eq!(later.goodbye().await, (1, 0));
    // And one that does.
    let mut good = idle(&house).await;
    good.send(Frame::new(HEADERS, END_STREAM, 3, &block[..5]))
        .await;
    good.send(Frame::new(CONTINUATION, END_HEADERS, 3, &block[5..]))
        .await;
    assert_eq!(good.response(3).await.1, b"/second");
}

#[tokio::test]
async fn who_makes_room_for_others_hears_goodbye() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.max_connections = 1).await;
    let mut first = idle(&house).await;
    let mut second = idle(&house).await;
    assert_eq!(first.goodbye().await, (1, 0));
    second.get(3, "/more").await;
    assert_eq!(second.response(3).await.1, b"/more");
}

#[tokio::test]
async fn who_finds_no_room_hears_goodbye() {
    let (worker, _gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.limits.max_connections = 1).await;
    let mut first = Wire2::connect(house.address, WINDOW).await;
    first.get(1, "/first").await;
    worker.arrived(1).await;
    let mut second = Wire2::connect(house.address, WINDOW).await;
    second.get(1, "/second").await;
    assert_eq!(second.goodbye().await, (0, 0));
    assert_eq!(house.counted(503, "too_many_connections"), 1.0);
    assert_eq!(worker.count(), 1);
}

#[tokio::test]
async fn a_drain_says_goodbye_and_finishes() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = Wire2::connect(house.address, WINDOW).await;
    client.get(1, "/first").await;
    worker.arrived(1).await;
    house.front.connections.shut_down_all(Shutdown::Graceful);
    assert_eq!(client.expect(GOAWAY, 0).await.word(0), NO_STREAM_YET);
    gate.open(1);
    // Once the ping that comes with it is answered, the last stream is known.
    assert_eq!(client.expect(GOAWAY, 0).await.word(0), 1);
    assert_eq!(client.response(1).await.1, b"/first");
    while let Some(frame) = client.next().await {
        assert_eq!(frame.kind, GOAWAY);
    }
}

#[tokio::test]
async fn what_is_cut_hears_goodbye() {
    let (worker, _gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = Wire2::connect(house.address, WINDOW).await;
    client.get(1, "/first").await;
    worker.arrived(1).await;
    house.front.connections.shut_down_all(Shutdown::Immediate);
    assert_eq!(client.goodbye().await, (1, 0));
}

#[tokio::test]
async fn the_end_of_a_server_is_told_to_all() {
    let (worker, gate) = Upstream::gated().await;
    let mut pod = Pod::start(&worker).await;
    let mut busy = Wire2::connect(pod.address, WINDOW).await;
    busy.get(1, "/first").await;
    worker.arrived(1).await;
    // It has still to ask for something.
    let mut new = Wire2::connect(pod.address, WINDOW).await;
    new.settle().await;
    pod.server.ask(Request::Stop(Some(SOON)));
    assert_eq!(new.goodbye().await.1, 0);
    assert_eq!(busy.goodbye().await, (1, 0));
    drop(gate);
}

#[tokio::test]
async fn a_breach_of_the_protocol_ends_with_its_reason() {
    const PROTOCOL_ERROR: u32 = 1;
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = idle(&house).await;
    // Bytes that nobody reads any more must not take the last word back.
    let breach = [
        Frame::new(DATA, 0, 0, b"to nobody").bytes(),
        vec![0; 100_000],
    ]
    .concat();
    client.send_raw(breach).await;
    assert_eq!(client.goodbye().await, (1, PROTOCOL_ERROR));
    until("it is closed", || house.front.connections.count() == 0).await;
}

#[tokio::test]
async fn floods_end_their_own_connection_alone() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut good = idle(&house).await;

    // Streams that are reset as soon as they are there.
    let mut client = Wire2::connect(house.address, WINDOW).await;
    let mut flood = Vec::new();
    for number in 0..1000 {
        let stream = 2 * number + 1;
        flood.extend(Frame::get(stream, "/reset", &[(":authority", "a")]).bytes());
        flood.extend(Frame::new(RST_STREAM, 0, stream, [0, 0, 0, 8]).bytes());
    }
    client.send_raw(flood).await;
    assert_eq!(client.goodbye().await.1, ENHANCE_YOUR_CALM);

    // Streams that make us reset them: a window of nothing is added.
    let mut client = Wire2::connect(house.address, WINDOW).await;
    let mut flood = Vec::new();
    for number in 0..1000 {
        let stream = 2 * number + 1;
        flood.extend(Frame::get(stream, "/reset", &[(":authority", "a")]).bytes());
        flood.extend(Frame::window_update(stream, 0).bytes());
    }
    client.send_raw(flood).await;
    let mut resets = 0;
    while let Some(frame) = client.next().await {
        match frame.kind {
            RST_STREAM => resets += 1,
            GOAWAY => {}
            _ => {}
        }
    }
    assert!(resets <= 200, "{resets}");

    // A head without an end.
    let mut client = Wire2::connect(house.address, WINDOW).await;
    let head = Frame::get(1, "/", &[(":authority", "a")]).payload;
    client.send(Frame::new(HEADERS, END_STREAM, 1, head)).await;
    let more: Vec<u8> = (0..5000)
        .flat_map(|_| Frame::new(CONTINUATION, 0, 1, b"").bytes())
        .collect();
    client.send_raw(more).await;
    assert_ne!(client.goodbye().await.1, 0);

    // What wants an answer each time, from one who reads none of them.
    let mut client = Wire2::connect(house.address, WINDOW).await;
    let flood: Vec<u8> = (0..10_000)
        .flat_map(|_| {
            let settings = Frame::new(SETTINGS, 0, 0, b"");
            [settings.bytes(), Frame::new(PING, 0, 0, [0; 8]).bytes()].concat()
        })
        .collect();
    // It is no longer read as soon as answers cannot be written.
    let sent = tokio::time::timeout(
        Duration::from_secs(1),
        tokio::io::AsyncWriteExt::write_all(&mut client.stream, &flood),
    );
    let _ = sent.await;

    good.get(3, "/good").await;
    assert_eq!(good.response(3).await.1, b"/good");
    house.idle().await;
}

#[tokio::test]
async fn a_body_that_never_ends_has_its_time() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.idle_timeout = Some(SOON)).await;
    let mut client = Wire2::connect(house.address, WINDOW).await;
    let head = Frame::get(1, "/", &[(":authority", "a")]).payload;
    client.send(Frame::new(HEADERS, END_HEADERS, 1, head)).await;
    let answer = client.expect(HEADERS, 1).await;
    assert_eq!(answer.status(), None);
    until("it is counted", || {
        house.counted(408, "body_timeout") == 1.0
    })
    .await;
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn a_request_says_once_whom_it_is_for() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = Wire2::connect(house.address, WINDOW).await;
    let cases: &[(&[(&str, &str)], bool)] = &[
        (&[(":authority", "a")], true),
        (
            &[(":authority", "a.example:80"), ("host", "A.example:80")],
            true,
        ),
        (&[("host", "a")], true),
        (&[], false),
        (&[("host", "")], false),
        (&[("host", "a"), ("host", "a")], false),
        (&[(":authority", "a"), ("host", "a"), ("host", "a")], false),
        (&[(":authority", "a"), ("host", "b")], false),
        (&[(":authority", "user@a")], false),
        (
            &[(":authority", "user:secret@a"), ("host", "user:secret@a")],
            false,
        ),
        (&[("host", "user@a")], false),
    ];
    for (number, (fields, good)) in cases.iter().enumerate() {
        let stream = 2 * number as u32 + 1;
        client.send(Frame::get(stream, "/", fields)).await;
        let (head, body) = client.response(stream).await;
        let status = if *good { 200 } else { 400 };
        assert_eq!(head.status(), Some(status), "{fields:?}: {head:?}");
        assert_eq!(body == b"/", *good, "{fields:?}");
    }
    assert_eq!(worker.count(), 3);
    assert_eq!(house.counted(400, "bad_request"), 8.0);
}
