//! Cleartext HTTP/2, with prior knowledge.

mod common;

use bytes::Bytes;
use common::{house, pattern, until, within, Gate, House, Seen, Upstream, Wire};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};

async fn connect(house: &House) -> SendRequest<Full<Bytes>> {
    let stream = tokio::net::TcpStream::connect(house.address)
        .await
        .expect("the front listens");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://api.example{path}"))
        .body(Full::default())
        .expect("valid")
}

async fn answer(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Response<Bytes> {
    let response = within("a response", sender.send_request(request))
        .await
        .expect("a response");
    let (parts, body) = response.into_parts();
    let body = within("a body", body.collect()).await.expect("complete");
    Response::from_parts(parts, body.to_bytes())
}

#[tokio::test]
async fn streams_of_one_connection_are_served_one_at_a_time() {
    let worker = Upstream::start(|seen: Seen, wire: Wire| async move {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        wire.ok(seen.target).await
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let sender = connect(&house).await;
    let streams: Vec<_> = (0..40)
        .map(|number| {
            let mut sender = sender.clone();
            tokio::spawn(async move {
                let path = format!("/{number}");
                assert_eq!(
                    answer(&mut sender, get(&path)).await.body(),
                    path.as_bytes()
                );
            })
        })
        .collect();
    for stream in streams {
        stream.await.expect("served");
    }
    assert_eq!((worker.peak(), worker.count()), (1, 40));
    assert_eq!(worker.connections(), 1);
    assert_eq!(house.front.connections.count(), 1);
}

#[tokio::test]
async fn a_reset_stream_leaves_the_queue_and_its_lease_outlives_it() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let sender = connect(&house).await;
    let start = |path: &'static str| {
        let mut sender = sender.clone();
        tokio::spawn(async move { answer(&mut sender, get(path)).await })
    };
    let first = start("/first");
    worker.arrived(1).await;
    let second = start("/second");
    house.queued(1).await;
    let third = start("/third");
    house.queued(2).await;
    second.abort();
    house.queued(1).await;
    first.abort();
    until("the stream is reset", || first.is_finished()).await;
    assert_eq!((house.leases(), worker.count()), (1, 1));
    gate.open(2);
    assert_eq!(third.await.expect("served").body(), "/third");
    assert_eq!(worker.targets(), ["/first", "/third"]);
    assert_eq!(worker.peak(), 1);
}

#[tokio::test]
async fn the_worker_sees_plain_http_1() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut sender = connect(&house).await;
    let request = Request::get("http://api.example/x?y=1")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("cookie", "c=3")
        .header("te", "trailers")
        .body(Full::default())
        .expect("valid");
    let response = answer(&mut sender, request).await;
    assert_eq!(response.body(), "/x?y=1");
    assert!(response.headers().contains_key("x-request-id"));
    let seen = worker.last();
    assert_eq!(seen.version, "HTTP/1.1");
    assert_eq!(seen.header("host"), Some("api.example"));
    assert_eq!(seen.header("cookie"), Some("a=1; b=2; c=3"));
    assert_eq!(seen.count("cookie"), 1);
    assert_eq!(seen.header("te"), None);
    assert_eq!(seen.header("x-forwarded-host"), Some("api.example"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
}

#[tokio::test]
async fn bodies_travel_both_ways_intact() {
    let worker = Upstream::start(|seen: Seen, wire: Wire| async move {
        wire.answer(
            201,
            "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n",
            seen.body,
        )
        .await
    })
    .await;
    let house = house(&[&worker], |plan| plan.limits.body_memory = 100_000).await;
    let mut sender = connect(&house).await;
    for size in [1, 50_000, 3_000_000] {
        let body = Bytes::from(pattern(size));
        let request = Request::post("http://a/echo")
            .body(Full::new(body.clone()))
            .expect("valid");
        let response = answer(&mut sender, request).await;
        assert_eq!(response.status(), 201);
        assert!(!response.headers().contains_key("connection"));
        assert!(!response.headers().contains_key("keep-alive"));
        assert!(response.body() == &body, "differs");
    }
    assert_eq!(worker.connections(), 1);
}

#[tokio::test]
async fn a_stream_that_is_not_read_holds_no_worker() {
    let worker = Upstream::start(|seen: Seen, wire: Wire| async move {
        let size = if seen.target == "/big" { 5_000_000 } else { 5 };
        wire.ok(pattern(size)).await
    })
    .await;
    let house = house(&[&worker], |plan| plan.limits.body_memory = 100_000).await;
    let mut sender = connect(&house).await;
    let unread = within("a head", sender.send_request(get("/big")))
        .await
        .expect("a head");
    let small = answer(&mut connect(&house).await, get("/small")).await;
    assert_eq!(small.body().len(), 5);
    house.idle().await;
    let body = within("the rest", unread.into_body().collect())
        .await
        .expect("complete");
    assert!(body.to_bytes() == pattern(5_000_000), "differs");
}

#[tokio::test]
async fn response_trailers_arrive() {
    let worker = Upstream::start(|_, mut wire: Wire| async move {
        wire.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n")
            .await;
        wire.end()
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut sender = connect(&house).await;
    let response = within("a head", sender.send_request(get("/")))
        .await
        .expect("a head");
    let body = within("a body", response.into_body().collect())
        .await
        .expect("complete");
    assert_eq!(body.trailers().expect("trailers")["x-sum"], "42");
    assert_eq!(body.to_bytes(), "body");
}

#[tokio::test]
async fn errors_look_as_over_http_1_and_the_connection_stays() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.pool.max_body = 10).await;
    let mut sender = connect(&house).await;
    let request = Request::post("http://a/")
        .body(Full::from(vec![b'x'; 11]))
        .expect("valid");
    let response = answer(&mut sender, request).await;
    assert_eq!(response.status(), 413);
    assert_eq!(response.headers()["faucet-error"], "body_too_large");
    assert!(!response.headers().contains_key("connection"));
    assert_eq!(answer(&mut sender, get("/after")).await.body(), "/after");
    assert_eq!(worker.count(), 1);
}

#[tokio::test]
async fn a_worker_that_dies_within_a_body_resets_the_stream() {
    let gate = Gate::default();
    let inner = gate.clone();
    let worker = Upstream::start(move |seen: Seen, mut wire: Wire| {
        let gate = inner.clone();
        async move {
            if seen.target == "/after" {
                return wire.ok("right").await;
            }
            wire.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
                .await;
            gate.pass().await;
            None
        }
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut sender = connect(&house).await;
    let response = within("a head", sender.send_request(get("/")))
        .await
        .expect("a head");
    gate.open(1);
    assert!(within("an end", response.into_body().collect())
        .await
        .is_err());
    assert_eq!(answer(&mut sender, get("/after")).await.body(), "right");
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| {
        plan.limits.idle_timeout = Some(common::SOON);
        plan.limits.header_timeout = common::SOON;
    })
    .await;
    let mut sender = connect(&house).await;
    assert_eq!(answer(&mut sender, get("/")).await.status(), 200);
    until("it is closed", || house.front.connections.count() == 0).await;
}
