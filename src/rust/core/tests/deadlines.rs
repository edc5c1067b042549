//! A worker that takes too long: its client is told at the deadline, its lease stays.

mod common;

use std::sync::{Arc, Mutex};

use common::{house, until, Gate, House, Upstream, Wire, SOON};
use faucet_core::worker::{Address, Report, Unwanted, Worker};

#[tokio::test]
async fn the_client_is_told_and_the_lease_stays() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.pool.timeout = Some(SOON)).await;
    let mut first = house.client().await;
    let response = first.get("/first").await;
    assert_eq!((response.status, response.cause()), (504, "timeout"));
    assert_eq!((house.leases(), worker.in_flight()), (1, 1));

    let mut second = house.client().await;
    second.start_get("/second").await;
    house.queued(1).await;
    assert_eq!(worker.count(), 1);
    gate.open(2);
    assert_eq!(second.response().await.text(), "/second");
    assert_eq!((worker.peak(), worker.connections()), (1, 1));
    // Its connection serves on.
    gate.open(1);
    assert_eq!(first.get("/third").await.text(), "/third");
}

#[tokio::test]
async fn the_client_is_told_and_the_lease_stays_for_every_method() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.pool.timeout = Some(SOON)).await;
    let response = house.client().await.post("/", b"body").await;
    assert_eq!((response.status, response.cause()), (504, "timeout"));
    assert_eq!(house.leases(), 1);
    worker.kill();
    house.idle().await;
    drop(gate);
}

#[tokio::test]
async fn the_time_in_the_queue_does_not_count() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.pool.timeout = Some(SOON)).await;
    let mut first = house.client().await;
    first.start_get("/first").await;
    worker.arrived(1).await;
    let mut second = house.client().await;
    second.start_get("/second").await;
    house.queued(1).await;
    assert_eq!(first.response().await.status, 504);
    // By now the second has waited for a whole deadline.
    gate.open(2);
    assert_eq!(second.response().await.text(), "/second");
}

#[tokio::test]
async fn a_response_that_stops_within_its_body_breaks_off() {
    for head in [
        "Transfer-Encoding: chunked\r\n\r\n4\r\n",
        "Content-Length: 8\r\n\r\n",
    ] {
        let chunked = head.starts_with('T');
        let gate = Gate::default();
        let inner = gate.clone();
        let worker = Upstream::start(move |_, mut wire: Wire| {
            let gate = inner.clone();
            async move {
                wire.raw(format!("HTTP/1.1 200 OK\r\n{head}half")).await;
                gate.pass().await;
                wire.raw(if chunked {
                    "\r\n4\r\nrest\r\n0\r\n\r\n"
                } else {
                    "rest"
                })
                .await;
                wire.end()
            }
        })
        .await;
        let house = house(&[&worker], |plan| {
            plan.pool.timeout = Some(SOON);
            plan.limits.body_memory = 2;
        })
        .await;
        let mut client = house.client().await;
        client.start_get("/").await;
        let broken = client.try_response(false).await.expect_err("incomplete");
        assert_eq!(broken.head, Some(200));
        assert_eq!(house.leases(), 1);
        until("it is counted", || house.counted(200, "timeout") == 1.0).await;
        gate.open(2);
        house.idle().await;
        assert_eq!(house.client().await.get("/").await.text(), "halfrest");
        assert_eq!((worker.peak(), worker.connections()), (1, 1));
    }
}

#[tokio::test]
async fn a_small_response_that_stops_within_its_body_is_told() {
    let gate = Gate::default();
    let inner = gate.clone();
    let worker = Upstream::start(move |_, mut wire: Wire| {
        let gate = inner.clone();
        async move {
            wire.raw("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
                .await;
            gate.pass().await;
            wire.raw("rest").await;
            wire.end()
        }
    })
    .await;
    let house = house(&[&worker], |plan| plan.pool.timeout = Some(SOON)).await;
    let mut client = house.client().await;
    let response = client.get("/").await;
    assert_eq!((response.status, response.cause()), (504, "timeout"));
    assert_eq!(house.leases(), 1);
    gate.open(2);
    assert_eq!(client.get("/").await.text(), "halfrest");
    assert_eq!(worker.peak(), 1);
}

#[tokio::test]
async fn the_source_is_told_that_its_worker_is_stuck() {
    let (worker, gate) = Upstream::gated().await;
    let house = House::start(Vec::new(), |plan| plan.pool.timeout = Some(SOON)).await;
    let reports = Arc::new(Mutex::new(Vec::new()));
    let sink = reports.clone();
    house.pool.table.add(
        Arc::new(Worker::new(
            1,
            1,
            Address::Tcp(worker.address),
            Box::new(move |_, report| sink.lock().expect("no panic").push(report)),
        )),
        1,
    );
    assert_eq!(house.client().await.get("/").await.status, 504);
    assert_eq!(
        *reports.lock().expect("no panic"),
        [Report::Stuck(Unwanted::Deadline, 1)]
    );
    gate.open(1);
    house.idle().await;
    assert_eq!(
        *reports.lock().expect("no panic"),
        [Report::Stuck(Unwanted::Deadline, 1), Report::Served]
    );
}

/// A worker whose reports are kept.
fn told(house: &House, worker: &Upstream) -> Arc<Mutex<Vec<Report>>> {
    let reports = Arc::new(Mutex::new(Vec::new()));
    let sink = reports.clone();
    house.pool.table.add(
        Arc::new(Worker::new(
            1,
            1,
            Address::Tcp(worker.address),
            Box::new(move |_, report| sink.lock().expect("no panic").push(report)),
        )),
        1,
    );
    reports
}

const SOON_OVER: &str = "GET / HTTP/1.1\r\nHost: a\r\nFaucet-Deadline: 0.05\r\n\r\n";

#[tokio::test]
async fn a_requests_own_deadline_is_not_held_against_its_worker() {
    let (worker, gate) = Upstream::gated().await;
    let house = House::start(Vec::new(), |_| {}).await;
    let reports = told(&house, &worker);
    let mut client = house.client().await;
    client.send(SOON_OVER).await;
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (504, "timeout"));
    assert_eq!((house.leases(), worker.in_flight()), (1, 1));
    gate.open(1);
    house.idle().await;
    assert_eq!(*reports.lock().expect("no panic"), [Report::Served]);
}

#[tokio::test]
async fn the_pools_time_counts_on_after_a_requests_own() {
    let (worker, gate) = Upstream::gated().await;
    let house = House::start(Vec::new(), |plan| plan.pool.timeout = Some(SOON)).await;
    let reports = told(&house, &worker);
    let mut client = house.client().await;
    client.send(SOON_OVER).await;
    assert_eq!(client.response().await.status, 504);
    until("the worker is known to be stuck", || {
        reports
            .lock()
            .expect("no panic")
            .contains(&Report::Stuck(Unwanted::Deadline, 1))
    })
    .await;
    gate.open(1);
    house.idle().await;
}

#[tokio::test]
async fn a_requests_own_deadline_ends_its_waiting() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut first = house.client().await;
    first.start_get("/first").await;
    worker.arrived(1).await;
    let mut second = house.client().await;
    second.send(SOON_OVER).await;
    let response = second.response().await;
    assert_eq!((response.status, response.cause()), (504, "timeout"));
    house.queued(0).await;
    gate.open(1);
    assert_eq!(first.response().await.text(), "/first");
    assert_eq!(worker.count(), 1);
}
