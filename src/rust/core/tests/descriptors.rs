//! What is open is counted, for as long as it is open, and there is a bound to it.

mod common;

use common::{house, until, Client, House, Seen, Upstream, Wire};

const UPGRADE: &str = concat!(
    "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
);

/// Switches protocols for those who ask, and says how long the body of others was. `/long` answers with more than is
/// kept in memory.
async fn worker() -> Upstream {
    Upstream::start(|seen: Seen, mut wire: Wire| async move {
        if seen.header("upgrade").is_some() {
            wire.raw("HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                .await;
            wire.answered();
            while !wire.read_some().await.is_empty() {}
            return None;
        }
        if seen.target == "/long" {
            return wire.ok(vec![b'x'; 30_000_000]).await;
        }
        wire.ok(seen.body.len().to_string()).await
    })
    .await
}

async fn small(upstream: &Upstream, descriptors: usize) -> House {
    house(&[upstream], |plan| {
        plan.descriptors = descriptors;
        plan.limits.body_memory = 1000;
    })
    .await
}

fn in_use(house: &House) -> usize {
    house.front.store.descriptors().in_use()
}

async fn given_back(house: &House) {
    until("every descriptor is given back", || in_use(house) == 0).await;
}

async fn half_a_body(house: &House) -> Client {
    let mut client = house.client().await;
    client
        .try_send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n")
        .await;
    client.try_send([b'x'; 8000]).await;
    client
}

#[tokio::test]
async fn a_body_file_counts_for_as_long_as_it_is_open() {
    let worker = worker().await;
    let house = small(&worker, 100).await;
    let mut client = half_a_body(&house).await;
    until("connection and file are counted", || in_use(&house) == 2).await;
    client.send([b'x'; 1000]).await;
    assert_eq!(client.response().await.text(), "9000");
    until("the file is closed", || in_use(&house) == 1).await;
    drop(client);
    given_back(&house).await;

    drop(half_a_body(&house).await);
    given_back(&house).await;
}

#[tokio::test]
async fn unfinished_uploads_leave_room_for_others() {
    let worker = worker().await;
    let house = small(&worker, 24).await;
    let mut hostile = Vec::new();
    for _ in 0..100 {
        hostile.push(half_a_body(&house).await);
        assert!(in_use(&house) <= 24 + 4, "{}", in_use(&house));
    }
    for _ in 0..5 {
        assert_eq!(house.client().await.get("/").await.status, 200);
    }
    // Whoever got no file, or had to go, was told so.
    let told = house.counted(503, "overloaded") + house.counted(503, "too_many_connections");
    assert!(told >= 60.0, "{told}");
    drop(hostile);
    given_back(&house).await;
    assert_eq!(
        house.client().await.post("/", &[b'x'; 9000]).await.text(),
        "9000"
    );
}

#[tokio::test]
async fn a_body_that_gets_no_file_is_answered() {
    let worker = worker().await;
    let house = small(&worker, 8).await;
    let mut idle = Vec::new();
    for _ in 0..6 {
        let mut client = house.client().await;
        assert_eq!(client.get("/").await.status, 200);
        idle.push(client);
    }
    let response = idle[0].post("/", &[b'x'; 9000]).await;
    // Those between requests hold what it needs.
    assert_eq!((response.status, response.text()), (200, "9000"));
    let mut held = half_a_body(&house).await;
    until("its file is open", || in_use(&house) >= 7).await;
    let response = idle[5].post("/", &[b'x'; 9000]).await;
    assert_eq!((response.status, response.cause()), (503, "overloaded"));
    assert!(response.header("retry-after").is_some());
    assert!(idle[5].is_closed().await);
    held.send([b'x'; 1000]).await;
    assert_eq!(held.response().await.text(), "9000");
}

#[tokio::test]
async fn tunnels_count_on_both_sides_and_leave_room_for_others() {
    let worker = worker().await;
    let house = small(&worker, 32).await;
    let (mut tunnels, mut refused) = (Vec::new(), 0);
    for _ in 0..40 {
        let mut client = house.client().await;
        client.send(UPGRADE).await;
        let response = client.response().await;
        if response.status == 101 {
            tunnels.push(client);
        } else {
            assert_eq!(response.cause(), "too_many_connections");
            assert!(response.header("retry-after").is_some());
            refused += 1;
        }
    }
    assert_eq!((tunnels.len(), refused), (14, 26));
    until("the refused have gone", || in_use(&house) == 28).await;
    // Nothing was sent to a worker that had to be taken back.
    assert_eq!(worker.count(), 14);
    for _ in 0..5 {
        assert_eq!(house.client().await.get("/").await.status, 200);
    }
    drop(tunnels);
    given_back(&house).await;
    assert_eq!(house.front.connections.count(), 0);
}

#[tokio::test]
async fn tunnels_stay_connections() {
    let worker = worker().await;
    let house = house(&[&worker], |plan| plan.limits.max_connections = 3).await;
    let mut tunnels = Vec::new();
    for _ in 0..3 {
        let mut client = house.client().await;
        client.send(UPGRADE).await;
        assert_eq!(client.response().await.status, 101);
        tunnels.push(client);
    }
    assert_eq!(house.front.connections.count(), 3);
    let mut late = house.client().await;
    assert_eq!(late.response().await.cause(), "too_many_connections");
    assert!(!house.front.connections.any_busy());
    drop(tunnels.pop());
    until("one has gone", || house.front.connections.count() == 2).await;
    assert_eq!(house.client().await.get("/").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_can_have_no_file_is_one_and_its_worker_is_free() {
    let worker = worker().await;
    let house = small(&worker, 8).await;
    let mut others = Vec::new();
    for _ in 0..6 {
        let mut client = house.client().await;
        client.send(UPGRADE).await;
        // The last ones get none: they keep their connections for all that.
        others.push(client);
    }
    until("all that there is is taken", || in_use(&house) >= 7).await;
    let mut client = house.client().await;
    client.start_get("/long").await;
    let response = client.response().await;
    assert_eq!((response.status, response.cause()), (507, "storage"));
    house.idle().await;
    drop(others);
    drop(client);
    given_back(&house).await;
    let mut client = house.client().await;
    client.start_get("/long").await;
    until("a file is there for the slow client", || {
        in_use(&house) == 2
    })
    .await;
    assert_eq!(client.response().await.body.len(), 30_000_000);
    drop(client);
    given_back(&house).await;
}

/// A second handle of a worker's socket would live as long as the tunnel, and be counted nowhere.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_tunnel_takes_two_descriptors_of_the_front() {
    let worker = worker().await;
    let house = house(&[&worker], |_| {}).await;
    let mut tunnels = Vec::new();
    for _ in 0..20 {
        let mut client = house.client().await;
        client.send(UPGRADE).await;
        assert_eq!(client.response().await.status, 101);
        tunnels.push(client);
    }
    let port = format!(":{:04X} ", worker.address.port());
    let counted = in_use(&house);
    assert_eq!(counted, 40);
    // All sockets of this process that lead to the worker: each is open once, here, and at the worker.
    let inodes: Vec<String> = std::fs::read_to_string("/proc/self/net/tcp")
        .expect("Linux")
        .lines()
        .filter(|line| {
            line.split_whitespace()
                .nth(2)
                .is_some_and(|to| format!("{to} ").ends_with(&port))
        })
        .filter_map(|line| line.split_whitespace().nth(9))
        // Closed ones that led to another worker at this port belong to nobody.
        .filter(|inode| *inode != "0")
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    assert_eq!(inodes.len(), 20);
    let open = std::fs::read_dir("/proc/self/fd").expect("Linux");
    let open = open
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter(|link| inodes.iter().any(|inode| link.to_str() == Some(inode)))
        .count();
    assert_eq!(open, 20);
}

/// A faucet that has no file for a body has not worked on it: its front goes elsewhere.
#[tokio::test]
async fn a_front_takes_a_body_elsewhere_that_got_no_file() {
    let worker = worker().await;
    let (poor, rich) = (small(&worker, 4).await, small(&worker, 100).await);
    let taken: Vec<_> = (0..3)
        .map_while(|_| poor.front.store.descriptors().take_spare())
        .collect();
    assert!(!taken.is_empty());
    let front = House::start(vec![poor.address, rich.address], |plan| {
        plan.remote = Some(true);
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = front.client().await;
        client.start_post("/", &[b'x'; 500_000]).await;
        clients.push(client);
    }
    for client in &mut clients {
        let response = client.response().await;
        assert_eq!((response.status, response.text()), (200, "500000"));
    }
    assert!(poor.counted(503, "overloaded") >= 1.0);
}
