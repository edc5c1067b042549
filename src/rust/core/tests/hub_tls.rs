//! Workers that dial in with TLS, and whom they believe.

mod common;

use common::hub::HubServer;
use common::machine::Machine;
use common::tls::{dial, self_signed, Authority, Files, Identity};
use common::{pattern, shake, until, within, Client, Seen, Upstream, Wire, PATIENCE};
use faucet_core::client_stream::ClientStream;
use faucet_core::offers::OffersSettings;
use faucet_core::server::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

/// A hub with a certificate, and what its clients and workers have to know.
struct Secured {
    hub: HubServer,
    authority: Authority,
    files: Files,
}

impl Secured {
    async fn start() -> Self {
        Self::with(|authority| authority.sign(&NAMES)).await
    }

    async fn with(identity: impl FnOnce(&Authority) -> Identity) -> Self {
        let (authority, files) = (Authority::new(), Files::new());
        files.write("ca.pem", &authority.pem);
        let tls = files.identity(&identity(&authority));
        Self {
            hub: HubServer::secured(Some(tls), |_| {}).await,
            authority,
            files,
        }
    }

    /// Believes its CA.
    async fn machine(&self, worker: &Upstream, slots: u32) -> Machine {
        let ca = self.files.write("ca.pem", &self.authority.pem);
        Machine::with(&[&self.hub], worker, slots, |offers| {
            with_tls(offers);
            offers.ca = Some(ca);
        })
        .await
    }

    async fn client(&self) -> Client<ClientStream> {
        let believed = self.authority.believed();
        dial(&believed, "localhost", self.hub.address)
            .await
            .expect("a good certificate")
    }
}

fn with_tls(offers: &mut OffersSettings) {
    for hub in &mut offers.hubs {
        hub.tls = true;
    }
}

/// Answers with what it was sent.
async fn echoing() -> Upstream {
    Upstream::start(|seen: Seen, wire: Wire| async move { wire.ok(seen.body).await }).await
}

#[tokio::test]
async fn slots_are_offered_and_serve_one_request_after_the_other() {
    let secured = Secured::start().await;
    let worker = echoing().await;
    let mut machine = secured.machine(&worker, 2).await;
    secured.hub.offered(2).await;
    let mut client = secured.client().await;
    for _ in 0..20 {
        assert_eq!(client.post("/", b"body").await.body, b"body");
    }
    // More than any buffer on the way holds.
    let body = pattern(3_000_000);
    assert!(client.post("/", &body).await.body == body);
    assert_eq!(worker.last().header("x-forwarded-proto"), Some("https"));
    secured.hub.offered(2).await;
    machine.stop().await;
    secured.hub.offered(0).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_request_and_the_slot_comes_back() {
    let secured = Secured::start().await;
    let (worker, gate) = Upstream::gated().await;
    let _machine = secured.machine(&worker, 1).await;
    secured.hub.offered(1).await;
    let mut client = secured.client().await;
    client.start_get("/left").await;
    worker.arrived(1).await;
    drop(client);
    secured.hub.offered(0).await;
    gate.open(1);
    secured.hub.offered(1).await;
    gate.open(1);
    let response = within("an answer", async {
        secured.client().await.get("/next").await
    });
    assert_eq!(response.await.text(), "/next");
}

#[tokio::test]
async fn a_machine_that_stops_loses_nothing_under_load() {
    let secured = Secured::start().await;
    let worker = echoing().await;
    let _stays = secured.machine(&worker, 2).await;
    secured.hub.offered(2).await;
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let mut client = secured.client().await;
        tasks.push(tokio::spawn(async move {
            for _ in 0..200 {
                let response = client.post("/x", b"body").await;
                assert_eq!(response.status, 200, "{}", response.text());
            }
        }));
    }
    for _ in 0..3 {
        let mut goes = secured.machine(&worker, 2).await;
        secured.hub.at_least(3).await;
        goes.stop().await;
    }
    for task in tasks {
        within("all are served", task).await.expect("no panic");
    }
}

#[tokio::test]
async fn a_hub_that_is_not_believed_gets_no_offers() {
    let worker = echoing().await;
    let bad: [fn(&Authority) -> Identity; 3] = [
        |authority| authority.sign(&["elsewhere.example"]),
        |authority| authority.sign_with(&NAMES, common::tls::expired),
        |_| self_signed(&NAMES),
    ];
    for identity in bad {
        let secured = Secured::with(identity).await;
        let machine = secured.machine(&worker, 1).await;
        let mut seen = Vec::new();
        until("its log says why", || {
            seen.extend(machine.server.take_lines().0);
            seen.iter().any(|line| line.text.contains("TLS: "))
        })
        .await;
        assert!(secured.hub.slots().is_empty());
    }
}

#[tokio::test]
async fn a_reload_reads_the_certificate_for_workers_too() {
    let mut secured = Secured::start().await;
    let worker = echoing().await;
    let _before = secured.machine(&worker, 1).await;
    secured.hub.offered(1).await;
    secured.authority = Authority::new();
    secured.files.identity(&secured.authority.sign(&NAMES));
    let id = secured.hub.server.ask(Request::Reload(None));
    let start = std::time::Instant::now();
    let result = loop {
        if let Some(result) = secured.hub.server.result(id) {
            break result;
        }
        assert!(start.elapsed() < PATIENCE, "the reload does not end");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    };
    result.expect("files that are right");
    // Whoever is connected stays.
    let _after = secured.machine(&worker, 1).await;
    secured.hub.offered(2).await;
    assert_eq!(secured.client().await.post("/", b"x").await.body, b"x");
}

#[tokio::test]
async fn a_worker_that_reads_late_gets_all_of_a_request() {
    let secured = Secured::start().await;
    let believed = secured.authority.believed();
    let socket = TcpStream::connect(secured.hub.workers)
        .await
        .expect("a hub");
    let mut slot = believed
        .connect("localhost", socket)
        .await
        .expect("it is believed");
    let (head, _) = shake(&mut slot, "Faucet-Worker: late\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    secured.hub.offered(1).await;
    let body = pattern(20_000_000);
    let mut client = secured.client().await;
    client.start_post("/", &body).await;
    until("it is at the slot", || {
        secured.hub.slots()[0].in_flight == 1
    })
    .await;
    let mut read = Vec::new();
    within("all of it", async {
        while !read.ends_with(&body[body.len() - 64..]) {
            assert!(slot.read_buf(&mut read).await.expect("open") > 0);
        }
    })
    .await;
    assert!(read.ends_with(&body));
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    slot.write_all(answer).await.expect("open");
    slot.flush().await.expect("open");
    assert_eq!(within("an answer", client.response()).await.text(), "ok");
}
