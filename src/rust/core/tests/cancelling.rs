//! A native worker is told when nobody wants its answer any more: it stops, and serves the next request.

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::native::{stream, text, Asked, Control, NativeWorker, CANCEL, PATIENT, WORK_ON};
use common::{until, within, Client, Dice, Gate, House, Upstream, SOON};
use faucet_core::worker::native::Cancelling;
use faucet_core::worker::{Address, Report, Unwanted, Worker};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};

#[tokio::test]
async fn requests_are_numbered_and_nobody_else_numbers_them() {
    let worker = NativeWorker::start(Control::Obey, |asked: Asked| async move {
        let mut answer = text(200, asked.target.clone());
        let number = asked.number.into();
        answer.headers_mut().insert("faucet-request", number);
        answer
    });
    let house = worker.house(CANCEL, |_| {}).await;
    let mut client = house.client().await;
    for number in 1..=3 {
        client
            .send("GET /a HTTP/1.1\r\nHost: test\r\nFaucet-Request: 77\r\n\r\n")
            .await;
        let response = client.response().await;
        assert_eq!((response.status, response.text()), (200, "/a"));
        assert_eq!(response.header("faucet-request"), None);
        assert_eq!(worker.numbers().last(), Some(&number));
    }
    assert_eq!((worker.peak(), worker.connections()), (1, 1));
}

/// Starts a request and leaves when the worker has it.
async fn ask_and_leave(house: &House, worker: &NativeWorker, number: usize) {
    let mut client = house.client().await;
    client.start_get("/left").await;
    worker.arrived(number).await;
    drop(client);
}

fn cancelled(house: &House, reason: &str) -> f64 {
    house.metric(&format!(
        "faucet_cancelled_total{{pool=\"/\",reason=\"{reason}\"}}"
    ))
}

#[tokio::test]
async fn a_client_that_leaves_frees_its_worker() {
    for control in [Control::Obey, Control::Behind] {
        let (worker, gate) = NativeWorker::gated(control);
        let house = worker.house(PATIENT, |_| {}).await;
        ask_and_leave(&house, &worker, 1).await;
        house.idle().await;
        let mut lines = worker.lines();
        lines.dedup();
        assert_eq!(lines, ["interrupt 1 left"]);
        gate.open(1);
        assert_eq!(house.client().await.get("/next").await.text(), "/next");
        assert_eq!(worker.reports(), [Report::Served, Report::Served]);
        assert_eq!((worker.peak(), worker.connections()), (1, 1));
        assert_eq!(cancelled(&house, "client_left"), 1.0);
        until("it is counted", || house.counted(499, "") == 1.0).await;
    }
}

#[tokio::test]
async fn a_reset_stream_frees_its_worker() {
    let (worker, gate) = NativeWorker::gated(Control::Obey);
    let house = worker.house(PATIENT, |_| {}).await;
    let stream = tokio::net::TcpStream::connect(house.address)
        .await
        .expect("the front listens");
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    let get = |path: &str| {
        Request::get(format!("http://a{path}"))
            .body(Full::<Bytes>::default())
            .expect("valid")
    };
    let first = tokio::spawn(sender.send_request(get("/left")));
    worker.arrived(1).await;
    first.abort();
    worker.heard("interrupt 1 left").await;
    house.idle().await;
    gate.open(1);
    let next = within("a response", sender.send_request(get("/next"))).await;
    let body = next.expect("a response").into_body().collect().await;
    assert_eq!(body.expect("complete").to_bytes(), "/next");
    assert_eq!(worker.peak(), 1);
}

#[tokio::test]
async fn what_the_worker_shields_goes_on_to_its_end() {
    let end = Gate::default();
    let (worker, _) = NativeWorker::gated(Control::Shield(end.clone()));
    let shielding = worker.house(CANCEL, |_| {}).await;
    ask_and_leave(&shielding, &worker, 1).await;
    worker.heard("interrupt 1 left").await;
    // By the time that another one is given up, this one would have been, too.
    let (deaf, _gate) = NativeWorker::deaf(Control::Obey);
    let house = deaf.house(CANCEL, |_| {}).await;
    ask_and_leave(&house, &deaf, 1).await;
    deaf.reported(Report::Stuck(Unwanted::ClientLeft, 1)).await;
    assert_eq!((worker.reports().len(), shielding.leases()), (0, 1));
    end.open(1);
    shielding.idle().await;
    assert_eq!(worker.reports(), [Report::Served]);
}

#[tokio::test]
async fn a_worker_that_does_not_obey_is_reported_once_and_keeps_its_lease() {
    for control in [
        Control::Obey,
        Control::Break,
        Control::Absent,
        Control::Babble,
    ] {
        for timeout in [None, Some(SOON)] {
            let (worker, gate) = NativeWorker::deaf(control.clone());
            let house = worker
                .house(CANCEL, |plan| plan.pool.timeout = timeout)
                .await;
            ask_and_leave(&house, &worker, 1).await;
            worker
                .reported(Report::Stuck(Unwanted::ClientLeft, 1))
                .await;
            assert_eq!((house.leases(), worker.peak()), (1, 1));
            let mut next = house.client().await;
            next.start_get("/next").await;
            house.queued(1).await;
            gate.open(2);
            assert_eq!(next.response().await.text(), "/next");
            assert_eq!(
                worker.reports(),
                [
                    Report::Stuck(Unwanted::ClientLeft, 1),
                    Report::Served,
                    Report::Served
                ]
            );
            assert_eq!(cancelled(&house, "client_left"), 1.0);
        }
    }
}

/// Stopped as a whole: neither R nor what speaks for it says anything.
#[tokio::test]
async fn a_frozen_worker_whose_client_has_left_is_reported() {
    for cancelling in [CANCEL, WORK_ON] {
        let (worker, _gate) = NativeWorker::deaf(Control::Mute);
        // No deadline: nothing else would ever end it.
        let house = worker.house(cancelling, |_| {}).await;
        ask_and_leave(&house, &worker, 1).await;
        worker.reported(Report::Stuck(Unwanted::Silent, 1)).await;
        assert_eq!((house.leases(), worker.peak()), (1, 1));
        worker.kill();
        house.idle().await;
    }
}

#[tokio::test]
async fn a_worker_that_does_not_shield_but_freezes_within_its_answer_is_reported() {
    let gate = Gate::default();
    let inner = gate.clone();
    let worker = NativeWorker::start(Control::Mute, move |_: Asked| {
        let gate = inner.clone();
        async move {
            let (mut answer, writer) = stream();
            answer.headers_mut().clear();
            answer
                .headers_mut()
                .insert("content-length", 100_000.into());
            tokio::spawn(async move {
                let _ = writer.send(Bytes::from_static(b"half")).await;
                gate.pass().await;
            });
            answer
        }
    });
    let house = worker
        .house(CANCEL, |plan| {
            plan.limits.idle_timeout = Some(SOON);
            plan.limits.body_memory = 1000;
        })
        .await;
    let mut client = house.client().await;
    client.start_get("/").await;
    let broken = client.try_response(false).await.err();
    assert_eq!(broken.and_then(|broken| broken.head), Some(200));
    worker.reported(Report::Stuck(Unwanted::Silent, 1)).await;
    house.idle().await;
    // It is set aside: nobody gets it before it was looked after.
    let mut next = house.client().await;
    next.start_get("/next").await;
    house.queued(1).await;
    assert_eq!(worker.numbers(), [1]);
}

/// A shield may last: what speaks for the worker answers meanwhile.
#[tokio::test]
async fn a_shield_that_outlasts_the_time_to_obey_is_no_frozen_worker() {
    let end = Gate::default();
    let (worker, _) = NativeWorker::gated(Control::Shield(end.clone()));
    let house = worker.house(CANCEL, |_| {}).await;
    ask_and_leave(&house, &worker, 1).await;
    until("it was looked at again and again", || {
        let lines = worker.lines();
        lines.iter().filter(|line| *line == "tell 1").count() >= 2
    })
    .await;
    assert_eq!((worker.reports().len(), house.leases()), (0, 1));
    end.open(1);
    house.idle().await;
    assert_eq!(worker.reports(), [Report::Served]);
}

#[tokio::test]
async fn a_worker_that_cannot_be_told_may_still_finish() {
    for control in [Control::Break, Control::Absent] {
        let (worker, gate) = NativeWorker::deaf(control);
        let house = worker.house(PATIENT, |_| {}).await;
        ask_and_leave(&house, &worker, 1).await;
        until("it counts as interrupted", || {
            cancelled(&house, "client_left") == 1.0
        })
        .await;
        assert_eq!(house.leases(), 1);
        gate.open(1);
        house.idle().await;
        assert_eq!(worker.reports(), [Report::Served]);
    }
}

#[tokio::test]
async fn a_worker_that_dies_on_the_way_leaves_nothing_behind() {
    let (worker, _gate) = NativeWorker::deaf(Control::Obey);
    let house = worker.house(CANCEL, |_| {}).await;
    ask_and_leave(&house, &worker, 1).await;
    worker.heard("interrupt 1 left").await;
    worker.kill();
    house.idle().await;
    assert_eq!(worker.reports(), [Report::Unreachable]);
}

#[tokio::test]
async fn work_that_is_not_to_be_cancelled_goes_on_and_is_told() {
    let gate = Gate::default();
    let inner = gate.clone();
    let worker = NativeWorker::start(Control::Obey, move |mut asked: Asked| {
        let gate = inner.clone();
        async move {
            asked.told().await;
            gate.pass().await;
            text(200, "done")
        }
    });
    let house = worker.house(WORK_ON, |_| {}).await;
    ask_and_leave(&house, &worker, 1).await;
    worker.heard("tell 1").await;
    assert_eq!(house.leases(), 1);
    gate.open(1);
    house.idle().await;
    assert_eq!(worker.reports(), [Report::Served]);
    assert_eq!(cancelled(&house, "client_left"), 0.0);
}

#[tokio::test]
async fn a_worker_that_obeys_outlives_its_deadline() {
    // A deadline is not waited for, whatever is shielded, and whether clients cancel or not.
    for cancelling in [
        PATIENT,
        Cancelling {
            cancel: false,
            ..PATIENT
        },
    ] {
        let (worker, gate) = NativeWorker::gated(Control::Shield(Gate::default()));
        let house = worker
            .house(cancelling, |plan| plan.pool.timeout = Some(SOON))
            .await;
        let mut client = house.client().await;
        let late = client.get("/late").await;
        assert_eq!((late.status, late.cause()), (504, "timeout"));
        house.idle().await;
        assert_eq!(worker.lines(), ["interrupt 1 deadline"]);
        gate.open(1);
        assert_eq!(client.get("/next").await.text(), "/next");
        assert_eq!(worker.reports(), [Report::Served, Report::Served]);
        assert_eq!(cancelled(&house, "deadline"), 1.0);
    }
}

#[tokio::test]
async fn a_worker_that_ignores_its_deadline_is_reported_once() {
    let (worker, gate) = NativeWorker::deaf(Control::Obey);
    let house = worker
        .house(CANCEL, |plan| plan.pool.timeout = Some(SOON))
        .await;
    assert_eq!(house.client().await.get("/late").await.status, 504);
    worker.reported(Report::Stuck(Unwanted::Deadline, 1)).await;
    assert_eq!(house.leases(), 1);
    gate.open(1);
    house.idle().await;
    assert_eq!(
        worker.reports(),
        [Report::Stuck(Unwanted::Deadline, 1), Report::Served]
    );
}

#[tokio::test]
async fn a_deadline_ends_a_shield_that_a_leaving_client_waits_for() {
    let (worker, _) = NativeWorker::gated(Control::Shield(Gate::default()));
    let house = worker
        .house(PATIENT, |plan| plan.pool.timeout = Some(SOON))
        .await;
    ask_and_leave(&house, &worker, 1).await;
    house.idle().await;
    assert_eq!(worker.lines(), ["interrupt 1 left", "interrupt 1 deadline"]);
    assert_eq!(worker.reports(), [Report::Served]);
    assert_eq!(cancelled(&house, "deadline"), 1.0);
}

#[tokio::test]
async fn a_client_that_leaves_within_a_body_frees_its_worker() {
    let worker = NativeWorker::start(Control::Obey, |mut asked: Asked| async move {
        let (mut answer, writer) = stream();
        // An ordinary body that takes its time.
        answer.headers_mut().clear();
        tokio::spawn(async move {
            let _ = writer.send(Bytes::from_static(b"half")).await;
            asked.interrupted().await;
        });
        answer
    });
    let house = worker.house(PATIENT, |_| {}).await;
    let mut client = house.client().await;
    client.start_get("/").await;
    while !client.unread.ends_with(b"half\r\n") {
        assert!(client.fill().await);
    }
    assert_eq!(house.leases(), 1);
    drop(client);
    house.idle().await;
    assert_eq!(worker.lines(), ["interrupt 1 left"]);
    assert_eq!(worker.reports(), [Report::Served]);
}

#[tokio::test]
async fn a_client_that_has_everything_cancels_nothing() {
    let body = common::pattern(3_000_000);
    let whole = body.clone();
    let worker = NativeWorker::start(Control::Obey, move |_: Asked| {
        let body = body.clone();
        async move { text(200, body) }
    });
    let house = worker
        .house(CANCEL, |plan| plan.limits.body_memory = 1000)
        .await;
    for _ in 0..20 {
        assert!(house.client().await.get("/").await.body == whole, "differs");
    }
    let mut client = house.client().await;
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.response_to_head().await;
    house.idle().await;
    assert_eq!(worker.lines(), [""; 0]);
}

#[tokio::test]
async fn no_interrupt_reaches_another_request() {
    let worker = NativeWorker::start(Control::Obey, |mut asked: Asked| async move {
        let pause = Duration::from_micros(asked.number * 7919 % 3000);
        tokio::select! {
            () = asked.interrupted() => text(500, "interrupted"),
            () = tokio::time::sleep(pause) => text(200, asked.target.clone()),
        }
    });
    let house = worker
        .house(PATIENT, |plan| plan.limits.body_memory = 2)
        .await;
    let mut dice = Dice::new(3);
    let clients: Vec<_> = (0..400)
        .map(|number| {
            let (address, stays) = (house.address, dice.below(2) == 0);
            let pause = Duration::from_micros(dice.below(300_000));
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                let mut client = Client::connect(address).await;
                let path = format!("/{number}");
                client.start_get(&path).await;
                if stays {
                    let response = client.response().await;
                    assert_eq!((response.status, response.text()), (200, path.as_str()));
                } else {
                    tokio::time::sleep(pause / 50).await;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("its own answer");
    }
    house.idle().await;
    assert_eq!((worker.peak(), worker.connections()), (1, 1));
    assert!(worker
        .reports()
        .iter()
        .all(|report| *report == Report::Served));
}

#[tokio::test]
async fn a_request_that_moves_on_leaves_its_number_behind() {
    let (gone, _gate) = NativeWorker::gated(Control::Obey);
    std::fs::remove_file(&gone.socket).expect("there");
    let house = gone.house(CANCEL, |_| {}).await;
    let http = Upstream::echo().await;
    let mut client = house.client().await;
    client.start_get("/on").await;
    until("it has been tried", || {
        gone.reports() == [Report::Unreachable]
    })
    .await;
    let address = Address::Tcp(http.address);
    let worker = Worker::new(2, 2, address, Box::new(|_, _| {}));
    house.pool.table.add(Arc::new(worker), 1);
    assert_eq!(client.response().await.text(), "/on");
    assert_eq!(http.last().header("faucet-request"), None);
}
