//! The memory for bodies is bounded, for each body and for all of them together.

mod common;

use common::{house, pattern, until, Client, House, Seen, Upstream, Wire, SOON};

const KILOBYTE: usize = 1024;

/// Gives a body back, or a large one for `/large`.
async fn worker() -> Upstream {
    Upstream::start(|seen: Seen, wire: Wire| async move {
        if seen.target == "/large" {
            return wire.ok(pattern(900 * KILOBYTE)).await;
        }
        wire.ok(seen.body.len().to_string()).await
    })
    .await
}

/// Sends a body in chunks of one byte, but its end.
async fn single_bytes(house: &House, count: usize) -> Client {
    let mut client = house.client().await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.send("1\r\nx\r\n".repeat(count)).await;
    client
}

async fn charged(house: &House, least: usize) {
    until("all has arrived", || {
        house.front.store.used() >= least as u64
    })
    .await;
}

async fn given_back(house: &House) {
    until("all memory is given back", || house.front.store.used() == 0).await;
}

#[tokio::test]
async fn a_body_of_single_bytes_takes_what_it_is_long() {
    let worker = worker().await;
    let house = house(&[&worker], |_| {}).await;
    let mut client = single_bytes(&house, 100_000).await;
    charged(&house, 90_000).await;
    assert!(house.front.store.used() < 100_000 + 100 * KILOBYTE as u64);
    client.send("0\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "100000");
    given_back(&house).await;
}

#[tokio::test]
async fn all_bodies_together_have_a_bound_and_beyond_it_go_to_files() {
    let worker = worker().await;
    let total = 512 * KILOBYTE as u64;
    let house = house(&[&worker], |plan| {
        plan.limits.total_body_memory = total;
    })
    .await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200001\r\n\r\n";
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = house.client().await;
        client.send(head).await;
        client.send(vec![b'x'; 200_000]).await;
        clients.push(client);
        // A little for what is on its way to a file.
        assert!(house.front.store.used() <= total + 10 * 64 * KILOBYTE as u64);
    }
    until("most have files", || {
        house.front.store.descriptors().in_use() >= 10 + 7
    })
    .await;
    for client in &mut clients {
        client.send("x").await;
        assert_eq!(client.response().await.text(), "200001");
    }
    given_back(&house).await;
}

#[tokio::test]
async fn answers_that_nobody_reads_count_too() {
    let worker = worker().await;
    let total = 2048 * KILOBYTE as u64;
    let house = house(&[&worker], |plan| {
        plan.limits.total_body_memory = total;
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("set");
        let stream = socket.connect(house.address).await.expect("it listens");
        let mut client = Client {
            stream,
            unread: Vec::new(),
        };
        client.start_get("/large").await;
        clients.push(client);
    }
    worker.arrived(20).await;
    house.idle().await;
    assert!(house.front.store.used() <= total + 20 * 16 * KILOBYTE as u64);
    for client in &mut clients {
        assert!(
            client.response().await.body == pattern(900 * KILOBYTE),
            "differs"
        );
    }
    drop(clients);
    given_back(&house).await;
}

/// What cannot go to a file, as there is none left, ends with an answer.
#[tokio::test]
async fn with_neither_memory_nor_files_a_body_is_refused() {
    let worker = worker().await;
    let house = house(&[&worker], |plan| {
        plan.limits.total_body_memory = 0;
        plan.limits.header_timeout = SOON;
        plan.descriptors = 1;
    })
    .await;
    let mut client = house.client().await;
    let response = client.post("/", b"body").await;
    assert_eq!((response.status, response.cause()), (503, "overloaded"));
    assert!(response.header("retry-after").is_some());
    assert!(client.is_closed().await);
    assert_eq!(house.client().await.get("/none").await.text(), "0");
}

#[tokio::test]
async fn without_any_memory_bodies_pass_through_files() {
    let worker = worker().await;
    let house = house(&[&worker], |plan| plan.limits.total_body_memory = 0).await;
    let mut client = house.client().await;
    for length in [1, 10_000, 200_000, 3_000_000] {
        let body = vec![b'x'; length];
        let answer = client.post("/", &body).await;
        assert_eq!(answer.text(), length.to_string());
    }
    client.start_get("/large").await;
    assert!(
        client.response().await.body == pattern(900 * KILOBYTE),
        "differs"
    );
    given_back(&house).await;
}

/// Heads that never end are kept, too, by each of many connections.
#[tokio::test]
async fn long_heads_that_arrive_count_and_short_ones_do_not() {
    let worker = worker().await;
    // What is kept at most though nothing may be.
    let most = 16 * KILOBYTE * KILOBYTE;
    let house = house(&[&worker], |plan| plan.limits.total_body_memory = 0).await;
    let mut kept_alive = house.client().await;
    for _ in 0..300 {
        assert_eq!(kept_alive.get("/short").await.text(), "0");
    }
    assert_eq!(house.front.store.used(), 0);
    let half = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(60_000));
    let (mut hostile, mut whole) = (Vec::new(), 0);
    for _ in 0..300 {
        let mut client = house.client().await;
        client.try_send(&half).await;
        hostile.push(client);
        assert!(house.front.store.used() <= (most + 128 * KILOBYTE) as u64);
    }
    charged(&house, most / 2).await;
    for client in &mut hostile {
        client.try_send("\r\n\r\n").await;
        match client.try_response(false).await {
            Ok(response) if response.status == 200 => whole += 1,
            Ok(response) => assert_eq!(response.cause(), "overloaded"),
            // The answer may be lost with what was not read.
            Err(_) => {}
        }
    }
    assert!((1..300).contains(&whole), "{whole}");
    assert!(house.counted(503, "overloaded") >= 1.0);
    drop(hostile);
    given_back(&house).await;
    assert_eq!(kept_alive.get("/again").await.text(), "0");
}
