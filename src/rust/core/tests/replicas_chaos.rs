//! Everything at once: replicas die and come back, names change and fail, clients never stop.

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::dns::Dns;
use common::replicas::{ips, Port, Replicas, NAME};
use common::{Dice, Seen, Upstream, Wire};

const REPLICAS: u16 = 6;
const CLIENTS: usize = 12;
const STEPS: usize = 60;

/// How often each request was seen, by all replicas together.
type Executions = Arc<Mutex<HashMap<String, usize>>>;

/// A replica that works for a short time, and tells if it is given two requests at a time.
async fn replica(
    port: &Port,
    number: u16,
    seen: &Executions,
    crowded: &Arc<AtomicBool>,
) -> Upstream {
    let (seen, crowded) = (seen.clone(), crowded.clone());
    let at_work = Arc::new(AtomicUsize::new(0));
    port.start(number, move |request: Seen, wire: Wire| {
        let (seen, crowded, at_work) = (seen.clone(), crowded.clone(), at_work.clone());
        async move {
            if at_work.fetch_add(1, Ordering::SeqCst) > 0 {
                crowded.store(true, Ordering::SeqCst);
            }
            let id = String::from_utf8(request.body).expect("text");
            *seen
                .lock()
                .expect("no panic")
                .entry(id.clone())
                .or_default() += 1;
            tokio::time::sleep(Duration::from_millis(1)).await;
            at_work.fetch_sub(1, Ordering::SeqCst);
            wire.ok(id).await
        }
    })
    .await
}

/// Posts one request after the other; how many were lost with a replica.
async fn client(
    server: &Replicas,
    name: usize,
    over: &Arc<AtomicBool>,
) -> impl std::future::Future<Output = usize> {
    let mut client = server.client().await;
    let over = over.clone();
    async move {
        let mut lost = 0;
        for number in 0.. {
            if over.load(Ordering::SeqCst) {
                break;
            }
            let id = format!("{name}-{number}");
            let response = client.post("/", id.as_bytes()).await;
            match response.status {
                200 => assert_eq!(response.text(), id),
                502 => {
                    assert_eq!(response.cause(), "worker_died");
                    lost += 1;
                }
                _ => panic!("{response:?}"),
            }
        }
        lost
    }
}

#[tokio::test]
async fn no_request_is_lost_but_with_its_replica_and_none_is_repeated() {
    let port = Port::new();
    let (seen, crowded) = (Executions::default(), Arc::new(AtomicBool::new(false)));
    let mut replicas = Vec::new();
    for number in 1..=REPLICAS {
        replicas.push(Some(replica(&port, number, &seen, &crowded).await));
    }
    let mut dns = Dns::of(NAME, &ips(1..=REPLICAS));
    let all: Vec<u16> = (1..=REPLICAS).collect();
    let server = Replicas::ready(&port, &dns, &all, |_| {}).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for name in 0..CLIENTS {
        clients.push(tokio::spawn(client(&server, name, &over).await));
    }

    let mut dice = Dice::new(4);
    let mut kills = 0;
    for _ in 0..STEPS {
        let number = 2 + dice.below(u64::from(REPLICAS) - 1) as u16;
        let place = &mut replicas[usize::from(number) - 1];
        match (dice.below(5), &place) {
            // The first one lives for ever and is always known, so that nobody waits for long.
            (0 | 1, Some(living)) => {
                living.kill();
                *place = None;
                kills += 1;
            }
            (0 | 1, None) => *place = Some(replica(&port, number, &seen, &crowded).await),
            (2, _) => {
                let some = (2..=REPLICAS).filter(|_| dice.below(2) == 0);
                let now: Vec<u16> = [1].into_iter().chain(some).collect();
                dns.set(NAME, &ips(now));
            }
            (3, _) => dns.remove(NAME),
            _ => dns.empty(NAME),
        }
        let goal = seen.lock().expect("no panic").len() + 15;
        server
            .until("requests are served", || {
                seen.lock().expect("no panic").len() >= goal
            })
            .await;
    }
    over.store(true, Ordering::SeqCst);
    let mut lost = 0;
    for client in clients {
        lost += client.await.expect("no request failed otherwise");
    }
    assert!(!crowded.load(Ordering::SeqCst), "two at once");
    assert!(lost <= kills, "{lost} requests lost with {kills} replicas");
    let most = seen.lock().expect("no panic").values().max().copied();
    assert_eq!(most, Some(1), "a request was repeated");

    // And all is well in the end.
    for (number, place) in (1..).zip(&mut replicas) {
        if place.is_none() {
            *place = Some(replica(&port, number, &seen, &crowded).await);
        }
    }
    dns.set(NAME, &ips(1..=REPLICAS));
    server.serve(&port, &all).await;
}
