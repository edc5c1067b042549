//! Bodies that do not go through the hub: a client is sent to the machine that has answered.

mod common;

use std::net::SocketAddr;

use common::hub::HubServer;
use common::machine::Machine;
use common::tls::{dial, Authority, Files};
use common::{pattern, until, within, Client, Gate, Response, Seen, Upstream, Wire};
use faucet_core::offers::{OffersSettings, RedirectSettings};
use faucet_core::ops::access::Format;
use faucet_core::server::Request;

const URL: &str = "http://worker.example:8081";

fn redirecting(offers: &mut OffersSettings) {
    offers.redirect = Some(RedirectSettings {
        url: URL.into(),
        host: "127.0.0.1".into(),
        port: 0,
    });
}

/// A machine that redirects, and its hub.
async fn start(worker: &Upstream, slots: u32) -> (HubServer, Machine) {
    let hub = HubServer::start().await;
    let machine = Machine::with(&[&hub], worker, slots, redirecting).await;
    hub.offered(slots as usize).await;
    (hub, machine)
}

fn bodies(machine: &Machine) -> SocketAddr {
    let address = machine.server.redirect_address().expect("it redirects");
    address.parse().expect("an address")
}

async fn fetcher(machine: &Machine) -> Client {
    Client::connect(bodies(machine)).await
}

/// Where a client is sent to.
fn path(response: &Response) -> String {
    assert_eq!(response.status, 303, "{}", response.text());
    assert!(response.body.is_empty());
    let location = response.header("location").expect("one");
    location.strip_prefix(URL).expect("its URL").to_owned()
}

const LONG: usize = 1 << 20;

/// A worker with long answers.
async fn long() -> Upstream {
    Upstream::start(|seen: Seen, wire: Wire| async move {
        let headers = "Content-Type: application/x-numbers\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
            ETag: \"e\"\r\nCache-Control: max-age=60\r\nAccess-Control-Allow-Origin: https://app\r\n";
        match seen.target.as_str() {
            "/empty" => wire.answer(200, headers, "").await,
            "/none" => wire.answer(404, headers, pattern(LONG)).await,
            "/part" => wire.answer(206, headers, pattern(LONG)).await,
            "/page" => {
                let page = "Content-Type: text/html; charset=utf-8\r\n";
                wire.answer(200, page, pattern(LONG)).await
            }
            // No request of HEAD is answered with more.
            _ if seen.method == "HEAD" => wire.answer(200, headers, "").await,
            _ => wire.answer(200, headers, pattern(LONG)).await,
        }
    })
    .await
}

#[tokio::test]
async fn a_body_is_fetched_once_where_the_hub_says() {
    let worker = long().await;
    let (hub, machine) = start(&worker, 1).await;
    let mut client = hub.client().await;
    let told = client.get("/x").await;
    let path = path(&told);
    assert!(path.len() == 33 && path[1..].bytes().all(|byte| byte.is_ascii_hexdigit()));
    let cookies = told.headers.iter().filter(|(name, _)| name == "set-cookie");
    assert_eq!(cookies.count(), 2);
    assert_eq!(told.header("cache-control"), Some("no-store"));
    assert_eq!(told.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(
        told.header("access-control-allow-origin"),
        Some("https://app")
    );
    for absent in ["content-type", "etag"] {
        assert_eq!(told.header(absent), None, "{absent}");
    }

    let mut fetcher = fetcher(&machine).await;
    let fetched = fetcher.get(&path).await;
    assert_eq!(fetched.status, 200);
    assert!(fetched.body == pattern(LONG));
    assert_eq!(
        fetched.header("content-type"),
        Some("application/x-numbers")
    );
    assert_eq!(fetched.header("content-length"), Some("1048576"));
    assert_eq!(fetched.header("etag"), Some("\"e\""));
    assert_eq!(fetched.header("set-cookie"), None);
    assert_eq!(fetched.header("cache-control"), Some("no-store"));
    assert_eq!(
        fetched.header("access-control-allow-origin"),
        Some("https://app")
    );
    let id = told.header("x-request-id").expect("an id");
    assert_eq!(fetched.header("x-request-id"), Some(id));

    let gone = fetcher.get(&path).await;
    assert_eq!((gone.status, gone.cause()), (410, "gone"));
    // The worker's machine has others to serve.
    assert_eq!(client.get("/y").await.status, 303);
}

#[tokio::test]
async fn what_is_no_long_answer_of_status_200_goes_through_the_hub() {
    let worker = long().await;
    let (hub, machine) = start(&worker, 1).await;
    let mut client = hub.client().await;
    for (target, status, length) in [
        ("/empty", 200, 0),
        ("/none", 404, LONG),
        ("/part", 206, LONG),
        ("/page", 200, LONG),
    ] {
        let response = client.get(target).await;
        assert_eq!(response.status, status);
        assert!(response.body == pattern(length), "{target}");
    }
    client
        .send("HEAD /x HTTP/1.1\r\nHost: test\r\n\r\nOPTIONS /x HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    assert_eq!(client.response_to_head().await.status, 200);
    let options = client.response().await;
    assert!(options.status == 200 && options.body == pattern(LONG));
    // To fetch the answer to any other method needs no more than GET.
    let path = path(&client.post("/x", b"body").await);
    assert!(fetcher(&machine).await.get(&path).await.body == pattern(LONG));
}

#[tokio::test]
async fn an_address_is_used_up_by_get_alone() {
    let worker = long().await;
    let (hub, machine) = start(&worker, 1).await;
    let path = path(&hub.client().await.get("/x").await);
    let mut fetcher = fetcher(&machine).await;
    fetcher
        .send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
        .await;
    let head = fetcher.response_to_head().await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-length"), Some("1048576"));
    assert_eq!(head.header("etag"), Some("\"e\""));
    let post = fetcher.post(&path, b"body").await;
    assert_eq!((post.status, post.cause()), (405, "method_not_allowed"));
    assert_eq!(post.header("allow"), Some("GET, HEAD, OPTIONS"));
    fetcher
        .send(format!(
            "OPTIONS {path} HTTP/1.1\r\nHost: test\r\nOrigin: null\r\n\
            Access-Control-Request-Method: GET\r\nAccess-Control-Request-Headers: x-a\r\n\r\n"
        ))
        .await;
    let preflight = fetcher.response().await;
    assert_eq!(preflight.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "null"),
        ("access-control-allow-methods", "GET, HEAD, OPTIONS"),
        ("access-control-allow-headers", "x-a"),
    ] {
        assert_eq!(preflight.header(name), Some(value));
    }
    for (other, status, cause) in [
        (format!("{path}/"), 404, "no_route"),
        ("/".to_owned(), 404, "no_route"),
        ("/__faucet__/healthz".to_owned(), 404, "no_route"),
        (format!("/{}", "0".repeat(32)), 410, "gone"),
    ] {
        let response = fetcher.get(&other).await;
        assert_eq!((response.status, response.cause()), (status, cause));
    }
    fetcher
        .send(format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nOrigin: http://page\r\n\r\n"
        ))
        .await;
    let fetched = fetcher.response().await;
    assert!(fetched.body == pattern(LONG));
    assert_eq!(
        fetched.header("access-control-allow-origin"),
        Some("http://page")
    );
}

#[tokio::test]
async fn of_several_who_come_at_once_one_gets_the_body() {
    let worker = long().await;
    let (hub, machine) = start(&worker, 1).await;
    let path = path(&hub.client().await.get("/x").await);
    let mut fetchers = Vec::new();
    for _ in 0..8 {
        let mut fetcher = fetcher(&machine).await;
        let path = path.clone();
        fetchers.push(tokio::spawn(async move { fetcher.get(&path).await }));
    }
    let mut statuses = Vec::new();
    for fetcher in fetchers {
        let response = within("an answer", fetcher).await.expect("no panic");
        assert!(response.status == 410 || response.body == pattern(LONG));
        statuses.push(response.status);
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 410, 410, 410, 410, 410, 410, 410]);
}

/// A worker that answers bit by bit, as often as its gate is opened; it is told whether it could.
async fn bit_by_bit() -> (Upstream, Gate) {
    let gate = Gate::default();
    let inner = gate.clone();
    let worker = Upstream::start(move |_: Seen, mut wire: Wire| {
        let gate = inner.clone();
        async move {
            wire.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
                .await;
            gate.pass().await;
            wire.raw("3\r\ntwo\r\n0\r\n\r\n").await;
            wire.end()
        }
    })
    .await;
    (worker, gate)
}

/// A client that has the first of them.
async fn first_bit(machine: &Machine, path: &str) -> Client {
    let mut fetcher = fetcher(machine).await;
    fetcher.start_get(path).await;
    while !String::from_utf8_lossy(&fetcher.unread).contains("one") {
        assert!(fetcher.fill().await);
    }
    fetcher
}

#[tokio::test]
async fn a_body_comes_as_it_is_written_and_its_worker_is_busy_until_it_is() {
    let (worker, gate) = bit_by_bit().await;
    let (hub, machine) = start(&worker, 1).await;
    let path = path(&hub.client().await.get("/x").await);
    let mut fetcher = first_bit(&machine, &path).await;
    let mut second = hub.client().await;
    second.start_get("/second").await;
    until("it waits", || hub.server.status()[0].queue == 1).await;
    assert_eq!(worker.count(), 1);
    gate.open(1);
    assert_eq!(fetcher.response().await.text(), "onetwo");
    worker.arrived(2).await;
    gate.open(1);
    assert_eq!(second.response().await.status, 303);
    assert_eq!(worker.peak(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_come_holds_no_worker() {
    let worker = long().await;
    let (hub, machine) = start(&worker, 1).await;
    let mut client = hub.client().await;
    let mut paths = Vec::new();
    for _ in 0..20 {
        paths.push(path(&client.get("/x").await));
    }
    // Nor one that takes nothing.
    let mut slow = fetcher(&machine).await;
    slow.start_get(&paths[0]).await;
    assert_eq!(client.get("/x").await.status, 303);
    for path in &paths[1..] {
        let response = fetcher(&machine).await.get(path).await;
        assert!(response.body == pattern(LONG));
    }
    assert!(slow.response().await.body == pattern(LONG));
}

#[tokio::test]
async fn a_worker_whose_client_leaves_within_the_body_is_free_when_it_has_finished() {
    let (worker, gate) = bit_by_bit().await;
    let (hub, machine) = start(&worker, 1).await;
    let path = path(&hub.client().await.get("/x").await);
    let fetcher = first_bit(&machine, &path).await;
    drop(fetcher);
    let mut second = hub.client().await;
    second.start_get("/second").await;
    until("it waits", || hub.server.status()[0].queue == 1).await;
    // It is no faucet, and does not notice.
    assert_eq!((worker.count(), worker.in_flight()), (1, 1));
    gate.open(1);
    worker.arrived(2).await;
    gate.open(1);
    assert_eq!(second.response().await.status, 303);
    assert_eq!(worker.peak(), 1);
}

#[tokio::test]
async fn a_machine_that_stops_waits_for_those_who_were_told_to_come() {
    let worker = long().await;
    let (hub, machine) = start(&worker, 1).await;
    let Machine { mut server } = machine;
    let path = path(&hub.client().await.get("/x").await);
    let address: SocketAddr = server
        .redirect_address()
        .and_then(|address| address.parse().ok())
        .expect("it redirects");
    let id = server.ask(Request::Stop(Some(common::PATIENCE)));
    hub.offered(0).await;
    assert!(server.result(id).is_none());
    let mut fetcher = Client::connect(address).await;
    assert!(fetcher.get(&path).await.body == pattern(LONG));
    assert!(fetcher.is_closed().await);
    until("it has stopped", || server.result(id).is_some()).await;
}

#[tokio::test]
async fn the_log_has_a_line_for_each_fetch_and_no_address_in_full() {
    let hub = HubServer::start().await;
    let worker = long().await;
    let machine = Machine::of(&[&hub], &worker, 1, |settings| {
        settings.access_log = Some(Format::Text);
        settings.offers.as_mut().map(redirecting);
    })
    .await;
    hub.offered(1).await;
    let told = hub.client().await.get("/x").await;
    let path = path(&told);
    let id = told.header("x-request-id").expect("an id").to_owned();
    let mut fetcher = fetcher(&machine).await;
    fetcher.get(&format!("{path}/?a={path}")).await;
    fetcher.get(&path).await;
    fetcher.get(&path).await;
    let mut lines = Vec::new();
    until("there are lines", || {
        let (more, _) = machine.server.take_lines();
        lines.extend(more.into_iter().map(|line| line.text));
        lines.iter().filter(|line| line.contains("...")).count() == 3
    })
    .await;
    assert!(lines.iter().all(|line| !line.contains(&path[1..])));
    let short = &path[..9];
    let expected = format!("200 GET {short}... ");
    let fetched = lines.iter().find(|line| line.contains(&expected));
    let fetched = fetched.expect("a line");
    assert!(fetched.contains("bytes=1048576") && fetched.contains(&id));
    let of_hub = lines.iter().find(|line| line.contains("303 GET /x "));
    assert!(of_hub.is_some_and(|line| line.contains(&id)));
}

#[tokio::test]
async fn an_https_url_is_served_with_the_servers_certificate() {
    let hub = HubServer::start().await;
    let worker = long().await;
    let (authority, files) = (Authority::new(), Files::new());
    let tls = files.identity(&authority.sign(&["localhost"]));
    for (url, speaks_tls) in [("https://worker", true), ("http://worker", false)] {
        let tls = tls.clone();
        let mut machine = Machine::of(&[&hub], &worker, 1, |settings| {
            settings.tls = Some(tls);
            if let Some(offers) = &mut settings.offers {
                redirecting(offers);
                offers.redirect.as_mut().expect("it redirects").url = url.into();
            }
        })
        .await;
        hub.offered(1).await;
        let told = hub.client().await.get("/x").await;
        let location = told.header("location").expect("one");
        let path = location.strip_prefix(url).expect("its URL");
        let fetched = if speaks_tls {
            let tls = authority.believed();
            let fetcher = dial(&tls, "localhost", bodies(&machine)).await;
            fetcher.expect("it shakes hands").get(path).await
        } else {
            fetcher(&machine).await.get(path).await
        };
        assert!(fetched.body == pattern(LONG));
        machine.stop().await;
        hub.offered(0).await;
    }
}
