//! Many connections, most of which want nothing.

mod common;

use common::{house, until, Client, Upstream};

#[tokio::test]
async fn half_heads_do_not_keep_others_out() {
    let worker = Upstream::echo().await;
    let house = house(&[&worker], |plan| plan.limits.max_connections = 500).await;
    let mut crowd = Vec::new();
    for number in 0..3000 {
        let mut client = house.client().await;
        client.try_send("GET / HTTP/1.1\r\nHost: te").await;
        crowd.push(client);
        if number % 500 == 499 {
            assert_eq!(house.client().await.get("/normal").await.text(), "/normal");
            assert!(house.front.connections.count() <= 501);
        }
    }
    assert_eq!(worker.count(), 6);
    drop(crowd);
    until("all are gone", || house.front.connections.count() == 0).await;
}

#[tokio::test]
async fn whoever_was_unused_longest_makes_room() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.limits.max_connections = 3).await;
    let mut busy = house.client().await;
    busy.start_get("/busy").await;
    worker.arrived(1).await;
    let mut older = house.client().await;
    assert_eq!(older.get("/__faucet__/livez").await.status, 200);
    // Times are known to the millisecond.
    let served = std::time::Instant::now();
    until("a moment has passed", || served.elapsed().as_millis() > 5).await;
    let mut newer = house.client().await;
    assert_eq!(newer.get("/__faucet__/livez").await.status, 200);

    let mut fourth = house.client().await;
    assert_eq!(fourth.get("/__faucet__/livez").await.status, 200);
    assert!(older.is_closed().await);
    assert_eq!(newer.get("/__faucet__/livez").await.status, 200);
    gate.open(1);
    assert_eq!(busy.response().await.text(), "/busy");
}

#[tokio::test]
async fn nobody_makes_room_while_being_served() {
    let (worker, gate) = Upstream::gated().await;
    let house = house(&[&worker], |plan| plan.limits.max_connections = 3).await;
    let mut busy: Vec<Client> = Vec::new();
    for number in 0..3 {
        let mut client = house.client().await;
        client.start_get("/busy").await;
        if number == 0 {
            worker.arrived(1).await;
        }
        house.queued(number).await;
        busy.push(client);
    }
    for _ in 0..3 {
        let mut late = house.client().await;
        // Said before anything is read.
        let response = late.response().await;
        assert_eq!(
            (response.status, response.cause()),
            (503, "too_many_connections")
        );
        assert!(response.header("retry-after").is_some());
        assert!(late.is_closed().await);
    }
    gate.open(3);
    for client in &mut busy {
        assert_eq!(client.response().await.text(), "/busy");
    }
    let mut late = house.client().await;
    assert_eq!(late.get("/__faucet__/livez").await.status, 200);
}

#[tokio::test]
async fn clients_that_reset_their_connections_harm_nobody() {
    let worker = Upstream::start(|_, wire: common::Wire| wire.ok(vec![b'x'; 200_000])).await;
    let house = house(&[&worker], |plan| plan.limits.body_memory = 10_000).await;
    for number in 0..200 {
        let mut client = house.client().await;
        client.start_get("/").await;
        if number % 2 == 0 {
            client.fill().await;
        }
        // A close with unread bytes, or lingering for no time, is a reset.
        client.stream.set_zero_linger().expect("a live socket");
    }
    house.idle().await;
    assert_eq!(house.client().await.get("/").await.body.len(), 200_000);
    until("all are gone", || house.front.connections.count() == 0).await;
    assert_eq!(worker.peak(), 1);
}
