//! What becomes of a request whose worker answers with what is no answer, or stops in the middle of one: the client is
//! told, the worker serves the next.

mod common;

use std::sync::Arc;

use common::native::{stream, Asked, Control, NativeWorker, CANCEL};
use common::{house, until, Client, Gate, House, Incomplete, Plan, Seen, Upstream, Wire, SOON};

const END: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend";

/// Says that, and nothing more on this connection; answers `/after` well.
async fn saying(bytes: impl Into<Vec<u8>>) -> Upstream {
    let bytes: Arc<Vec<u8>> = Arc::new(bytes.into());
    Upstream::start(move |seen: Seen, mut wire: Wire| {
        let bytes = bytes.clone();
        async move {
            if seen.target == "/after" {
                return wire.ok("right").await;
            }
            wire.raw(bytes.as_slice()).await;
            // Until the front closes it.
            while !wire.read_some().await.is_empty() {}
            None
        }
    })
    .await
}

/// Says the same again and again, for as long as somebody takes it.
async fn repeating(first: &'static str, again: impl Into<String>) -> Upstream {
    let again = again.into();
    let piece = Arc::new(again.repeat(1 + 16_000 / again.len()));
    Upstream::start(move |seen: Seen, mut wire: Wire| {
        let piece = piece.clone();
        async move {
            use tokio::io::AsyncWriteExt;
            if seen.target == "/after" {
                return wire.ok("right").await;
            }
            wire.raw(first).await;
            while wire.stream.write_all(piece.as_bytes()).await.is_ok() {}
            None
        }
    })
    .await
}

fn impatient(plan: &mut Plan) {
    plan.limits.idle_timeout = Some(SOON);
    plan.limits.body_memory = 1000;
}

/// The worker is free, and whole answers come from it.
async fn serves_on(house: &House) {
    house.idle().await;
    assert_eq!(house.client().await.get("/after").await.text(), "right");
}

async fn ask(house: &House) -> Result<(u16, String), Incomplete> {
    let mut client = house.client().await;
    client.start_get("/").await;
    let response = client.try_response(false).await?;
    Ok((response.status, response.cause().to_owned()))
}

/// An error of ours, or an answer that is seen to be incomplete.
async fn is_told(house: &House, what: &str) {
    match ask(house).await {
        Ok((status, _)) => assert_eq!(status, 502, "{what}"),
        Err(broken) => assert_eq!(broken.head, Some(200), "{what}"),
    }
}

#[tokio::test]
async fn a_final_status_below_200_is_a_bad_response() {
    for answer in [
        "HTTP/1.1 123 Dunno\r\nContent-Length: 4\r\n\r\nbody",
        "HTTP/1.1 123 Dunno\r\n\r\n",
        "HTTP/1.1 199 Dunno\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        "HTTP/1.0 150 Dunno\r\n\r\nbody",
        "HTTP/1.1 100 Continue\r\nDate: x\r\ncontent-LENGTH: 4\r\n\r\nbody",
        "HTTP/1.1 102 Dunno\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 103 Dunno\r\nContent-Type: text/plain\r\nContent-Length:4\r\n\r\nbody",
        "HTTP/1.1 103 Dunno\r\nDate: x\r\nContent-Type: application/json\r\n\r\n",
        "\r\n\r\nHTTP/1.1 123 Dunno\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 123 Dunno\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nContent-Type: text/plain\r\n\r\nbody",
        "HTTP/1.1 99 Dunno\r\nContent-Length: 4\r\n\r\nbody",
    ] {
        let worker = saying(answer).await;
        let house = house(&[&worker], |_| {}).await;
        for _ in 0..2 {
            let told = ask(&house).await.expect("complete");
            assert_eq!(told, (502, "bad_response".to_owned()), "{answer:?}");
            serves_on(&house).await;
        }
    }
}

#[tokio::test]
async fn a_final_status_below_200_is_told_however_slowly_it_comes() {
    let worker = Upstream::start(|seen: Seen, mut wire: Wire| async move {
        if seen.target == "/after" {
            return wire.ok("right").await;
        }
        for byte in b"HTTP/1.1 103 Dunno\r\nLink: a\r\nContent-Length: 4\r\n\r\nbody" {
            wire.raw([*byte]).await;
            tokio::task::yield_now().await;
        }
        while !wire.read_some().await.is_empty() {}
        None
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let told = ask(&house).await.expect("complete");
    assert_eq!(told, (502, "bad_response".to_owned()));
    serves_on(&house).await;
}

#[tokio::test]
async fn interim_responses_are_passed_over() {
    for (interim, pieces) in [
        ("HTTP/1.1 100 Continue\r\n\r\n", 1),
        (
            "HTTP/1.1 102 Processing\r\nX-Content-Length: 4\r\n\r\n",
            1000,
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nLink: </b>\r\n\r\n\
             HTTP/1.1 100 Continue\n\nHTTP/1.1 102 Processing\r\n\r\n",
            7,
        ),
    ] {
        let worker = Upstream::start(move |seen: Seen, mut wire: Wire| async move {
            let bytes = format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
            for piece in bytes.as_bytes().chunks(1 + bytes.len() / pieces) {
                wire.raw(piece).await;
                tokio::task::yield_now().await;
            }
            wire.raw(&seen.target[..2]).await;
            wire.end()
        })
        .await;
        let house = house(&[&worker], |_| {}).await;
        let mut client = house.client().await;
        for target in ["/1", "/2", "/3"] {
            assert_eq!(client.get(target).await.text(), target);
        }
        assert_eq!(worker.connections(), 1);
    }
}

#[tokio::test]
async fn a_worker_that_has_not_begun_its_answer_may_take_its_time() {
    let (slow, gate) = Upstream::gated().await;
    let (slow_house, clock) = (house(&[&slow], impatient).await, silent().await);
    let mut client = slow_house.client().await;
    client.start_get("/slow").await;
    slow.arrived(1).await;
    clock.ticks(2).await;
    gate.open(1);
    assert_eq!(client.response().await.text(), "/slow");
}

#[tokio::test]
async fn a_head_without_end_is_a_bad_response() {
    for (first, again) in [
        ("HTTP/1.1 200 OK\r\nX: ", "y"),
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        ("HTTP/1.1 200 ", "O"),
        ("HTTP/1.1 100 Continue\r\n", "X: y\r\n"),
        ("", "\r\n"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"),
        ("garbage", "garbage"),
    ] {
        let worker = repeating(first, again).await;
        let house = house(&[&worker], impatient).await;
        let told = ask(&house).await.expect("complete");
        assert_eq!(told, (502, "bad_response".to_owned()), "{first}{again}");
        serves_on(&house).await;
    }
}

/// What stops within its answer, over and over: each end of it takes one `idle_timeout`.
struct Clock {
    house: House,
    _worker: Upstream,
}

async fn silent() -> Clock {
    let worker = saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    Clock {
        house: house(&[&worker], impatient).await,
        _worker: worker,
    }
}

impl Clock {
    async fn ticks(&self, times: usize) {
        for _ in 0..times {
            let _ = ask(&self.house).await;
        }
    }
}

#[tokio::test]
async fn a_worker_that_stops_within_its_head_is_told_after_a_while() {
    for half in [
        "H",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nX: y\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nDate: x\r\n\r\n",
    ] {
        let worker = saying(half).await;
        let house = house(&[&worker], impatient).await;
        let told = ask(&house).await.expect("complete");
        assert_eq!(told, (502, "broken_off".to_owned()), "{half:?}");
        assert_eq!(worker.count(), 1);
        serves_on(&house).await;
    }
}

#[tokio::test]
async fn a_worker_that_sends_less_than_it_announced_is_told_after_a_while() {
    let worker = saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    let small = house(&[&worker], impatient).await;
    let told = ask(&small).await.expect("complete");
    assert_eq!(told, (502, "broken_off".to_owned()));
    serves_on(&small).await;

    for length in ["100000", "9223372036854775807"] {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nhalf");
        let worker = saying(answer).await;
        let house = house(&[&worker], impatient).await;
        let broken = ask(&house).await.expect_err("incomplete");
        assert_eq!(broken.head, Some(200), "{length}");
        serves_on(&house).await;
        until("it is counted", || house.counted(200, "broken_off") == 1.0).await;
    }
}

#[tokio::test]
async fn nobody_waits_for_silence_without_an_idle_timeout() {
    let worker = saying("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
    let house = house(&[&worker], |plan| plan.limits.idle_timeout = None).await;
    let mut client = house.client().await;
    client.start_get("/").await;
    worker.arrived(1).await;
    silent().await.ticks(2).await;
    assert_eq!(house.leases(), 1);
    worker.kill();
    assert_eq!(client.response().await.cause(), "worker_died");
}

/// Writes two events with a pause in between that a gate ends.
async fn events(head: &'static str, first: &'static str, last: &'static str) -> (Upstream, Gate) {
    let gate = Gate::default();
    let inner = gate.clone();
    let worker = Upstream::start(move |seen: Seen, mut wire: Wire| {
        let gate = inner.clone();
        async move {
            if seen.target == "/after" {
                return wire.ok("right").await;
            }
            wire.raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n{first}"))
                .await;
            gate.pass().await;
            wire.raw(last).await;
            None
        }
    })
    .await;
    (worker, gate)
}

const CHUNKED: (&str, &str, &str) = (
    "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n",
    "5\r\nfirst\r\n",
    "4\r\nlast\r\n0\r\n\r\n",
);

async fn start(house: &House) -> Client {
    let mut client = house.client().await;
    client.start_get("/").await;
    while !client.unread.windows(5).any(|five| five == b"first") {
        assert!(client.fill().await);
    }
    client
}

#[tokio::test]
async fn a_stream_may_be_quiet_for_as_long_as_somebody_listens() {
    for (head, first, last) in [CHUNKED, ("", "first", "last")] {
        let (worker, gate) = events(head, first, last).await;
        let house = house(&[&worker], impatient).await;
        let mut client = start(&house).await;
        silent().await.ticks(2).await;
        assert_eq!(house.leases(), 1);
        gate.open(1);
        assert_eq!(client.response().await.text(), "firstlast");
    }
}

#[tokio::test]
async fn a_native_stream_may_be_quiet_though_its_length_is_known() {
    let gate = Gate::default();
    let waits = gate.clone();
    let worker = NativeWorker::start(Control::Mute, move |_: Asked| {
        let gate = waits.clone();
        async move {
            let (mut answer, writer) = stream();
            answer.headers_mut().insert("content-length", 9.into());
            tokio::spawn(async move {
                let _ = writer.send("first".into()).await;
                gate.pass().await;
                let _ = writer.send("last".into()).await;
            });
            answer
        }
    });
    let house = worker.house(CANCEL, impatient).await;
    let mut client = start(&house).await;
    silent().await.ticks(2).await;
    gate.open(1);
    assert_eq!(client.response().await.text(), "firstlast");
}

#[tokio::test]
async fn a_quiet_stream_ends_when_nobody_listens_any_more() {
    let (worker, _gate) = events(CHUNKED.0, CHUNKED.1, CHUNKED.2).await;
    let house = house(&[&worker], impatient).await;
    drop(start(&house).await);
    serves_on(&house).await;
}

#[tokio::test]
async fn a_body_without_end_is_broken_off_when_nobody_takes_it() {
    for head in [
        "HTTP/1.1 200 OK\r\n\r\nfirst",
        "HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000\r\n\r\nfirst",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
    ] {
        let piece = "again".repeat(10_000);
        let again = match head.contains("chunked") {
            true => format!("{:x}\r\n{piece}\r\n", piece.len()),
            false => piece,
        };
        let worker = repeating(head, again).await;
        let house = house(&[&worker], |plan| plan.limits.body_memory = 1000).await;
        drop(start(&house).await);
        serves_on(&house).await;
    }
}

#[tokio::test]
async fn framing_that_cannot_be_is_never_a_whole_answer() {
    let huge = "f".repeat(16);
    let lines = "X: y\r\n".repeat(10_000);
    for body in [
        format!("1{}\r\nbody", "0".repeat(16)),
        format!("{huge}\r\nbody\r\n"),
        format!("{huge}0\r\nbody\r\n"),
        "-1\r\nbody\r\n0\r\n\r\n".to_owned(),
        "4;".to_owned() + &"x".repeat(100_000),
        format!("4\r\nbody\r\n0\r\n{lines}"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let worker = saying(answer).await;
        let house = house(&[&worker], impatient).await;
        let what = &body[..body.len().min(40)];
        let mut client = house.client().await;
        client.start_get("/").await;
        if what.starts_with("ffff") {
            // A chunk of that size may be on its way; its client does not wait for it.
            drop(client);
        } else {
            match client.try_response(false).await {
                Ok(response) => assert_eq!(response.status, 502, "{what}"),
                Err(broken) => assert_eq!(broken.head, Some(200), "{what}"),
            }
        }
        serves_on(&house).await;
    }
    for length in [
        "-1",
        "18446744073709551615",
        "18446744073709551616",
        "3, 4",
        "0x3",
    ] {
        let worker = saying(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nend"
        ))
        .await;
        let house = house(&[&worker], impatient).await;
        is_told(&house, length).await;
        serves_on(&house).await;
    }
}

#[tokio::test]
async fn a_worker_that_never_reads_the_request_is_given_up_after_a_while() {
    let gate = Gate::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    let inner = gate.clone();
    tokio::spawn(async move {
        let (_kept, _) = listener.accept().await.expect("a connection");
        inner.pass().await;
    });
    let house = House::start(vec![address], impatient).await;
    let mut client = house.client().await;
    let response = client.post("/", &vec![b'x'; 20_000_000]).await;
    assert_eq!((response.status, response.cause()), (502, "broken_off"));
    house.idle().await;
    gate.open(1);
}

/// httpuv writes head and body separately: what it was told not to announce comes a moment later.
#[tokio::test]
async fn what_comes_after_the_end_is_nobody_elses_answer() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\n\r\n",
    ] {
        let worker = Upstream::start(move |seen: Seen, mut wire: Wire| async move {
            if seen.target == "/after" {
                return wire.ok("right").await;
            }
            wire.raw(head).await;
            // When the next request has come: the system sends the rest with its acknowledgement.
            let next = wire.read_some().await;
            if !next.is_empty() {
                wire.raw(END).await;
            }
            None
        })
        .await;
        let house = house(&[&worker], |_| {}).await;
        let mut client = house.client().await;
        assert!(client.get("/").await.status < 400);
        assert_eq!(client.get("/after").await.text(), "right", "{head:?}");
    }
    for rest in ["more", END] {
        let worker = saying(format!("{END}{rest}")).await;
        let house = house(&[&worker], |_| {}).await;
        let mut client = house.client().await;
        assert_eq!(client.get("/").await.text(), "end");
        assert_eq!(client.get("/after").await.text(), "right", "{rest:?}");
    }
}

#[tokio::test]
async fn a_worker_that_answers_early_and_hangs_up_is_back_for_the_next() {
    let worker = Upstream::start(|seen: Seen, wire: Wire| async move {
        let wire = wire.answer(413, "Connection: close\r\n", seen.target).await;
        drop(wire);
        None
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for _ in 0..3 {
        assert_eq!(client.post("/", b"body").await.status, 413);
    }
    assert_eq!(worker.connections(), 3);
}
