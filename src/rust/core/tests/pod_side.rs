//! A server that is asked by another faucet's front: it says at once that it is busy, keeps a worker for whoever has a
//! turn, and ends without losing what is on its way.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::native::{stream, Asked, Control, NativeWorker, CANCEL};
use common::pod::Pod;
use common::{house, until, within, Client, Gate, House, Response, Seen, Upstream, Wire, SOON};
use faucet_core::front::{accept, Networks, Shutdown};
use http_body_util::Empty;
use hyper_util::rt::{TokioExecutor, TokioIo};

const TURN: &str = "/__faucet__/turn";

/// Sends what a front sends: a request that is not to wait.
async fn start(front: &mut Client, method: &str, target: &str, body: &str) {
    let length = body.len();
    front
        .send(format!(
            "{method} {target} HTTP/1.1\r\nHost: pods\r\nFaucet-Wait: 0\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await;
}

async fn ask(front: &mut Client, target: &str) -> Response {
    start(front, "GET", target, "").await;
    front.response().await
}

/// Checks that the request was not worked on, and that the front is told so.
fn refused(response: &Response, cause: &str) {
    assert_eq!((response.status, response.cause()), (503, cause));
    assert_eq!(response.header("faucet-busy"), Some("1"));
    assert!(response.header("retry-after").is_some());
}

fn granted(response: &Response) {
    assert_eq!(
        (response.status, response.text()),
        (200, r#"{"status":"turn"}"#)
    );
    assert_eq!(response.header("content-type"), Some("application/json"));
}

/// A front whose turn has come, and that has not used it.
async fn with_turn(house: &House) -> Client {
    let mut front = house.client().await;
    granted(&front.get(TURN).await);
    assert_eq!(house.leases(), 1);
    front
}

#[tokio::test]
async fn who_does_not_want_to_wait_is_told_at_once() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut first = house.client().await;
    start(&mut first, "GET", "/first", "").await;
    worker.arrived(1).await;

    let mut front = house.client().await;
    for method in ["GET", "POST"] {
        start(&mut front, method, "/second", "body").await;
        let busy = front.response().await;
        refused(&busy, "busy");
        assert_eq!(busy.header("faucet-workers"), Some("1"));
        assert_eq!(busy.header("retry-after"), Some("1"));
        assert_eq!(busy.header("connection"), None);
    }
    start(&mut front, "HEAD", "/second", "").await;
    refused(&front.response_to_head().await, "busy");
    assert_eq!(house.counted(503, "busy"), 3.0);
    assert_eq!(house.pool.table.waiting(), 0);

    gate.open(2);
    let answer = first.response().await;
    assert_eq!((answer.status, answer.text()), (200, "/first"));
    assert_eq!(answer.header("faucet-workers"), Some("1"));
    assert_eq!(answer.header("faucet-busy"), None);
    assert_eq!(ask(&mut front, "/third").await.text(), "/third");
    assert_eq!(worker.targets(), ["/first", "/third"]);
    assert_eq!(worker.last().header("faucet-wait"), None);
    until("all that was worked on is logged", || {
        let (lines, _) = house.log.take();
        assert!(lines.iter().all(|line| !line.text.contains("/second")));
        lines.iter().any(|line| line.text.contains("/third"))
    })
    .await;
}

#[tokio::test]
async fn everybody_else_waits() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut clients = Vec::new();
    for (number, wait) in ["", "Faucet-Wait: 1\r\n", "Faucet-Wait: soon\r\n"]
        .iter()
        .enumerate()
    {
        let mut client = house.client().await;
        client
            .send(format!("GET / HTTP/1.1\r\nHost: a\r\n{wait}\r\n"))
            .await;
        worker.arrived(1).await;
        house.queued(number).await;
        clients.push(client);
    }
    gate.open(3);
    for client in &mut clients {
        let response = client.response().await;
        assert_eq!(response.status, 200);
        assert!(!response
            .headers
            .iter()
            .any(|(name, _)| name.starts_with("faucet-")));
    }
}

#[tokio::test]
async fn without_workers_it_is_busy_and_says_that_it_has_none() {
    let house = house(&[], |_| {}).await;
    let mut front = house.client().await;
    let busy = ask(&mut front, "/").await;
    refused(&busy, "busy");
    assert_eq!(busy.header("faucet-workers"), Some("0"));
    let health = ask(&mut front, "/__faucet__/livez").await;
    assert_eq!((health.status, health.header("faucet-busy")), (200, None));
    assert_eq!(health.header("faucet-workers"), Some("0"));
}

#[tokio::test]
async fn an_answer_tells_that_others_wait() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut front = house.client().await;
    start(&mut front, "GET", "/first", "").await;
    worker.arrived(1).await;
    let mut other = house.client().await;
    other.start_get("/other").await;
    house.queued(1).await;
    gate.open(1);
    // The other one has the worker by now.
    let answer = front.response().await;
    assert_eq!(
        (answer.status, answer.header("faucet-busy")),
        (200, Some("1"))
    );
    gate.open(1);
    let other = other.response().await;
    assert_eq!((other.status, other.header("faucet-busy")), (200, None));
}

#[tokio::test]
async fn what_a_worker_answers_is_never_taken_for_a_refusal() {
    let gate = Gate::default();
    let inner = gate.clone();
    let worker = Upstream::start(move |_, wire: Wire| {
        let gate = inner.clone();
        async move {
            gate.pass().await;
            let lies = "Faucet-Busy: 1\r\nFaucet-Workers: 9\r\nFaucet-Stream: 1\r\n";
            wire.answer(503, lies, "down").await
        }
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut front = house.client().await;
    start(&mut front, "POST", "/", "x").await;
    worker.arrived(1).await;
    let mut other = house.client().await;
    other.start_get("/other").await;
    house.queued(1).await;
    gate.open(2);
    let answer = front.response().await;
    assert_eq!((answer.status, answer.text()), (503, "down"));
    assert_eq!(answer.header("faucet-workers"), Some("1"));
    assert_eq!(answer.header("faucet-busy"), None);
    assert_eq!(answer.header("faucet-stream"), None);
    assert_eq!(other.response().await.status, 503);
}

#[tokio::test]
async fn a_front_is_told_of_a_stream_and_nobody_else() {
    let worker = NativeWorker::start(Control::Obey, |_: Asked| async {
        let (answer, writer) = stream();
        tokio::spawn(async move {
            let _ = writer.send(Bytes::from_static(b"bit")).await;
        });
        answer
    });
    let house = worker.house(CANCEL, |_| {}).await;
    let mut client = house.client().await;
    let streamed = ask(&mut client, "/").await;
    assert_eq!(streamed.header("faucet-stream"), Some("1"));
    assert_eq!(streamed.text(), "bit");
    let plain = client.get("/").await;
    assert_eq!((plain.header("faucet-stream"), plain.text()), (None, "bit"));
}

#[tokio::test]
async fn a_turn_keeps_a_worker_for_the_next_request() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    for method in ["GET", "POST"] {
        let mut front = with_turn(&house).await;
        let mut other = house.client().await;
        refused(&ask(&mut other, "/other").await, "busy");
        start(&mut front, method, "/mine", "").await;
        let answer = front.response().await;
        assert_eq!((answer.status, answer.text()), (200, "/mine"));
        assert_eq!(answer.header("faucet-workers"), Some("1"));
        house.idle().await;
        // One turn, one request.
        assert_eq!(ask(&mut other, "/other").await.status, 200);
    }
    // Whoever does not say that it is a front has it all the same.
    let mut front = with_turn(&house).await;
    assert_eq!(front.get("/plain").await.text(), "/plain");
    house.idle().await;
    // Both in one go.
    let mut front = house.client().await;
    front
        .send(format!(
            "GET {TURN} HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n"
        ))
        .await;
    granted(&front.response().await);
    assert_eq!(front.response().await.text(), "/next");
    house.idle().await;
    assert_eq!(worker.peak(), 1);
}

#[tokio::test]
async fn turns_are_no_requests() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.pool.queue = 0).await;
    let front = with_turn(&house).await;
    let mut other = house.client().await;
    refused(&other.get(TURN).await, "queue_full");
    drop(front);
    house.idle().await;
    assert_eq!(other.get("/real").await.status, 200);
    until("the real one is counted", || house.counted(200, "") == 1.0).await;
    assert_eq!(house.counted(503, "queue_full"), 0.0);
    assert_eq!(
        house.metric("faucet_request_duration_seconds_count{pool=\"/\"}"),
        1.0
    );
    let (lines, _) = house.log.take();
    assert!(lines.iter().all(|line| !line.text.contains("__faucet__")));
}

#[tokio::test]
async fn a_turn_is_given_back_by_whoever_does_not_use_it() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    // It leaves.
    drop(with_turn(&house).await);
    house.idle().await;
    // It stays and says nothing.
    let mut front = with_turn(&house).await;
    house.idle().await;
    assert_eq!(house.front.connections.count(), 1);
    assert_eq!(ask(&mut front, "/late").await.text(), "/late");
    // It asks for another one.
    granted(&front.get(TURN).await);
    granted(&front.get(TURN).await);
    assert_eq!(house.leases(), 1);
    // Its next request needs no worker.
    assert_eq!(ask(&mut front, "/__faucet__/livez").await.status, 200);
    assert_eq!(house.leases(), 0);
    // Its next request is none.
    granted(&front.get(TURN).await);
    front.send("GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(front.response().await.cause(), "bad_request");
    house.idle().await;
    let mut front = with_turn(&house).await;
    front.send("what?\r\n\r\n").await;
    assert_eq!(front.response().await.cause(), "bad_request");
    house.idle().await;
    // It breaks off within its next request.
    let mut front = with_turn(&house).await;
    front
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        .await;
    drop(front);
    house.idle().await;
    assert_eq!(worker.targets(), ["/late"]);
}

#[tokio::test]
async fn a_turn_is_not_kept_for_a_body_that_takes_its_time() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut slow = with_turn(&house).await;
    slow.send("POST /slow HTTP/1.1\r\nHost: a\r\nFaucet-Wait: 0\r\nContent-Length: 8\r\n\r\nhalf")
        .await;
    house.idle().await;
    let mut other = house.client().await;
    other.start_get("/other").await;
    worker.arrived(1).await;
    // It had its turn: it is not sent away again.
    slow.send("rest").await;
    house.queued(1).await;
    gate.open(2);
    assert_eq!(other.response().await.text(), "/other");
    assert_eq!(slow.response().await.text(), "/slow");
}

#[tokio::test]
async fn turns_are_taken_in_the_order_of_arrival() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut first = house.client().await;
    first.start_get("/1").await;
    worker.arrived(1).await;
    let mut front = house.client().await;
    front.start_get(TURN).await;
    house.queued(1).await;
    let mut leaver = house.client().await;
    leaver.start_get(TURN).await;
    house.queued(2).await;
    let mut last = house.client().await;
    last.start_get("/3").await;
    house.queued(3).await;
    drop(leaver);
    house.queued(2).await;

    gate.open(1);
    granted(&front.response().await);
    assert_eq!(first.response().await.status, 200);
    assert_eq!((worker.count(), house.pool.table.waiting()), (1, 1));
    gate.open(2);
    assert_eq!(ask(&mut front, "/2").await.text(), "/2");
    assert_eq!(last.response().await.text(), "/3");
    assert_eq!(worker.targets(), ["/1", "/2", "/3"]);
    assert_eq!(worker.peak(), 1);
    house.idle().await;
}

#[tokio::test]
async fn a_turn_is_not_waited_for_longer_than_for_anything() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| {
        plan.pool.queue_timeout = Some(SOON);
    })
    .await;
    let mut first = house.client().await;
    first.start_get("/").await;
    worker.arrived(1).await;
    let mut front = house.client().await;
    refused(&front.get(TURN).await, "queue_timeout");
    gate.open(1);
    assert_eq!(first.response().await.status, 200);
    // Nothing of it is left.
    house.idle().await;
    granted(&front.get(TURN).await);
}

#[tokio::test]
async fn a_turn_can_be_had_in_one_way_only() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    assert_eq!(client.post(TURN, b"").await.status, 404);
    client
        .send(format!("HEAD {TURN} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .await;
    assert_eq!(client.response_to_head().await.status, 404);
    client.send(format!("GET {TURN} HTTP/1.0\r\n\r\n")).await;
    assert_eq!(client.response().await.status, 404);
    let stream = tokio::net::TcpStream::connect(house.address)
        .await
        .expect("the front listens");
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    let request = hyper::Request::get(format!("http://a{TURN}"))
        .body(Empty::<Bytes>::new())
        .expect("valid");
    let response = within("an answer", sender.send_request(request)).await;
    assert_eq!(response.expect("an answer").status(), 404);
    assert_eq!((house.leases(), worker.count()), (0, 0));
}

#[tokio::test]
async fn who_is_no_front_gets_no_turn_and_waits_like_anyone() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.fronts = Networks::default()).await;
    let mut stranger = house.client().await;
    let answer = stranger.get(TURN).await;
    let unknown = stranger.get("/__faucet__/unknown").await;
    assert_eq!((answer.status, &answer.body), (404, &unknown.body));
    assert_eq!(house.leases(), 0);
    assert_eq!(
        house.metric("faucet_turns_total{pool=\"\",outcome=\"refused\"}"),
        1.0
    );
    // It shows where requests do.
    until("it is counted", || house.counted(404, "") == 2.0).await;
    start(&mut stranger, "GET", "/first", "").await;
    worker.arrived(1).await;
    let mut other = house.client().await;
    start(&mut other, "GET", "/second", "").await;
    house.queued(1).await;
    gate.open(2);
    for (client, target) in [(&mut stranger, "/first"), (&mut other, "/second")] {
        let answer = client.response().await;
        assert_eq!((answer.status, answer.text()), (200, target));
        assert_eq!(answer.header("faucet-workers"), None);
    }
    assert!(worker
        .seen()
        .iter()
        .all(|seen| seen.header("faucet-wait").is_none()));
}

#[tokio::test]
async fn a_turn_is_for_a_front_itself() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for header in [
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Something: else",
        "Forwarded: for=10.0.0.1",
        "Via: 1.1 proxy",
        "X-Real-IP: 10.0.0.1",
    ] {
        client
            .send(format!(
                "GET {TURN} HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\n"
            ))
            .await;
        assert_eq!(client.response().await.status, 404, "{header}");
    }
    assert_eq!(house.leases(), 0);
    assert_eq!(
        house.metric("faucet_turns_total{pool=\"\",outcome=\"refused\"}"),
        6.0
    );
    granted(&client.get(TURN).await);
    assert_eq!(
        house.metric("faucet_turns_total{pool=\"/\",outcome=\"granted\"}"),
        1.0
    );
}

#[tokio::test]
async fn turns_of_one_address_are_bounded() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let mut fronts = vec![with_turn(&house).await];
    for count in 1..64 {
        let mut front = house.client().await;
        front.start_get(TURN).await;
        house.queued(count).await;
        fronts.push(front);
    }
    let mut one_more = house.client().await;
    refused(&one_more.get(TURN).await, "queue_full");
    // Requests are bounded by the queue alone.
    one_more.start_get("/").await;
    house.queued(64).await;
    drop(fronts);
    assert_eq!(one_more.response().await.status, 200);
    house.idle().await;
    granted(&one_more.get(TURN).await);
}

#[tokio::test]
async fn a_drain_ends_turns() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut held = with_turn(&house).await;
    let mut waiting = house.client().await;
    waiting.start_get(TURN).await;
    house.queued(1).await;
    house.pool.roster.set_draining();
    house.front.connections.shut_down_all(Shutdown::Lenient);
    refused(&waiting.response().await, "draining");
    let late = ask(&mut held, "/late").await;
    refused(&late, "draining");
    assert_eq!(late.header("connection"), Some("close"));
    assert!(held.is_closed().await && waiting.is_closed().await);
    within("idle", house.pool.table.idle()).await;
    assert_eq!(worker.count(), 0);
    drop(gate);
}

#[tokio::test]
async fn a_front_that_asks_while_the_server_ends_is_told() {
    let worker = Upstream::echo().await;
    let mut pod = Pod::start(&worker).await;
    let mut fronts = Vec::new();
    for _ in 0..4 {
        let mut front = pod.client().await;
        assert_eq!(ask(&mut front, "/before").await.status, 200);
        fronts.push(front);
    }
    let mut client = pod.client().await;
    assert_eq!(client.get("/before").await.status, 200);
    let new = [pod.client().await, pod.client().await];

    let drain = pod.drain();
    // A client's connection that is not in use is closed; a front may be sending on its own.
    assert!(client.is_closed().await);
    let body = "x".repeat(1_000_000);
    for (front, method) in fronts.iter_mut().zip(["GET", "POST", "GET", "POST"]) {
        start(front, method, "/late", &body).await;
        let late = front.response().await;
        refused(&late, "draining");
        assert_eq!(late.header("connection"), Some("close"));
        assert!(front.is_closed().await);
    }
    // And so may be whoever has just connected.
    for mut new in new {
        let late = new.get("/late").await;
        assert_eq!((late.status, late.cause()), (503, "draining"));
        assert_eq!(late.header("faucet-busy"), None);
        assert!(new.is_closed().await);
    }
    pod.done(drain).await;
    assert!(worker.targets().iter().all(|target| target == "/before"));
}

#[tokio::test]
async fn a_front_that_says_nothing_does_not_keep_the_server() {
    let worker = Upstream::echo().await;
    let mut pod = Pod::start(&worker).await;
    let mut front = pod.client().await;
    assert_eq!(ask(&mut front, "/before").await.status, 200);
    // Its connection has given its machinery back by now, as idle ones do.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let mut turn = pod.client().await;
    granted(&turn.get(TURN).await);
    let mut new = pod.client().await;
    let stop = pod.stop();
    pod.done(stop).await;
    assert!(front.is_closed().await && turn.is_closed().await && new.is_closed().await);
}

#[tokio::test]
async fn what_is_in_flight_when_the_server_ends_is_answered() {
    let (worker, gate) = Upstream::gated().await;
    let mut pod = Pod::start(&worker).await;
    let mut front = pod.client().await;
    start(&mut front, "GET", "/first", "").await;
    worker.arrived(1).await;
    let stop = pod.stop();
    pod.closed().await;
    gate.open(1);
    let answer = front.response().await;
    assert_eq!((answer.status, answer.text()), (200, "/first"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(front.is_closed().await);
    pod.done(stop).await;
}

#[tokio::test]
async fn those_in_the_backlog_are_let_in_before_the_door_closes() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |_| {}).await;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = faucet_core::front::bind(address).expect("a free port");
    let address = listener.local_addr().expect("bound");
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client = Client::connect(address).await;
        start(&mut client, "POST", &format!("/{number}"), "body").await;
        clients.push(client);
    }
    // Nobody accepts yet, and nobody will after these.
    let front = house.front.clone();
    house.pool.roster.set_draining();
    front.connections.shut_down_all(Shutdown::Lenient);
    front.connections.close_door();
    let listener = tokio::net::TcpListener::from_std(listener).expect("a runtime");
    // The house's own listener takes the first word.
    until("one door is closed", || {
        std::net::TcpStream::connect(house.address).is_err()
    })
    .await;
    front.connections.close_door();
    within("the loop ends", accept(front, listener)).await;
    for client in &mut clients {
        refused(&client.response().await, "draining");
        assert!(client.is_closed().await);
    }
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    assert_eq!(worker.count(), 0);
}

#[tokio::test]
async fn a_crowd_of_fronts_takes_turns() {
    let worker = Upstream::start(|seen: Seen, wire: Wire| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        wire.ok(seen.target).await
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let fronts: Vec<_> = (0..20)
        .map(|number| {
            let address = house.address;
            tokio::spawn(async move {
                let mut front = Client::connect(address).await;
                for round in 0..10 {
                    let target = format!("/{number}/{round}");
                    let mut response = ask(&mut front, &target).await;
                    while response.status == 503 {
                        refused(&response, "busy");
                        if (number + round) % 7 == 0 {
                            // It leaves while it waits, and comes back.
                            front.start_get(TURN).await;
                            front = Client::connect(address).await;
                        }
                        granted(&front.get(TURN).await);
                        response = ask(&mut front, &target).await;
                    }
                    assert_eq!((response.status, response.text()), (200, &*target));
                }
            })
        })
        .collect();
    for front in fronts {
        front.await.expect("every request is served");
    }
    house.idle().await;
    assert_eq!((worker.peak(), worker.count()), (1, 200));
}
