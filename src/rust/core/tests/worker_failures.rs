//! What a client sees when its worker fails, and what the next client sees.

mod common;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use common::{house, until, Gate, House, Seen, Upstream, Wire, SOON};

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    faucet_core::front::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .expect("a free port")
        .local_addr()
        .expect("bound")
}

/// Closes the connection without a word when asked for `/die`.
async fn mortal() -> Upstream {
    Upstream::start(|seen: Seen, wire: Wire| async move {
        if seen.target == "/die" {
            return None;
        }
        wire.ok(seen.target).await
    })
    .await
}

#[tokio::test]
async fn a_worker_that_dies_at_work_is_told_and_the_request_not_repeated() {
    for method in ["GET", "POST", "PUT", "DELETE"] {
        let workers = [mortal().await, mortal().await];
        let house = house(&workers.iter().collect::<Vec<_>>(), |_| {}).await;
        let mut client = house.client().await;
        client
            .send(format!(
                "{method} /die HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
            ))
            .await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.cause()),
            (502, "worker_died"),
            "{method}"
        );
        let seen: usize = workers.iter().map(Upstream::count).sum();
        assert_eq!(seen, 1, "{method}");
        house.idle().await;
        // The client's own connection is fine.
        assert_eq!(client.get("/after").await.text(), "/after");
    }
}

/// The whole process is gone, on a connection that had been used before.
#[tokio::test]
async fn a_process_that_dies_at_work_is_told_and_the_request_not_repeated() {
    for method in ["GET", "POST"] {
        let other = Upstream::echo().await;
        let (worker, gate) = Upstream::gated().await;
        let house = house(&[&other, &worker], |_| {}).await;
        let mut client = house.client().await;
        gate.open(1);
        assert_eq!(client.get("/before").await.text(), "/before");
        assert_eq!(worker.count(), 1);
        client
            .send(format!(
                "{method} /die HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
            ))
            .await;
        worker.arrived(2).await;
        worker.kill();
        let response = client.response().await;
        assert_eq!(
            (response.status, response.cause()),
            (502, "worker_died"),
            "{method}"
        );
        assert_eq!(other.count(), 0, "{method}");
        assert_eq!(client.get("/after").await.text(), "/after");
    }
}

/// Closes each connection after its first answer, without having said so.
async fn forgetful() -> Upstream {
    Upstream::start(|seen: Seen, wire: Wire| async move {
        wire.ok(seen.target).await;
        None
    })
    .await
}

#[tokio::test]
async fn an_idle_connection_that_was_closed_is_replaced_for_every_method() {
    let worker = forgetful().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = house.client().await;
    for number in 0..5 {
        until("the worker has closed", || worker.open() == 0).await;
        let response = match number % 2 {
            0 => client.get("/x").await,
            _ => client.post("/x", b"body").await,
        };
        assert_eq!(response.status, 200);
        assert_eq!(worker.count(), number + 1);
    }
}

/// Long after its last answer, and nobody listens any more or someone else does.
#[tokio::test]
async fn a_connection_that_was_closed_while_it_rested_is_replaced_for_every_method() {
    for method in ["GET", "POST"] {
        let worker = Upstream::echo().await;
        let address = worker.address;
        let house = house(&[&worker], |_| {}).await;
        let mut client = house.client().await;
        assert_eq!(client.get("/first").await.status, 200);
        worker.kill();
        until("the worker is gone", || worker.open() == 0).await;
        client
            .send(format!(
                "{method} /next HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        house.queued(1).await;
        assert_eq!(house.leases(), 0);
        let _next = Upstream::start_at(address, |seen: Seen, wire: Wire| async move {
            wire.ok(seen.target).await
        })
        .await;
        assert_eq!(client.response().await.text(), "/next");
    }
}

/// Reads the second request of its first connection, then closes: to the front this is the moment
/// when a worker closes an idle connection while a request is on its way.
async fn closing_in_the_wrong_moment() -> Upstream {
    let requests = Arc::new(AtomicUsize::new(0));
    Upstream::start(move |seen: Seen, wire: Wire| {
        let number = requests.fetch_add(1, Ordering::SeqCst);
        async move {
            if number == 1 {
                return None;
            }
            // After an empty body the connection would not be used again.
            let body = match seen.body.is_empty() {
                true => b"none".to_vec(),
                false => seen.body,
            };
            wire.ok(body).await
        }
    })
    .await
}

#[tokio::test]
async fn a_stale_connection_is_replaced_when_repeating_does_no_harm() {
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let worker = closing_in_the_wrong_moment().await;
        let house = house(&[&worker], |_| {}).await;
        let mut client = house.client().await;
        assert_eq!(client.get("/first").await.status, 200);
        client
            .send(format!(
                "{method} /again HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
            ))
            .await;
        let head = method == "HEAD";
        let response = client.try_response(head).await.expect("complete");
        assert_eq!(response.status, 200, "{method}");
        if !head {
            assert_eq!(response.text(), "body", "the body was sent again");
        }
        assert_eq!(worker.targets(), ["/first", "/again", "/again"]);
        assert_eq!(worker.connections(), 2);
    }
}

#[tokio::test]
async fn a_stale_connection_is_an_error_when_repeating_could_do_harm() {
    for method in ["POST", "PATCH"] {
        let worker = closing_in_the_wrong_moment().await;
        let house = house(&[&worker], |_| {}).await;
        let mut client = house.client().await;
        assert_eq!(client.get("/first").await.status, 200);
        client
            .send(format!(
                "{method} /once HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
            ))
            .await;
        let response = client.response().await;
        assert_eq!(
            (response.status, response.cause()),
            (502, "worker_died"),
            "{method}"
        );
        assert_eq!(worker.targets(), ["/first", "/once"]);
    }
}

#[tokio::test]
async fn a_worker_that_cannot_be_reached_is_passed_over() {
    let worker = Upstream::echo().await;
    for order in [[worker.address, nobody()], [nobody(), worker.address]] {
        let house = House::start(order.to_vec(), |_| {}).await;
        let mut client = house.client().await;
        for number in 0..3 {
            let target = format!("/{number}");
            assert_eq!(client.post(&target, b"body").await.text(), target);
        }
    }
    assert_eq!(worker.count(), 6);
}

#[tokio::test]
async fn whoever_met_an_unreachable_worker_keeps_the_place_in_the_queue() {
    let (worker, gate) = Upstream::gated().await;
    let (mortal, _) = Upstream::gated().await;
    let house = house(&[&worker, &mortal], |_| {}).await;
    let mut clients = Vec::new();
    for number in 0..5 {
        let mut client = house.client().await;
        client.start_get(&format!("/{number}")).await;
        match number {
            // The last one added is the first one used.
            0 => mortal.arrived(1).await,
            1 => worker.arrived(1).await,
            _ => house.queued(number - 1).await,
        }
        clients.push(client);
    }
    mortal.kill();
    assert_eq!(clients[0].response().await.cause(), "worker_died");
    // The next in the queue got the dead worker, and is back.
    house.queued(3).await;
    gate.open(4);
    for client in &mut clients[1..] {
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!(worker.targets(), ["/1", "/2", "/3", "/4"]);
}

#[tokio::test]
async fn no_worker_can_be_reached() {
    let addresses = (0..8).map(|_| nobody()).collect();
    let house = House::start(addresses, |_| {}).await;
    let mut client = house.client().await;
    let response = client.post("/", b"body").await;
    assert_eq!(
        (response.status, response.cause()),
        (502, "worker_unreachable")
    );
    assert_eq!(house.leases(), 0);
}

#[tokio::test]
async fn a_request_waits_for_a_worker_that_comes_back() {
    let address = nobody();
    let house = House::start(vec![address], |_| {}).await;
    let mut client = house.client().await;
    client.start_post("/patient", b"body").await;
    house.queued(1).await;
    let worker = Upstream::start_at(address, |seen: Seen, wire: Wire| async move {
        wire.ok(seen.target).await
    })
    .await;
    assert_eq!(client.response().await.text(), "/patient");
    assert_eq!(worker.count(), 1);
}

#[tokio::test]
async fn a_request_does_not_wait_for_ever_for_a_worker_to_come_back() {
    let house = House::start(vec![nobody()], |plan| {
        plan.pool.queue_timeout = Some(SOON);
    })
    .await;
    let response = house.client().await.get("/").await;
    assert_eq!((response.status, response.cause()), (503, "queue_timeout"));
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_bad_response() {
    for answer in [
        "hello\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
        "\x15\x03\x01\0\x02\x02\n\r\n\r\n",
    ] {
        let worker = Upstream::start(move |seen: Seen, mut wire: Wire| async move {
            if seen.target == "/after" {
                return wire.ok("right").await;
            }
            wire.raw(answer).await;
            wire.end()
        })
        .await;
        let house = house(&[&worker], |_| {}).await;
        let mut client = house.client().await;
        for _ in 0..2 {
            let response = client.get("/").await;
            assert_eq!(
                (response.status, response.cause()),
                (502, "bad_response"),
                "{answer:?}"
            );
            assert_eq!(client.get("/after").await.text(), "right");
        }
    }
}

#[tokio::test]
async fn a_worker_that_dies_within_its_head_is_told() {
    for half in ["HTTP/1.", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let worker = Upstream::start(move |_, mut wire: Wire| async move {
            wire.raw(half).await;
            None
        })
        .await;
        let house = house(&[&worker], |_| {}).await;
        let response = house.client().await.get("/").await;
        assert_eq!(
            (response.status, response.cause()),
            (502, "worker_died"),
            "{half:?}"
        );
        assert_eq!(worker.count(), 1);
        house.idle().await;
    }
}

#[tokio::test]
async fn a_worker_that_dies_within_its_body_is_never_seen_as_complete() {
    for (head, body) in [
        ("Content-Length: 100000", "half"),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n"),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n5\r\nre"),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n0\r\n"),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\nnonsense"),
        ("Content-Length: 100000", "half of what was announced"),
    ] {
        let gate = Gate::default();
        let inner = gate.clone();
        let worker = Upstream::start(move |seen: Seen, mut wire: Wire| {
            let gate = inner.clone();
            async move {
                if seen.target == "/after" {
                    return wire.ok("right").await;
                }
                wire.raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"))
                    .await;
                gate.pass().await;
                None
            }
        })
        .await;
        let house = house(&[&worker], |plan| plan.limits.body_memory = 1000).await;
        let mut client = house.client().await;
        client.start_get("/").await;
        while !client.unread.windows(4).any(|four| four == b"half") {
            assert!(client.fill().await, "{head} {body:?}");
        }
        gate.open(1);
        let broken = client.try_response(false).await;
        assert_eq!(
            broken.err().and_then(|broken| broken.head),
            Some(200),
            "{head} {body:?}"
        );
        house.idle().await;
        assert_eq!(house.client().await.get("/after").await.text(), "right");
        until("it is counted", || house.counted(200, "worker_died") == 1.0).await;
    }
}

/// Head, half of the body and the end come at once: still no bare closed connection.
#[tokio::test]
async fn a_worker_that_dies_right_behind_its_head_is_told_or_seen() {
    for (head, body) in [
        ("Content-Length: 100000", "half"),
        ("Transfer-Encoding: chunked", ""),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n"),
        ("Transfer-Encoding: chunked", "nonsense\r\n"),
    ] {
        let worker = Upstream::start(move |_, mut wire: Wire| async move {
            wire.raw(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"))
                .await;
            None
        })
        .await;
        let house = house(&[&worker], |plan| plan.limits.body_memory = 1000).await;
        let mut client = house.client().await;
        client.start_get("/").await;
        match client.try_response(false).await {
            Ok(response) => assert_eq!((response.status, response.cause()), (502, "worker_died")),
            Err(broken) => assert_eq!(broken.head, Some(200), "{head} {body:?}"),
        }
        assert_eq!(worker.count(), 1);
    }
}

/// Small answers are complete before their head is passed on: a proper error is still possible.
#[tokio::test]
async fn a_worker_that_dies_within_a_small_body_is_told() {
    let worker = Upstream::start(|_, mut wire: Wire| async move {
        wire.raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            .await;
        None
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let response = house.client().await.get("/").await;
    assert_eq!((response.status, response.cause()), (502, "worker_died"));
}

#[tokio::test]
async fn an_answer_before_the_request_was_read_is_passed_on() {
    let worker = {
        // The large body is not read before the answer, and the connection stays open for a while.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut first = [0; 1000];
                    let _ = stream.read(&mut first).await;
                    let _ = stream
                        .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlong")
                        .await;
                    let mut rest = Vec::new();
                    let _ = stream.read_to_end(&mut rest).await;
                });
            }
        });
        address
    };
    let house = House::start(vec![worker], |_| {}).await;
    let mut client = house.client().await;
    for _ in 0..2 {
        let response = client.post("/", &vec![b'x'; 20_000_000]).await;
        assert_eq!((response.status, response.text()), (413, "long"));
    }
    house.idle().await;
}
