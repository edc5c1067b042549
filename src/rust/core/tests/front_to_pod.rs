//! A front whose workers are replicas elsewhere, some of which run faucet: what they refuse goes elsewhere or waits for
//! its turn, and what nobody wants any more is broken off.

mod common;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use common::pod::Pod;
use common::{far, house, until, within, Client, Gate, House, Seen, Upstream, Wire, SOON};
use faucet_core::ops::status::{Kind, State};
use faucet_core::worker::remote::{probe, take_turn, Remote, TurnOutcome};
use faucet_core::worker::{Address, Report, Worker};

const TURN: &str = "/__faucet__/turn";

/// What a pod's faucet adds to its answers.
const FAUCET: &str = "Faucet-Workers: 1\r\n";
const CROWDED: &str = "Faucet-Workers: 1\r\nFaucet-Busy: 1\r\n";

/// Refuses a request in the way of a pod's faucet.
async fn refuse(wire: Wire, cause: &str, others: &str) -> Option<Wire> {
    let headers = format!(
        "Content-Type: application/json\r\nFaucet-Error: {cause}\r\nRetry-After: 1\r\n{CROWDED}{others}"
    );
    wire.answer(503, &headers, r#"{"error":"503 - no"}"#).await
}

/// A pod that answers as long as its gate is open for each request, and is busy otherwise. A turn waits for the gate
/// and lets the next request on its connection through.
struct Crowded {
    upstream: Upstream,
    gate: Gate,
}

impl Crowded {
    async fn start() -> Self {
        let gate = Gate::default();
        let inner = gate.clone();
        let turn = Arc::new(std::sync::Mutex::new(None));
        let upstream = Upstream::start(move |seen: Seen, wire: Wire| {
            let (gate, turn) = (inner.clone(), turn.clone());
            async move {
                if seen.target == TURN {
                    gate.pass().await;
                    *turn.lock().expect("no panic") = Some(seen.connection);
                    return wire.answer(200, FAUCET, r#"{"status":"turn"}"#).await;
                }
                let mine = turn.lock().expect("no panic").take() == Some(seen.connection);
                if mine {
                    wire.answer(200, FAUCET, seen.target).await
                } else {
                    refuse(wire, "busy", "").await
                }
            }
        })
        .await;
        Self { upstream, gate }
    }
}

/// A faucet with one worker that answers a request when its gate is opened. `seen` are its requests but turns, which it
/// gives at once.
async fn gated() -> (Upstream, Gate) {
    let gate = Gate::default();
    let inner = gate.clone();
    let upstream = Upstream::start(move |seen: Seen, wire: Wire| {
        let gate = inner.clone();
        async move {
            if seen.target != TURN {
                gate.pass().await;
            }
            wire.answer(200, FAUCET, seen.target).await
        }
    })
    .await;
    (upstream, gate)
}

/// Has the front know that faucet runs in all its workers: each answers one request.
async fn introduce(house: &House, gate: &Gate) {
    gate.open(1);
    assert_eq!(house.client().await.get("/hello").await.status, 200);
    house.idle().await;
    assert!(house.worker(0).is_faucet());
}

fn nobody() -> SocketAddr {
    faucet_core::front::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .expect("a free port")
        .local_addr()
        .expect("bound")
}

fn suspended(house: &House, index: usize) -> bool {
    use faucet_core::lock::Standing;
    house.pool.table.snapshot().members[index].standing == Standing::Suspended
}

#[tokio::test]
async fn only_workers_elsewhere_are_asked_not_to_keep_a_request() {
    let worker = Upstream::echo().await;
    let (near, away) = (
        house(&[&worker], |_| {}).await,
        far(&[&worker], |_| {}).await,
    );
    for (house, wait) in [(&near, None), (&away, Some("0"))] {
        let mut client = house.client().await;
        client
            .send("GET / HTTP/1.1\r\nHost: a\r\nFaucet-Wait: 5\r\nFaucet-Busy: 1\r\n\r\n")
            .await;
        assert_eq!(client.response().await.status, 200);
        let seen = worker.last();
        assert_eq!(seen.header("faucet-wait"), wait);
        assert_eq!(seen.header("faucet-busy"), None);
    }
    assert_eq!(away.worker(0).kind(), Some(Kind::Http));
}

#[tokio::test]
async fn a_refused_request_goes_elsewhere_as_it_was() {
    for cause in ["busy", "draining", "no_workers", "queue_full"] {
        let others = if cause == "draining" {
            "Connection: close\r\n"
        } else {
            ""
        };
        let free = Upstream::echo().await;
        let busy = Upstream::start(move |seen: Seen, wire: Wire| async move {
            if seen.target == TURN {
                return refuse(wire, "draining", "").await;
            }
            refuse(wire, cause, others).await
        })
        .await;
        // The last one is taken first.
        let house = far(&[&free, &busy], |_| {}).await;
        let mut client = house.client().await;
        client
            .send("POST /a?b=c HTTP/1.1\r\nHost: api\r\nX-Mine: 1\r\nX-Mine: 2\r\nContent-Length: 4\r\n\r\nbody")
            .await;
        let answer = client.response().await;
        assert_eq!((answer.status, answer.text()), (200, "/a?b=c"), "{cause}");
        let (refused, taken) = (&busy.seen()[0], free.last());
        assert_eq!(refused.target, "/a?b=c");
        assert_eq!(refused.headers, taken.headers);
        assert_eq!((&*refused.method, &*refused.body), ("POST", &b"body"[..]));
        assert_eq!((&*taken.method, &*taken.body), ("POST", &b"body"[..]));
        assert_eq!(taken.count("x-mine"), 2);
        house.idle().await;
        assert_eq!(house.counted(200, ""), 1.0);
    }
}

#[tokio::test]
async fn what_a_worker_itself_refuses_is_its_answer() {
    // An API may say anything, but it is no faucet.
    for said in [FAUCET, "Faucet-Busy: 1\r\nFaucet-Error: busy\r\n"] {
        let worker =
            Upstream::start(
                move |_, wire: Wire| async move { wire.answer(503, said, "mine").await },
            )
            .await;
        let house = far(&[&worker], |_| {}).await;
        let answer = house.client().await.post("/", b"body").await;
        assert_eq!((answer.status, answer.text()), (503, "mine"));
        assert!(!answer
            .headers
            .iter()
            .any(|(name, _)| name.starts_with("faucet-")));
        assert_eq!(worker.count(), 1);
    }
}

#[tokio::test]
async fn a_request_that_is_refused_everywhere_waits_for_its_turn() {
    let pod = Crowded::start().await;
    let house = far(&[&pod.upstream], |_| {}).await;
    let mut clients = Vec::new();
    for number in 0..3 {
        let mut client = house.client().await;
        if number == 1 {
            client.start_post("/1", b"body").await;
        } else {
            client.start_get(&format!("/{number}")).await;
        }
        house.queued(number + 1).await;
        clients.push(client);
    }
    // One was refused; after that, nobody asks but for a turn.
    pod.upstream.arrived(2).await;
    assert_eq!(pod.upstream.targets(), ["/0", TURN]);
    assert_eq!((house.leases(), suspended(&house, 0)), (0, true));
    for (number, client) in clients.iter_mut().enumerate() {
        pod.gate.open(1);
        assert_eq!(client.response().await.text(), format!("/{number}"));
    }
    let seen = pod.upstream.seen();
    let served: Vec<_> = seen
        .windows(2)
        .filter(|pair| pair[0].target == TURN)
        .map(|pair| (pair[1].target.clone(), pair[1].body.len()))
        .collect();
    let expected =
        ["/0", "/1", "/2"].map(|target| (target.into(), if target == "/1" { 4 } else { 0 }));
    assert_eq!(served, expected, "{:?}", pod.upstream.targets());
    house.idle().await;
    assert_eq!(house.worker(0).kind(), Some(Kind::Faucet));
    // All that was said, one after the other, needed no second connection but for turns.
    assert!(pod.upstream.connections() <= 2);
}

#[tokio::test]
async fn a_refused_upgrade_waits_for_its_turn_as_well() {
    let turn = Arc::new(AtomicUsize::new(usize::MAX));
    let pod = Upstream::start(move |seen: Seen, mut wire: Wire| {
        let turn = turn.clone();
        async move {
            if seen.target == TURN {
                turn.store(seen.connection, Ordering::SeqCst);
                return wire.answer(200, FAUCET, "").await;
            }
            assert_eq!(seen.header("upgrade"), Some("websocket"));
            if turn.load(Ordering::SeqCst) != seen.connection {
                return refuse(wire, "busy", "").await;
            }
            wire.raw(format!(
                "HTTP/1.1 101 Switching Protocols\r\n{FAUCET}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            ))
            .await;
            wire.answered();
            let bytes = wire.read_some().await;
            wire.raw(bytes).await;
            None
        }
    })
    .await;
    let house = far(&[&pod], |_| {}).await;
    let mut client = house.client().await;
    client
        .send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n")
        .await;
    let answer = client.response().await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("faucet-workers"), None);
    assert_eq!(house.leases(), 0);
    client.send("through").await;
    assert_eq!(client.rest().await, b"through");
    assert_eq!(pod.targets(), ["/ws", TURN, "/ws"]);
}

#[tokio::test]
async fn waiting_for_a_turn_has_the_end_that_waiting_has() {
    let pod = Crowded::start().await;
    let house = far(&[&pod.upstream], |plan| {
        plan.pool.queue_timeout = Some(SOON)
    })
    .await;
    let mut client = house.client().await;
    let late = client.get("/late").await;
    assert_eq!((late.status, late.cause()), (503, "queue_timeout"));
    house.idle().await;
    // Whoever leaves, leaves nothing behind.
    client.start_get("/left").await;
    house.queued(1).await;
    drop(client);
    house.queued(0).await;
    pod.gate.open(2);
    let mut next = house.client().await;
    let answer = next.get("/next").await;
    assert_eq!((answer.status, answer.text()), (200, "/next"));
    assert!(!pod.upstream.targets().contains(&"/left".to_owned()));
}

#[tokio::test]
async fn a_faucet_has_as_many_slots_as_workers() {
    let workers = Arc::new(AtomicUsize::new(4));
    let inner = workers.clone();
    let pod = Upstream::start(move |seen: Seen, wire: Wire| {
        let said = format!("Faucet-Workers: {}\r\n", inner.load(Ordering::SeqCst));
        async move { wire.answer(200, &said, seen.target).await }
    })
    .await;
    let house = far(&[&pod], |_| {}).await;
    let slots = || house.pool.table.snapshot().members[0].slots;
    assert_eq!(house.pool.status().workers[0].kind, None);
    for (count, expected) in [(4, 4), (2, 2), (0, 1), (7, 7)] {
        workers.store(count, Ordering::SeqCst);
        assert_eq!(house.client().await.get("/").await.status, 200);
        until("the lock table follows", || slots() == expected).await;
    }
    assert_eq!(house.pool.status().workers[0].kind, Some(Kind::Faucet));
}

/// At the same address, after a restart: with its slots gone, and no trust in it to see to its own requests.
#[tokio::test]
async fn a_faucet_may_be_replaced_by_something_else() {
    for lost in [false, true] {
        let pod = Upstream::start(|seen: Seen, wire: Wire| async move {
            wire.answer(200, "Faucet-Workers: 4\r\n", seen.target).await
        })
        .await;
        let address = pod.address;
        let house = far(&[&pod], |_| {}).await;
        let mut client = house.client().await;
        assert_eq!(client.get("/hello").await.status, 200);
        let slots = || house.pool.table.snapshot().members[0].slots;
        until("it has four slots", || slots() == 4).await;
        pod.kill();
        until("it is gone", || pod.open() == 0).await;
        if lost {
            client.start_get("/next").await;
            until("it is set aside", || suspended(&house, 0)).await;
        }
        let _next = Upstream::start_at(address, |seen: Seen, wire: Wire| async move {
            let status = if seen.target == "/next" { 200 } else { 404 };
            wire.answer(status, "", seen.target).await
        })
        .await;
        if !lost {
            client.start_get("/next").await;
        }
        assert_eq!(client.response().await.text(), "/next");
        until("it has one slot", || slots() == 1).await;
        assert_eq!(house.worker(0).kind(), Some(Kind::Http));
        assert_eq!(house.pool.table.capacity(), 1);
    }
}

#[tokio::test]
async fn who_hears_that_others_wait_asks_for_a_turn_if_someone_waits_here_too() {
    let (gate, turns) = (Gate::default(), Gate::default());
    let (inner, inner_turns) = (gate.clone(), turns.clone());
    let pod = Upstream::start(move |seen: Seen, wire: Wire| {
        let (gate, turns) = (inner.clone(), inner_turns.clone());
        async move {
            if seen.target == TURN {
                turns.pass().await;
                return wire.answer(200, FAUCET, "").await;
            }
            gate.pass().await;
            wire.answer(200, CROWDED, seen.target).await
        }
    })
    .await;
    let house = far(&[&pod], |_| {}).await;
    let mut first = house.client().await;
    gate.open(1);
    assert_eq!(first.get("/alone").await.status, 200);
    assert!(!suspended(&house, 0));
    first.start_get("/first").await;
    pod.arrived(2).await;
    let mut second = house.client().await;
    second.start_get("/second").await;
    house.queued(1).await;
    gate.open(1);
    assert_eq!(first.response().await.text(), "/first");
    pod.arrived(3).await;
    assert_eq!(pod.targets(), ["/alone", "/first", TURN]);
    turns.open(1);
    gate.open(1);
    assert_eq!(second.response().await.text(), "/second");
    assert_eq!(pod.peak(), 1);
}

#[tokio::test]
async fn a_turn_that_nobody_needs_any_more_is_given_back() {
    let pod = Crowded::start().await;
    let house = far(&[&pod.upstream], |_| {}).await;
    let mut client = house.client().await;
    client.start_get("/left").await;
    pod.upstream.arrived(2).await;
    drop(client);
    house.queued(0).await;
    pod.gate.open(1);
    until("its connection is closed", || {
        pod.upstream.open() == 0 || !suspended(&house, 0)
    })
    .await;
    assert_eq!(pod.upstream.targets(), ["/left", TURN]);
}

/// Writes so much in chunks, as fast as it is taken; counts it.
async fn pour(mut wire: Wire, headers: &str, count: Arc<AtomicUsize>) -> Option<Wire> {
    const CHUNK: usize = 64 * 1024;
    wire.raw(format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
    ))
    .await;
    let chunk = format!("{CHUNK:x}\r\n{}\r\n", "x".repeat(CHUNK));
    while count.fetch_add(CHUNK, Ordering::SeqCst) < 64 * 1024 * 1024 {
        wire.raw(&chunk).await;
    }
    wire.raw("0\r\n\r\n").await;
    wire.end()
}

#[tokio::test]
async fn a_stream_of_a_faucet_waits_for_its_client() {
    let mut poured = Vec::new();
    let mut houses = Vec::new();
    for headers in [
        "Faucet-Stream: 1\r\n",
        "Faucet-Workers: 1\r\nFaucet-Stream: 1\r\n",
    ] {
        let count = Arc::new(AtomicUsize::new(0));
        let inner = count.clone();
        let pod = Upstream::start(move |_, wire: Wire| pour(wire, headers, inner.clone())).await;
        let house = far(&[&pod], |_| {}).await;
        let mut client = house.client().await;
        client.start_get("/").await;
        assert!(client.fill().await);
        poured.push(count);
        houses.push((house, pod, client));
    }
    // Whoever is no faucet has been relieved of all by now.
    houses[0].0.idle().await;
    assert!(poured[0].load(Ordering::SeqCst) >= 64 * 1024 * 1024);
    assert!(poured[1].load(Ordering::SeqCst) < 32 * 1024 * 1024);
    assert_eq!(houses[1].0.leases(), 1);
}

#[tokio::test]
async fn who_leaves_breaks_off_what_a_faucet_does_for_it() {
    for timeout in [None, Some(common::PATIENCE)] {
        let (pod, gate) = gated().await;
        let house = far(&[&pod], |plan| plan.pool.timeout = timeout).await;
        introduce(&house, &gate).await;
        let mut client = house.client().await;
        client.start_post("/left", b"body").await;
        pod.arrived(2).await;
        drop(client);
        house.idle().await;
        assert!(!suspended(&house, 0));
        until("it is counted", || {
            house.metric("faucet_cancelled_total{pool=\"/\",reason=\"client_left\"}") == 1.0
                && house.counted(499, "") == 1.0
        })
        .await;
        // The scripted pod has not heard of it: the gate opens for both.
        gate.open(2);
        assert_eq!(house.client().await.get("/next").await.text(), "/next");
        assert_eq!(pod.connections(), 2);
    }
}

#[tokio::test]
async fn who_leaves_breaks_off_a_body_as_well() {
    let gate = Gate::default();
    let inner = gate.clone();
    let pod = Upstream::start(move |seen: Seen, mut wire: Wire| {
        let gate = inner.clone();
        async move {
            if seen.target != "/half" {
                return wire.answer(200, FAUCET, seen.target).await;
            }
            wire.raw(format!(
                "HTTP/1.1 200 OK\r\n{FAUCET}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
            ))
            .await;
            gate.pass().await;
            None
        }
    })
    .await;
    for stay in [false, true] {
        let house = far(&[&pod], |plan| {
            if stay {
                plan.remote = Some(false);
            }
        })
        .await;
        let mut client = house.client().await;
        assert_eq!(client.get("/hello").await.status, 200);
        client.start_get("/half").await;
        while !client.unread.ends_with(b"half\r\n") {
            assert!(client.fill().await);
        }
        drop(client);
        if stay {
            // It is not to be cancelled: the lease is held until it has answered.
            until("the front has noticed", || {
                house.front.connections.count() == 0
            })
            .await;
            assert_eq!(house.leases(), 1);
            gate.open(2);
        }
        house.idle().await;
        let cancelled = house.metric("faucet_cancelled_total{pool=\"/\",reason=\"client_left\"}");
        assert_eq!(cancelled, if stay { 0.0 } else { 1.0 });
    }
}

#[tokio::test]
async fn a_lease_on_what_is_no_faucet_outlives_its_client() {
    let (worker, gate) = Upstream::gated().await;
    let house = far(&[&worker], |_| {}).await;
    gate.open(1);
    assert_eq!(house.client().await.get("/hello").await.status, 200);
    let mut client = house.client().await;
    client.start_get("/left").await;
    worker.arrived(2).await;
    drop(client);
    until("the front has noticed", || {
        house.front.connections.count() == 0
    })
    .await;
    assert_eq!(house.leases(), 1);
    gate.open(1);
    house.idle().await;
    assert_eq!(worker.peak(), 1);
}

#[tokio::test]
async fn a_faucet_that_passes_a_deadline_is_set_aside_until_it_has_a_turn() {
    for method in ["GET", "POST"] {
        let (turns, gate) = (Gate::default(), Gate::default());
        let (inner_turns, inner) = (turns.clone(), gate.clone());
        let pod = Upstream::start(move |seen: Seen, mut wire: Wire| {
            let (turns, gate) = (inner_turns.clone(), inner.clone());
            async move {
                match &*seen.target {
                    TURN => turns.pass().await,
                    "/late" => gate.pass().await,
                    "/half" => {
                        wire.raw(format!("HTTP/1.1 200 OK\r\n{FAUCET}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"))
                            .await;
                        gate.pass().await;
                    }
                    _ => {}
                }
                wire.answer(200, FAUCET, seen.target).await
            }
        })
        .await;
        let house = far(&[&pod], |plan| plan.pool.timeout = Some(SOON)).await;
        let mut client = house.client().await;
        assert_eq!(client.get("/hello").await.status, 200);
        for target in ["/late", "/half"] {
            let before = pod.count();
            client
                .send(format!(
                    "{method} {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
                ))
                .await;
            if target == "/late" {
                let late = client.response().await;
                assert_eq!((late.status, late.cause()), (504, "timeout"));
            } else {
                let late = client.try_response(false).await.expect_err("half");
                assert_eq!(late.head, Some(200));
                client = house.client().await;
            }
            house.idle().await;
            assert!(suspended(&house, 0));
            client.start_get("/next").await;
            pod.arrived(before + 2).await;
            assert_eq!(pod.last().target, TURN);
            house.queued(1).await;
            turns.open(1);
            assert_eq!(client.response().await.text(), "/next");
        }
        assert_eq!(
            house.metric("faucet_cancelled_total{pool=\"/\",reason=\"deadline\"}"),
            2.0
        );
    }
}

/// What comes after the deadline of the first request, when nobody knows yet what runs there.
#[tokio::test]
async fn any_late_answer_ends_the_wait_for_it() {
    for late in ["plain", "faucet", "busy", "no HTTP", "nothing", "switched"] {
        let gate = Gate::default();
        let inner = gate.clone();
        let pod = Upstream::start(move |seen: Seen, mut wire: Wire| {
            let gate = inner.clone();
            async move {
                if seen.target != "/late" {
                    return wire.answer(200, FAUCET, seen.target).await;
                }
                gate.pass().await;
                match late {
                    "plain" => wire.ok("late").await,
                    "faucet" => wire.answer(200, FAUCET, "late").await,
                    "busy" => refuse(wire, "busy", "").await,
                    "nothing" => None,
                    "switched" => {
                        wire.raw("HTTP/1.1 101 Switching Protocols\r\n\r\n").await;
                        None
                    }
                    _ => {
                        wire.raw("what?\r\n\r\n").await;
                        None
                    }
                }
            }
        })
        .await;
        let house = far(&[&pod], |plan| plan.pool.timeout = Some(SOON)).await;
        let mut client = house.client().await;
        assert_eq!(client.get("/late").await.cause(), "timeout");
        until("it is set aside", || suspended(&house, 0)).await;
        client.start_get("/next").await;
        house.queued(1).await;
        gate.open(1);
        assert_eq!(client.response().await.text(), "/next", "{late}");
        house.idle().await;
    }
}

#[tokio::test]
async fn a_request_outlasts_many_replicas_that_cannot_be_reached() {
    let worker = Upstream::echo().await;
    let mut addresses = vec![worker.address];
    addresses.extend((0..8).map(|_| nobody()));
    let house = House::start(addresses, |plan| plan.remote = Some(true)).await;
    let mut client = house.client().await;
    assert_eq!(client.post("/there", b"x").await.text(), "/there");
}

#[tokio::test]
async fn a_request_waits_for_a_replica_until_it_has_waited_for_too_long() {
    let house = House::start(vec![nobody()], |plan| {
        plan.remote = Some(true);
        plan.pool.queue_timeout = Some(SOON);
    })
    .await;
    let late = house.client().await.get("/").await;
    assert_eq!((late.status, late.cause()), (503, "queue_timeout"));
    assert!(late.header("retry-after").is_some());
    house.idle().await;
}

/// A worker and its connections alone, without a front.
fn alone(address: SocketAddr) -> Worker {
    Worker::new(1, 1, Address::Tcp(address), Box::new(|_, _| {})).with_remote(Remote::new(true))
}

/// Answers turns in one way and refuses everything else. What it is asked for, until its replica has been asked for so
/// many turns.
async fn refusing(turn: (u16, &'static str), turns: usize) -> Vec<String> {
    let pod = Upstream::start(move |seen: Seen, wire: Wire| async move {
        if seen.target == TURN {
            let (status, headers) = turn;
            return wire.answer(status, headers, "").await;
        }
        refuse(wire, "busy", "").await
    })
    .await;
    let house = far(&[&pod], |_| {}).await;
    let mut client = house.client().await;
    client.start_get("/x").await;
    let mut other = house.client().await;
    let asked = || pod.targets().iter().filter(|seen| *seen == TURN).count();
    until("it is asked for turns", || asked() >= turns).await;
    assert_eq!(house.leases() + house.pool.table.waiting(), 1);
    // As one that serves, so that nobody takes the front for one without workers.
    assert_ne!(house.pool.status().workers[0].state, State::Suspended);
    // For some time, as the front counts it.
    for _ in 0..500 {
        assert_eq!(other.get("/__faucet__/livez").await.status, 200);
    }
    pod.targets()
}

#[tokio::test]
async fn a_faucet_that_does_not_keep_its_word_is_asked_ever_more_rarely() {
    let seen = refusing((200, FAUCET), 4).await;
    assert_eq!(seen[..8], ["/x", TURN].repeat(4));
    // Without a pause, it would have been asked about as often as the front.
    assert!(seen.len() < 50, "{}", seen.len());
}

#[tokio::test]
async fn a_faucet_with_too_many_in_its_queue_serves_all_the_same() {
    for (cause, others) in [("queue_full", 3), ("queue_timeout", 6)] {
        let headers: &'static str = match cause {
            "queue_full" => "Faucet-Error: queue_full\r\nFaucet-Workers: 1\r\nFaucet-Busy: 1\r\n",
            _ => "Faucet-Error: queue_timeout\r\nFaucet-Workers: 1\r\nFaucet-Busy: 1\r\n",
        };
        let seen = refusing((503, headers), others).await;
        assert_eq!(seen[0], "/x");
        assert!(seen[1..].iter().all(|target| target == TURN), "{seen:?}");
    }
}

#[tokio::test]
async fn a_front_that_is_refused_turns_is_served_all_the_same_and_says_so_once() {
    let gate = Gate::default();
    let inner = gate.clone();
    let pod = Upstream::start(move |seen: Seen, wire: Wire| {
        let gate = inner.clone();
        async move {
            if seen.target == TURN {
                return wire.answer(404, FAUCET, "").await;
            }
            tokio::select! {
                biased;
                () = gate.pass() => wire.answer(200, FAUCET, seen.target).await,
                () = std::future::ready(()) => refuse(wire, "busy", "").await,
            }
        }
    })
    .await;
    let house = far(&[&pod], |_| {}).await;
    let _lines = tracing::subscriber::set_default(house.log.subscriber());
    let mut client = house.client().await;
    client.start_get("/x").await;
    until("it is tried again and again", || pod.count() >= 8).await;
    assert_eq!(pod.targets()[..8], ["/x", TURN].repeat(4));
    // As one that serves.
    assert_ne!(house.pool.status().workers[0].state, State::Suspended);
    gate.open(1);
    assert_eq!(client.response().await.text(), "/x");
    let lines = house.log.take().0;
    let told = lines.iter().filter(|line| line.text.contains("no turns"));
    assert_eq!(told.count(), 1);
}

#[tokio::test]
async fn what_a_replica_may_have_seen_is_not_sent_again() {
    let pod = Upstream::start(|seen: Seen, wire: Wire| async move {
        match &*seen.target {
            // Its process dies; its successor has the same address.
            "/deadly" => None,
            _ => wire.ok(seen.target).await,
        }
    })
    .await;
    let house = far(&[&pod], |_| {}).await;
    let mut client = house.client().await;
    for round in 1..=2 {
        assert_eq!(client.get("/well").await.status, 200);
        // On a connection that has been used.
        let answer = client.get("/deadly").await;
        assert_eq!((answer.status, answer.cause()), (502, "worker_died"));
        let deadly = pod
            .targets()
            .iter()
            .filter(|seen| *seen == "/deadly")
            .count();
        assert_eq!(deadly, round);
    }
}

#[tokio::test]
async fn turns_are_given_denied_or_out_of_reach() {
    let (worker, gate) = Upstream::gated().await;
    let pod = house(&[&worker], |plan| plan.pool.queue = 1).await;
    let remote = alone(pod.address);
    let TurnOutcome::Granted(connection) = take_turn(&remote, "pods").await else {
        panic!("a worker is free");
    };
    assert!(remote.is_faucet());
    assert_eq!(pod.leases(), 1);
    drop(connection);
    pod.idle().await;
    let mut busy = pod.client().await;
    busy.start_get("/").await;
    worker.arrived(1).await;
    let mut waiting = pod.client().await;
    waiting.start_get("/").await;
    pod.queued(1).await;
    assert!(matches!(
        take_turn(&remote, "pods").await,
        TurnOutcome::Full
    ));
    // Kept, and used again.
    let connection = remote.take_connection().expect("one");
    remote.keep_connection(connection);
    gate.open(2);
    assert_eq!(waiting.response().await.status, 200);
    assert!(matches!(
        take_turn(&remote, "bad\nhost").await,
        TurnOutcome::Granted(_)
    ));
    let gone = alone(nobody());
    assert!(matches!(
        take_turn(&gone, "pods").await,
        TurnOutcome::Unreachable
    ));
}

#[tokio::test]
async fn a_look_at_a_replica_tells_what_is_wrong() {
    let worker = Upstream::start(|seen: Seen, wire: Wire| async move {
        match &*seen.target {
            "/health" => wire.answer(204, "", "").await,
            "/busy" => refuse(wire, "busy", "").await,
            "/none" => {
                wire.answer(503, "Faucet-Error: busy\r\nFaucet-Workers: 0\r\n", "")
                    .await
            }
            "/silent" => None,
            _ => wire.answer(500, "", "").await,
        }
    })
    .await;
    let remote = alone(worker.address);
    let look = |path| probe(&remote, "api:80", path);
    assert_eq!(look(None).await, Ok(()));
    assert_eq!(look(Some("/health")).await, Ok(()));
    assert_eq!(worker.last().header("host"), Some("api:80"));
    assert_eq!(look(Some("/busy")).await, Ok(()));
    assert_eq!(
        look(Some("/none")).await,
        Err("answered 503 to /none".into())
    );
    assert_eq!(look(Some("/x")).await, Err("answered 500 to /x".into()));
    assert_eq!(
        look(Some("/silent")).await,
        Err("broke the connection off".into())
    );
    let gone = probe(&alone(nobody()), "api", Some("/health")).await;
    assert_eq!(gone, Err("connection refused".into()));
}

/// Clients that each send so many requests to one of the fronts, one after the other.
async fn visit(fronts: &[&House], clients: usize, rounds: usize) {
    let visits: Vec<_> = (0..clients)
        .map(|number| {
            let address = fronts[number % fronts.len()].address;
            tokio::spawn(async move {
                let mut client = Client::connect(address).await;
                for round in 0..rounds {
                    let target = format!("/{number}/{round}");
                    let answer = if round % 2 == 0 {
                        client.get(&target).await
                    } else {
                        client.post(&target, target.as_bytes()).await
                    };
                    assert_eq!((answer.status, answer.text()), (200, &*target));
                }
            })
        })
        .collect();
    for visit in visits {
        within("everybody is served", visit)
            .await
            .expect("200 each time");
    }
}

async fn r() -> Upstream {
    Upstream::start(|seen: Seen, wire: Wire| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        wire.ok(seen.target).await
    })
    .await
}

#[tokio::test]
async fn two_fronts_share_the_workers_of_their_pods() {
    for pods in [1, 3] {
        let mut workers = Vec::new();
        let mut houses = Vec::new();
        for _ in 0..pods {
            let worker = r().await;
            houses.push(house(&[&worker], |_| {}).await);
            workers.push(worker);
        }
        let addresses = || houses.iter().map(|pod| pod.address).collect();
        let remote = |plan: &mut common::Plan| plan.remote = Some(true);
        let fronts = [
            House::start(addresses(), remote).await,
            House::start(addresses(), remote).await,
        ];
        visit(&[&fronts[0], &fronts[1]], 20, 10).await;
        for front in &fronts {
            front.idle().await;
        }
        for (pod, worker) in houses.iter().zip(&workers) {
            pod.idle().await;
            assert_eq!(worker.peak(), 1);
        }
        let served: usize = workers.iter().map(Upstream::count).sum();
        assert_eq!(served, 200);
        // Each front has known all along who waits: few are sent away.
        let refused: f64 = houses.iter().map(|pod| pod.counted(503, "busy")).sum();
        assert!(refused < 100.0, "{refused}");
    }
}

#[tokio::test]
async fn several_workers_of_a_pod_are_all_used() {
    let workers = [r().await, r().await, r().await];
    let pod = house(&workers.iter().collect::<Vec<_>>(), |_| {}).await;
    let remote = |plan: &mut common::Plan| plan.remote = Some(true);
    let fronts = [
        House::start(vec![pod.address], remote).await,
        House::start(vec![pod.address], remote).await,
    ];
    visit(&[&fronts[0], &fronts[1]], 30, 10).await;
    for worker in &workers {
        assert_eq!(worker.peak(), 1);
        assert!(worker.count() > 0);
    }
    let served: usize = workers.iter().map(Upstream::count).sum();
    assert_eq!(served, 300);
}

#[tokio::test]
async fn a_pod_that_ends_under_load_loses_nothing() {
    let workers = [r().await, r().await];
    let mut first = Pod::start(&workers[0]).await;
    let second = Pod::start(&workers[1]).await;
    let remote = |plan: &mut common::Plan| plan.remote = Some(true);
    let front = House::start(vec![first.address, second.address], remote).await;
    let fronts = [&front];
    let visits = visit(&fronts, 20, 30);
    let stop = async {
        workers[0].arrived(50).await;
        let stop = first.stop();
        first.done(stop).await;
    };
    tokio::join!(visits, stop);
    let served: usize = workers.iter().map(Upstream::count).sum();
    assert_eq!(served, 600);
    assert!(workers.iter().all(|worker| worker.peak() == 1));
}

#[tokio::test]
async fn a_client_that_leaves_a_front_leaves_the_pod_too() {
    let (worker, gate) = Upstream::gated().await;
    let pod = house(&[&worker], |_| {}).await;
    let front = House::start(vec![pod.address], |plan| plan.remote = Some(true)).await;
    gate.open(1);
    assert_eq!(front.client().await.get("/hello").await.status, 200);
    let mut client = front.client().await;
    client.start_get("/left").await;
    worker.arrived(2).await;
    drop(client);
    // The pod's own worker is no faucet: it goes on, and the pod holds its lease.
    front.idle().await;
    until("the pod has noticed", || pod.front.connections.count() == 0).await;
    assert_eq!(pod.leases(), 1);
    let mut next = front.client().await;
    next.start_get("/next").await;
    pod.queued(1).await;
    gate.open(2);
    assert_eq!(next.response().await.text(), "/next");
    assert_eq!(worker.peak(), 1);
}

/// What the source hears.
#[tokio::test]
async fn the_source_is_told_once_of_what_is_new() {
    let pod = Upstream::start(|seen: Seen, wire: Wire| async move {
        if seen.target == "/busy" {
            refuse(wire, "busy", "").await
        } else {
            wire.answer(200, "Faucet-Workers: 3\r\n", seen.target).await
        }
    })
    .await;
    let reports = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = reports.clone();
    let reporter = Box::new(move |_: &Worker, report| sink.lock().expect("no panic").push(report));
    let worker =
        Worker::new(1, 1, Address::Tcp(pod.address), reporter).with_remote(Remote::new(true));
    let house = House::start(Vec::new(), |_| {}).await;
    house.pool.table.add(Arc::new(worker), 1);
    let mut client = house.client().await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.status, 200);
    }
    client.start_get("/busy").await;
    house.queued(1).await;
    assert!(suspended(&house, 0));
    let expected = [
        Report::Slots(3),
        Report::Served,
        Report::Served,
        Report::Slots(1),
        Report::Occupied,
    ];
    assert_eq!(*reports.lock().expect("no panic"), expected);
}
