//! A worker is handed one request at a time, whatever clients do.

mod common;

use std::time::Duration;

use common::{house, until, Client, Dice, Gate, Seen, Upstream, Wire};

/// Answers in two parts with a pause before and between, so that clients can leave in each phase.
async fn worker() -> Upstream {
    Upstream::start(|seen: Seen, mut wire: Wire| async move {
        tokio::time::sleep(Duration::from_millis(2)).await;
        wire.raw(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            seen.target.len() + 5
        ))
        .await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        wire.raw(format!("body:{}", seen.target)).await;
        wire.end()
    })
    .await
}

/// When a client leaves.
enum Leaves {
    Never,
    After(Duration),
    WithTheFirstByte,
}

async fn visit(address: std::net::SocketAddr, number: u64, leaves: Leaves) {
    let mut client = Client::connect(address).await;
    let target = format!("/{number}");
    match leaves {
        Leaves::Never => {
            let response = client.get(&target).await;
            assert_eq!(response.status, 200);
            assert_eq!(response.text(), format!("body:{target}"));
        }
        Leaves::After(delay) => {
            client.start_get(&target).await;
            tokio::time::sleep(delay).await;
        }
        Leaves::WithTheFirstByte => {
            client.start_get(&target).await;
            client.fill().await;
        }
    }
}

async fn a_crowd(body_memory: u64) {
    let workers = [worker().await, worker().await, worker().await];
    let house = house(&workers.iter().collect::<Vec<_>>(), |plan| {
        plan.limits.body_memory = body_memory;
    })
    .await;
    let mut dice = Dice::new(7);
    let visits: Vec<_> = (0..100)
        .map(|number| {
            let leaves = match dice.below(6) {
                0..=2 => Leaves::Never,
                // A round of 100 takes about 150 ms: most of these wait in the queue.
                3 => Leaves::After(Duration::from_micros(dice.below(150_000))),
                4 => Leaves::After(Duration::from_micros(dice.below(6_000))),
                _ => Leaves::WithTheFirstByte,
            };
            tokio::spawn(visit(house.address, number, leaves))
        })
        .collect();
    for visit in visits {
        visit.await.expect("whoever stays is served");
    }
    house.idle().await;
    for worker in &workers {
        assert_eq!(worker.peak(), 1, "one in flight");
        assert_eq!(worker.in_flight(), 0);
        // Nothing was left on a connection that is used again.
        let mut client = house.client().await;
        assert_eq!(client.get("/after").await.text(), "body:/after");
    }
    let served: usize = workers.iter().map(Upstream::count).sum();
    assert!(served >= 50, "{served}");
}

#[tokio::test]
async fn half_of_a_crowd_leaves_at_random() {
    a_crowd(1024 * 1024).await;
}

#[tokio::test]
async fn half_of_a_crowd_leaves_at_random_while_responses_stream() {
    a_crowd(0).await;
}

#[tokio::test]
async fn a_lease_outlives_its_client() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut first = house.client().await;
    first.start_get("/first").await;
    worker.arrived(1).await;
    drop(first);
    until("the front has noticed", || {
        house.front.connections.count() == 0
    })
    .await;

    let mut second = house.client().await;
    second.start_get("/second").await;
    house.queued(1).await;
    assert_eq!((worker.count(), house.leases()), (1, 1));

    gate.open(2);
    assert_eq!(second.response().await.text(), "/second");
    assert_eq!((worker.peak(), worker.count()), (1, 2));
    house.idle().await;
}

#[tokio::test]
async fn a_lease_outlives_a_client_that_leaves_within_the_response() {
    let gate = Gate::default();
    let inner = gate.clone();
    let worker = Upstream::start(move |_, mut wire: Wire| {
        let gate = inner.clone();
        async move {
            wire.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
                .await;
            gate.pass().await;
            wire.raw("4\r\nrest\r\n0\r\n\r\n").await;
            wire.end()
        }
    })
    .await;
    let house = house(&[&worker], |_| {}).await;
    let mut first = house.client().await;
    first.start_get("/first").await;
    until_contains(&mut first, b"half").await;
    drop(first);
    until("the front has noticed", || {
        house.front.connections.count() == 0
    })
    .await;

    let mut second = house.client().await;
    second.start_get("/second").await;
    house.queued(1).await;
    assert_eq!(worker.count(), 1);
    gate.open(2);
    assert_eq!(second.response().await.text(), "halfrest");
    assert_eq!((worker.peak(), worker.connections()), (1, 1));
}

async fn until_contains(client: &mut Client, bytes: &[u8]) {
    while !client
        .unread
        .windows(bytes.len())
        .any(|window| window == bytes)
    {
        assert!(client.fill().await, "the connection ended");
    }
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_never_reaches_a_worker() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut first = house.client().await;
    first.start_get("/first").await;
    worker.arrived(1).await;
    let mut leaver = house.client().await;
    leaver.start_get("/leaver").await;
    house.queued(1).await;
    let mut third = house.client().await;
    third.start_get("/third").await;
    house.queued(2).await;
    drop(leaver);
    house.queued(1).await;

    gate.open(3);
    assert_eq!(first.response().await.text(), "/first");
    assert_eq!(third.response().await.text(), "/third");
    house.idle().await;
    assert_eq!(worker.targets(), ["/first", "/third"]);
}

#[tokio::test]
async fn the_queue_is_first_come_first_served() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |_| {}).await;
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client = house.client().await;
        client.start_get(&format!("/{number}")).await;
        if number == 0 {
            worker.arrived(1).await;
        }
        house.queued(number).await;
        clients.push(client);
    }
    gate.open(20);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    let expected: Vec<_> = (0..20).map(|number| format!("/{number}")).collect();
    assert_eq!(worker.targets(), expected);
}

#[tokio::test]
async fn a_worker_with_two_slots_gets_two_at_a_time() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.slots = 2).await;
    let mut clients = Vec::new();
    for number in 0..6 {
        let mut client = house.client().await;
        client.start_get(&format!("/{number}")).await;
        clients.push(client);
    }
    worker.arrived(2).await;
    house.queued(4).await;
    gate.open(6);
    for client in &mut clients {
        assert_eq!(client.response().await.status, 200);
    }
    assert_eq!(worker.peak(), 2);
}
