//! How many headers pass: 200 of the client's own, 200 of the worker's own, whoever carries them.

mod common;

use bytes::Bytes;
use common::native::{text, Asked, Control, NativeWorker, PATIENT};
use common::{far, house, House, Response, Seen, Upstream, Wire};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

fn own(count: usize) -> String {
    (0..count)
        .map(|number| format!("X-Own-{number}: {number}\r\n"))
        .collect()
}

/// Answers with as many headers as the target says, and the number of those it got.
async fn worker() -> Upstream {
    Upstream::start(|seen: Seen, wire: Wire| async move {
        let count = seen.target[1..].parse().expect("a number");
        let got = seen.headers.iter();
        let got = got.filter(|(name, _)| name.starts_with("x-own-")).count();
        wire.answer(200, &own(count), got.to_string()).await
    })
    .await
}

fn native() -> NativeWorker {
    NativeWorker::start(Control::Obey, |asked: Asked| async move {
        let count = asked.target[1..].parse().expect("a number");
        let got = asked.headers.keys();
        let got = got
            .filter(|name| name.as_str().starts_with("x-own-"))
            .count();
        let mut answer = text(200, got.to_string());
        for number in 0..count {
            let name = format!("x-own-{number}");
            let name: hyper::header::HeaderName = name.parse().expect("valid");
            answer.headers_mut().insert(name, 1.into());
        }
        answer
    })
}

fn given(response: &Response) -> usize {
    let names = response.headers.iter();
    names.filter(|(name, _)| name.starts_with("x-own-")).count()
}

/// All of this, on one connection and on many, in one piece and byte by byte.
async fn passes(house: &House) {
    let mut client = house.client().await;
    for count in [0, 90, 95, 97, 99, 100, 101, 150, 200, 3] {
        let head = format!(
            "POST /{count} HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nContent-Length: 1\r\n{}\r\nx",
            own(count)
        );
        client.send(&head).await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.text()),
            (200, &*count.to_string())
        );
        assert_eq!(given(&response), count);
        let mut new = house.client().await;
        for part in head.as_bytes().chunks(701) {
            new.send(part).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(new.response().await.text(), count.to_string());
        // Behind another request, and before one.
        new.send(format!(
            "GET /0 HTTP/1.1\r\nHost: a\r\n\r\n{head}GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
        ))
        .await;
        assert_eq!(new.response().await.text(), "0");
        assert_eq!(new.response().await.text(), count.to_string());
        assert_eq!(given(&new.response().await), 1);
    }
}

async fn stops(house: &House, own_cause: bool) {
    for count in [201, 250, 256, 257, 1000] {
        let mut client = house.client().await;
        client
            .send(format!("GET /0 HTTP/1.1\r\nHost: a\r\n{}\r\n", own(count)))
            .await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.cause()),
            (431, "header_too_large")
        );
        let mut client = house.client().await;
        let response = client.get(&format!("/{count}")).await;
        assert_eq!(response.status, 502, "{count}");
        // What a pod has answered by itself is its own to explain.
        if own_cause {
            assert_eq!(response.cause(), "bad_response");
        }
    }
    house.idle().await;
    assert_eq!(house.client().await.get("/2").await.status, 200);
}

#[tokio::test]
async fn to_and_from_an_http_worker() {
    let worker = worker().await;
    let house = house(&[&worker], |_| {}).await;
    passes(&house).await;
    stops(&house, true).await;
}

#[tokio::test]
async fn to_and_from_a_native_worker() {
    let worker = native();
    let house = worker.house(PATIENT, |_| {}).await;
    let mut client = house.client().await;
    for count in [0, 95, 100, 101, 150, 200] {
        assert_eq!(given(&client.get(&format!("/{count}")).await), count);
    }
    let response = client.get("/201").await;
    assert_eq!((response.status, response.cause()), (502, "bad_response"));
}

#[tokio::test]
async fn through_two_fronts() {
    let worker = worker().await;
    let pod = house(&[&worker], |_| {}).await;
    let front = House::start(vec![pod.address], |plan| plan.remote = Some(true)).await;
    passes(&front).await;
    stops(&front, false).await;
}

#[tokio::test]
async fn over_http2() {
    let worker = worker().await;
    let house = far(&[&worker], |_| {}).await;
    let stream = tokio::net::TcpStream::connect(house.address).await;
    let io = TokioIo::new(stream.expect("the front listens"));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    for (count, status) in [(150, 200), (200, 200), (201, 431), (300, 431)] {
        let mut request = hyper::Request::get("http://a/0");
        for number in 0..count {
            request = request.header(format!("x-own-{number}"), "1");
        }
        let request = request.body(Full::<Bytes>::default()).expect("valid");
        let response = sender.send_request(request).await.expect("a response");
        assert_eq!(response.status(), status, "{count}");
        let body = response.into_body().collect().await.expect("complete");
        if status == 200 {
            assert_eq!(body.to_bytes(), count.to_string());
        }
    }
}

#[tokio::test]
async fn a_response_without_a_body_or_in_pieces_may_have_many() {
    let worker = Upstream::start(|seen: Seen, mut wire: Wire| async move {
        if seen.method == "HEAD" {
            let head = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 7\r\n\r\n", own(150));
            wire.raw(head).await;
            return wire.end();
        }
        // Interim responses, a head in two pieces, and a chunked body.
        let head = format!(
            "HTTP/1.1 103 Early Hints\r\n{}\r\nHTTP/1.1 200 OK\r\n{}Transfer-Encoding: chunked\r\n\r\n4\r\n",
            own(5),
            own(150)
        );
        let (first, second) = head.split_at(head.len() / 2);
        wire.raw(first).await;
        tokio::task::yield_now().await;
        wire.raw(second).await;
        wire.raw("body\r\n0\r\n\r\n").await;
        wire.end()
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for _ in 0..3 {
        let response = client.get("/").await;
        assert_eq!((response.text(), given(&response)), ("body", 150));
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let response = client.response_to_head().await;
        assert_eq!(given(&response), 150);
    }
}
