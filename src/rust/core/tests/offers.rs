//! Slots of a machine's workers, offered to hubs.

mod common;

use common::hub::HubServer;
use common::machine::Machine;
use common::{until, within, Upstream};
use faucet_core::gates::{Gate as GateKind, GateSettings};

#[tokio::test]
async fn a_machine_offers_its_slots_and_serves_what_comes() {
    let hub = HubServer::start().await;
    let (worker, gate) = Upstream::gated().await;
    let mut machine = Machine::start(&[&hub], &worker, 3).await;
    hub.offered(3).await;
    let mut clients = Vec::new();
    for number in 0..5 {
        let mut client = hub.client().await;
        client.start_get(&format!("/{number}")).await;
        clients.push(client);
    }
    worker.arrived(3).await;
    gate.open(5);
    for (number, client) in clients.iter_mut().enumerate() {
        let response = within("an answer", client.response()).await;
        assert_eq!(response.text(), format!("/{number}"));
    }
    assert_eq!(worker.peak(), 3);
    let slot = &hub.slots()[0];
    assert_eq!(slot.name.as_deref(), Some("box"));
    machine.stop().await;
    hub.offered(0).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request_and_the_slot_comes_back_when_the_worker_is_free() {
    let hub = HubServer::start().await;
    let (worker, gate) = Upstream::gated().await;
    let _machine = Machine::start(&[&hub], &worker, 1).await;
    hub.offered(1).await;
    let mut client = hub.client().await;
    client.start_get("/left").await;
    worker.arrived(1).await;
    drop(client);
    hub.offered(0).await;
    // It is no faucet, and does not notice.
    assert_eq!(worker.in_flight(), 1);
    gate.open(1);
    hub.offered(1).await;
    gate.open(1);
    assert_eq!(hub.client().await.get("/next").await.text(), "/next");
}

#[tokio::test]
async fn with_two_hubs_no_worker_has_two_requests_and_each_hub_has_its_turn() {
    let (one, two) = (HubServer::start().await, HubServer::start().await);
    let worker = Upstream::echo().await;
    let _machine = Machine::start(&[&one, &two], &worker, 1).await;
    one.offered(1).await;
    two.offered(1).await;
    let mut tasks = Vec::new();
    for hub in [&one, &two] {
        for _ in 0..4 {
            let mut client = hub.client().await;
            tasks.push(tokio::spawn(async move {
                for _ in 0..50 {
                    assert_eq!(client.get("/x").await.status, 200);
                }
            }));
        }
    }
    for task in tasks {
        within("all are served", task).await.expect("no panic");
    }
    assert_eq!((worker.peak(), worker.count()), (1, 400));
    one.offered(1).await;
    two.offered(1).await;
}

#[tokio::test]
async fn when_one_hub_dies_work_goes_on_through_the_other_and_offers_come_back() {
    let (mut one, two) = (HubServer::start().await, HubServer::start().await);
    let worker = Upstream::echo().await;
    let _machine = Machine::start(&[&one, &two], &worker, 2).await;
    one.offered(2).await;
    two.offered(2).await;
    let port = one.workers.port();
    one.stop().await;
    assert_eq!(two.client().await.get("/x").await.text(), "/x");
    let back = HubServer::with(|hub| hub.worker_port = port).await;
    back.offered(2).await;
    assert_eq!(back.client().await.get("/y").await.text(), "/y");
}

#[tokio::test]
async fn a_machine_that_stops_loses_nothing_under_load() {
    let hub = HubServer::start().await;
    let worker = Upstream::echo().await;
    let _stays = Machine::start(&[&hub], &worker, 2).await;
    hub.offered(2).await;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let mut client = hub.client().await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..300 {
                let response = client.post("/x", b"body").await;
                assert_eq!(response.status, 200, "{}", response.text());
            }
        }));
    }
    for _ in 0..5 {
        let mut goes = Machine::start(&[&hub], &worker, 2).await;
        hub.at_least(3).await;
        goes.stop().await;
    }
    for task in tasks {
        within("all are served", task).await.expect("no panic");
    }
}

#[tokio::test]
async fn the_only_job_is_allowed_while_a_gate_is_closed_and_others_when_it_opens() {
    let hub = HubServer::start().await;
    let (worker, gate) = Upstream::gated().await;
    let machine = Machine::with(&[&hub], &worker, 3, |offers| {
        offers.gates = GateSettings {
            gates: vec![GateKind::Asked],
            strict: false,
        };
    })
    .await;
    hub.offered(1).await;
    machine.server.answer_gate(0, true);
    hub.offered(3).await;
    machine.server.answer_gate(0, false);
    hub.offered(1).await;
    let mut client = hub.client().await;
    client.start_get("/only").await;
    worker.arrived(1).await;
    let mut second = hub.client().await;
    second.start_get("/second").await;
    until("it waits", || hub.server.status()[0].queue == 1).await;
    gate.open(1);
    assert_eq!(client.response().await.text(), "/only");
    worker.arrived(2).await;
    gate.open(1);
    assert_eq!(second.response().await.text(), "/second");
    assert_eq!(worker.peak(), 1);
}

#[tokio::test]
async fn a_strict_gate_that_is_closed_lets_nothing_be_offered() {
    let hub = HubServer::start().await;
    let worker = Upstream::echo().await;
    let machine = Machine::with(&[&hub], &worker, 2, |offers| {
        offers.gates = GateSettings {
            gates: vec![GateKind::Asked],
            strict: true,
        };
    })
    .await;
    machine.server.answer_gate(0, true);
    hub.offered(2).await;
    machine.server.answer_gate(0, false);
    hub.offered(0).await;
    machine.server.answer_gate(0, true);
    hub.offered(2).await;
}

#[tokio::test]
async fn a_hub_that_refuses_is_told_of_and_tried_again() {
    let hub = HubServer::with(|hub| hub.token = HubServer::token("right")).await;
    let worker = Upstream::echo().await;
    let machine = Machine::with(&[&hub], &worker, 1, |offers| {
        offers.token = HubServer::token("wrong");
    })
    .await;
    let trouble = || machine.server.hubs()[0].trouble.clone();
    until("it is told", || {
        trouble().is_some_and(|trouble| trouble.contains("401"))
    })
    .await;
    assert!(hub.slots().is_empty());
}

#[tokio::test]
async fn headers_of_the_hub_are_believed() {
    let hub = HubServer::start().await;
    let worker = Upstream::echo().await;
    let _machine = Machine::with(&[&hub], &worker, 1, |offers| {
        offers.route = faucet_core::pool::Route::parse("/model").expect("a route");
    })
    .await;
    hub.offered(1).await;
    let response = hub.client().await.get("/model/x").await;
    assert_eq!(response.text(), "/x");
    let seen = worker.last();
    assert_eq!(seen.header("x-forwarded-prefix"), Some("/model"));
    let chain = seen.header("x-forwarded-for").expect("a chain");
    assert_eq!(chain, "127.0.0.1, 127.0.0.1");
}

/// More would look like so many requests there.
#[tokio::test]
async fn a_hub_waits_for_as_many_turns_as_it_has_requests() {
    let (one, two) = (HubServer::start().await, HubServer::start().await);
    let (worker, gate) = Upstream::gated().await;
    let machine = Machine::start(&[&one, &two], &worker, 3).await;
    one.offered(3).await;
    two.offered(3).await;
    let mut first = Vec::new();
    for _ in 0..3 {
        let mut client = one.client().await;
        client.start_get("/first").await;
        first.push(client);
    }
    worker.arrived(3).await;
    let mut second = two.client().await;
    second.start_get("/second").await;
    let waiting = || machine.server.status()[0].queue;
    until("a turn is waited for", || waiting() == 1).await;
    // Each of the other slots has been told by then, as the request waits.
    until("it waits", || two.server.status()[0].queue == 1).await;
    assert_eq!(waiting(), 1);
    gate.open(1);
    worker.arrived(4).await;
    gate.open(3);
    assert_eq!(
        within("an answer", second.response()).await.text(),
        "/second"
    );
    for client in &mut first {
        assert_eq!(
            within("an answer", client.response()).await.text(),
            "/first"
        );
    }
    // None is left alone for ever: all serve at once again.
    let mut third = Vec::new();
    for _ in 0..3 {
        let mut client = two.client().await;
        client.start_get("/third").await;
        third.push(client);
    }
    worker.arrived(7).await;
    gate.open(3);
    for client in &mut third {
        assert_eq!(
            within("an answer", client.response()).await.text(),
            "/third"
        );
    }
    assert_eq!(worker.peak(), 3);
}
