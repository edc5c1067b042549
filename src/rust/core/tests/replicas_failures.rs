//! Replicas that cannot be reached, break off, or never answer.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use common::dns::Dns;
use common::replicas::{ips, Port, Replicas, NAME, NEVER};
use common::{Gate, Seen, Wire, SOON};
use faucet_core::ops::status::State;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_refused_request_goes_to_another_replica_and_the_first_is_back_when_it_is() {
    let port = Port::new();
    let one = port.echo(1).await;
    let (two, gate) = port.gated(2).await;
    let dns = Dns::of(NAME, &ips(1..=2));
    let server = Replicas::ready(&port, &dns, &[1, 2], |_| {}).await;
    one.kill();
    port.vacant(1).await;
    gate.open(20);
    for number in 0..10 {
        // Two at a time, so that one of them meets the dead one until it is set aside.
        let mut clients = [server.client().await, server.client().await];
        for client in &mut clients {
            client.start_post(&format!("/{number}"), b"body").await;
        }
        for client in &mut clients {
            assert_eq!(client.response().await.text(), "2");
        }
    }
    assert_eq!(two.count(), 20);
    assert_eq!(server.state(port.at(1)), Some(State::Suspended));
    let _one = port.echo(1).await;
    server.serve(&port, &[1, 2]).await;
    // It serves, too.
    let mut clients = [server.start_get("/").await, server.start_get("/").await];
    gate.open(2);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    let worker = server.at(port.at(1)).expect("a worker");
    assert!(worker.requests > 0);
}

#[tokio::test]
async fn a_request_is_not_repeated_when_its_replica_breaks_off() {
    for method in ["POST", "GET", "PATCH"] {
        let port = Port::new();
        let asked = Arc::new(AtomicUsize::new(0));
        let mut replicas = Vec::new();
        for number in 1..=3 {
            let asked = asked.clone();
            let upstream = port
                .start(number, move |seen: Seen, wire: Wire| {
                    let asked = asked.clone();
                    async move {
                        if seen.target == "/die" {
                            asked.fetch_add(1, Ordering::SeqCst);
                            return None;
                        }
                        wire.ok("well").await
                    }
                })
                .await;
            replicas.push(upstream);
        }
        let dns = Dns::of(NAME, &ips(1..=3));
        let server = Replicas::ready(&port, &dns, &[1, 2, 3], |_| {}).await;
        let mut client = server.client().await;
        client
            .send(format!(
                "{method} /die HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
            ))
            .await;
        let response = client.response().await;
        assert_eq!((response.status, response.cause()), (502, "worker_died"));
        assert_eq!(asked.load(Ordering::SeqCst), 1, "{method}");
        assert_eq!(client.get("/").await.text(), "well");
        // It accepts, so it is back.
        server.serve(&port, &[1, 2, 3]).await;
    }
}

/// In the middle of an answer: the client sees that it is not complete.
#[tokio::test]
async fn half_an_answer_is_no_answer() {
    let port = Port::new();
    let _one = port
        .start(1, |_, mut wire: Wire| async move {
            wire.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
                .await;
            None
        })
        .await;
    let dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let mut client = server.client().await;
    client.start_get("/").await;
    match client.try_response(false).await {
        Ok(response) => assert_eq!(response.status, 502),
        Err(incomplete) => assert_eq!(incomplete.head, Some(200)),
    }
    server.serve(&port, &[1]).await;
}

/// Accepts connections and resets each.
async fn resetting(port: &Port, replica: u16) -> (tokio::task::JoinHandle<()>, Arc<AtomicUsize>) {
    port.vacant(replica).await;
    let listener = faucet_core::front::bind(port.at(replica)).expect("a free port");
    let listener = TcpListener::from_std(listener).expect("a runtime");
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let stream = stream.into_std().expect("a live socket");
            let stream = Socket::from(stream);
            stream.set_linger(Some(Duration::ZERO)).expect("an option");
        }
    });
    (task, count)
}

#[tokio::test]
async fn one_that_accepts_and_resets_is_looked_at_ever_more_rarely() {
    let port = Port::new();
    let _two = port.echo(2).await;
    let (task, connections) = resetting(&port, 1).await;
    let dns = Dns::of(NAME, &ips(1..=2));
    let server = Replicas::start(&port.url(), Some(&dns), |_| {});
    server
        .until("both are known", || server.status().workers.len() == 2)
        .await;
    server.is(port.at(2), State::Ready).await;
    let mut lost = 0;
    for _ in 0..60 {
        // Two at a time: one of them meets it if it is in service.
        let mut clients = [server.start_get("/").await, server.start_get("/").await];
        for client in &mut clients {
            match client.response().await.status {
                200 => {}
                502 => lost += 1,
                status => panic!("{status}"),
            }
        }
    }
    // 60 pairs are served while it is looked at a few times: the first pauses are 0, 250 and 500 ms.
    assert!(lost <= 10, "{lost} requests were lost");
    let connections = connections.load(Ordering::SeqCst);
    assert!(connections <= 30, "{connections} connections");
    task.abort();
}

#[tokio::test]
async fn one_that_never_answers_is_set_aside_until_it_does() {
    for slots in [1, 2] {
        let port = Port::new();
        let (one, gate) = port.gated(1).await;
        let mut dns = Dns::of(NAME, &ips([1]));
        let server = Replicas::ready(&port, &dns, &[1], |setup| {
            setup.replicas.slots = slots;
            setup.pool.timeout = Some(SOON);
        })
        .await;
        let mut client = server.client().await;
        let response = client.post("/", b"body").await;
        assert_eq!((response.status, response.cause()), (504, "timeout"));
        server.is(port.at(1), State::Suspended).await;
        let _two = port.echo(2).await;
        dns.set(NAME, &ips(1..=2));
        server.is(port.at(2), State::Ready).await;
        for _ in 0..10 {
            let mut clients = [server.start_get("/").await, server.start_get("/").await];
            for client in &mut clients {
                assert_eq!(client.response().await.text(), "2");
            }
        }
        // It accepts all the time, but that is not enough.
        assert_eq!(server.state(port.at(1)), Some(State::Suspended));
        assert_eq!(one.count(), 1);
        gate.open(100);
        server.serve(&port, &[1, 2]).await;
        assert_eq!(one.peak(), 1);
    }
}

/// Even an answer that is none is one: it works no more.
#[tokio::test]
async fn one_that_answers_nonsense_after_its_deadline_is_back() {
    for nonsense in ["nonsense\r\n\r\n", "HTTP/1.1 101 Switching\r\n\r\n"] {
        let port = Port::new();
        let gate = Gate::default();
        let inner = gate.clone();
        let _one = port
            .start(1, move |seen: Seen, mut wire: Wire| {
                let gate = inner.clone();
                async move {
                    if seen.target == "/well" {
                        return wire.ok("1").await;
                    }
                    gate.pass().await;
                    wire.raw(nonsense).await;
                    None
                }
            })
            .await;
        let dns = Dns::of(NAME, &ips([1]));
        let server = Replicas::ready(&port, &dns, &[1], |setup| {
            setup.pool.timeout = Some(SOON);
        })
        .await;
        let mut client = server.client().await;
        assert_eq!(client.get("/").await.status, 504);
        server.is(port.at(1), State::Suspended).await;
        gate.open(1);
        server.serve(&port, &[1]).await;
        assert_eq!(client.get("/well").await.text(), "1");
    }
}

/// So many that the front is late itself: answers and deadlines come in the same moment, in either order.
#[tokio::test]
async fn one_that_answers_at_its_deadline_is_not_lost() {
    const DEADLINE: Duration = Duration::from_millis(40);
    const REPLICAS: u16 = 250;
    let port = Port::new();
    let mut replicas = Vec::new();
    for number in 1..=REPLICAS {
        let replica = port
            .start(number, |_, wire: Wire| async move {
                tokio::time::sleep(Duration::from_millis(15)).await;
                wire.ok("").await
            })
            .await;
        replicas.push(replica);
    }
    let dns = Dns::of(NAME, &ips(1..=REPLICAS));
    let all: Vec<u16> = (1..=REPLICAS).collect();
    let server = Replicas::ready(&port, &dns, &all, |setup| {
        setup.pool.timeout = Some(DEADLINE);
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..REPLICAS {
        let mut client = server.client().await;
        clients.push(tokio::spawn(async move {
            for _ in 0..20 {
                let status = client.post("/", b"body").await.status;
                assert!(matches!(status, 200 | 504), "{status}");
            }
        }));
    }
    for client in clients {
        client.await.expect("answers");
    }
    server.serve(&port, &all).await;
}

#[tokio::test]
async fn one_that_never_answered_and_was_started_anew_is_back() {
    let port = Port::new();
    let (one, _gate) = port.gated(1).await;
    let dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |setup| {
        setup.pool.timeout = Some(SOON);
    })
    .await;
    let mut client = server.client().await;
    assert_eq!(client.get("/").await.status, 504);
    server.is(port.at(1), State::Suspended).await;
    one.kill();
    let _one = port.echo(1).await;
    server.serve(&port, &[1]).await;
    assert_eq!(client.get("/").await.text(), "1");
}

#[tokio::test]
async fn a_refused_connection_looks_the_name_up_at_once() {
    let port = Port::new();
    let one = port.echo(1).await;
    let mut dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |setup| {
        setup.replicas.refresh = Some(NEVER);
    })
    .await;
    assert_eq!(dns.queries(NAME), 1);
    let _two = port.echo(2).await;
    dns.set(NAME, &ips([2]));
    one.kill();
    port.vacant(1).await;
    let mut client = server.client().await;
    assert_eq!(client.post("/", b"body").await.text(), "2");
    server.serve(&port, &[2]).await;
}

#[tokio::test]
async fn refused_connections_do_not_flood_the_dns_server() {
    let port = Port::new();
    let mut replicas = Vec::new();
    for number in 1..=8 {
        replicas.push(port.echo(number).await);
    }
    let dns = Dns::of(NAME, &ips(1..=8));
    let all: Vec<u16> = (1..=8).collect();
    let start = std::time::Instant::now();
    let server = Replicas::ready(&port, &dns, &all, |setup| {
        setup.replicas.refresh = Some(NEVER);
    })
    .await;
    for replica in &replicas {
        replica.kill();
    }
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(server.start_get("/").await);
    }
    for number in 1..=8 {
        server.is(port.at(number), State::Suspended).await;
    }
    let queries = dns.queries(NAME) as u64;
    // The first, then at most one a second.
    let most = 2 + start.elapsed().as_secs();
    assert!(queries <= most, "{queries} queries, at most {most}");
}

/// Neither accepts nor refuses, as an address does whose machine is gone.
#[tokio::test]
async fn one_that_is_silent_is_passed_over() {
    let port = Port::new();
    let one = port.echo(1).await;
    let (two, gate) = port.gated(2).await;
    let dns = Dns::of(NAME, &ips(1..=2));
    let server = Replicas::ready(&port, &dns, &[1, 2], |_| {}).await;
    one.kill();
    port.vacant(1).await;
    let _hole = hole(&port, 1).await;
    let mut clients = [server.client().await, server.client().await];
    for client in &mut clients {
        client.start_post("/", b"body").await;
    }
    two.arrived(1).await;
    gate.open(20);
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "2");
    }
    assert_eq!(server.state(port.at(1)), Some(State::Suspended));
    assert_eq!(server.client().await.get("/").await.text(), "2");
}

/// An address that swallows connections: its backlog is full.
async fn hole(port: &Port, replica: u16) -> Vec<Socket> {
    let socket = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        socket.set_nonblocking(true).expect("an option");
        socket
    };
    let address = port.at(replica);
    let listener = socket();
    listener.bind(&address.into()).expect("a free port");
    listener.listen(0).expect("a bound socket");
    let mut sockets = vec![listener];
    loop {
        let filler = socket();
        // Soon, or not at all: this is the loopback interface.
        let mut full = filler.connect(&address.into()).is_err();
        if full {
            tokio::time::sleep(SOON).await;
            full = filler.peer_addr().is_err();
        }
        sockets.push(filler);
        if full {
            return sockets;
        }
    }
}

/// The kernel has them, nobody reads: a pod that is stopped.
#[tokio::test]
async fn one_that_is_stopped_is_found_by_the_deadline() {
    let port = Port::new();
    let listener = std::net::TcpListener::bind(port.at(1)).expect("a free port");
    let dns = Dns::of(NAME, &ips(1..=2));
    let (_two, gate) = port.gated(2).await;
    let server = Replicas::ready(&port, &dns, &[1, 2], |setup| {
        setup.pool.timeout = Some(SOON);
    })
    .await;
    let mut clients = [server.start_get("/").await, server.start_get("/").await];
    server.is(port.at(1), State::Busy).await;
    server.is(port.at(2), State::Busy).await;
    gate.open(20);
    let mut statuses = Vec::new();
    for client in &mut clients {
        statuses.push(client.response().await.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 504]);
    server.is(port.at(1), State::Suspended).await;
    for _ in 0..5 {
        assert_eq!(server.client().await.get("/").await.text(), "2");
    }
    drop(listener);
    let _one = port.echo(1).await;
    server.serve(&port, &[1, 2]).await;
}

/// Answers, but not with HTTP.
#[tokio::test]
async fn one_that_talks_nonsense_is_told() {
    let port = Port::new();
    let _one = port
        .start(1, |_, mut wire: Wire| async move {
            wire.raw("220 mail\r\n").await;
            None
        })
        .await;
    let dns = Dns::of(NAME, &ips([1]));
    let server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
    let response = server.client().await.get("/").await;
    assert_eq!((response.status, response.cause()), (502, "bad_response"));
    server.serve(&port, &[1]).await;
}
