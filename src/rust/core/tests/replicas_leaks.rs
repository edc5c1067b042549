//! Lookups, probes and servers that end leave nothing in their process. Alone in its file: it counts what the process
//! has.
#![cfg(target_os = "linux")]

mod common;

use common::dns::Dns;
use common::replicas::{ips, Port, Replicas, NAME};
use faucet_core::ops::status::State;
use faucet_core::server::Request;

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}"))
        .expect("proc")
        .count()
}

#[tokio::test]
async fn lookups_and_servers_come_and_go_without_a_trace() {
    let port = Port::new();
    let _one = port.echo(1).await;
    let mut dns = Dns::of(NAME, &ips([1]));
    {
        // Whatever is there only once is there now.
        let mut first = Replicas::ready(&port, &dns, &[1], |_| {}).await;
        first.ask(Request::Stop(None)).await.expect("stopped");
        first.is_over().await;
    }
    let (threads, files) = (count("task"), count("fd"));

    // Long answers, which take a connection, and most of the addresses refuse.
    dns.set(NAME, &ips(1..=100));
    let mut server = Replicas::start(&port.url(), Some(&dns), |_| {});
    server.is(port.at(1), State::Ready).await;
    for _ in 0..100 {
        server.ask(Request::Reload(None)).await.expect("looked up");
        assert_eq!(server.client().await.get("/").await.status, 200);
    }
    assert!(dns.queries(NAME) > 100);
    // The server's own: its thread and its runtime, its port, a connection to its replica, and what is under way.
    const OWN: usize = 40;
    server
        .until("no more is open than is in use", || {
            count("fd") <= files + OWN
        })
        .await;
    dns.set(NAME, &ips([1]));
    server.serve(&port, &[1]).await;
    server.ask(Request::Stop(None)).await.expect("stopped");
    drop(server);

    for end in [|| Request::Kill, || Request::Stop(None)] {
        for _ in 0..10 {
            let mut server = Replicas::ready(&port, &dns, &[1], |_| {}).await;
            assert_eq!(server.client().await.get("/").await.status, 200);
            server.ask(end()).await.expect("ended");
            server.is_over().await;
        }
    }
    common::until("all threads have ended", || count("task") <= threads).await;
    common::until("all files are closed", || count("fd") <= files).await;
}
