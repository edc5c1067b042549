//! Services that speak gRPC themselves, as functions of a proxy: their calls go on to agents, and from there to the service.

mod common;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use common::agent::{ask, Agent};
use common::grpc::{begin, call, connect, connect_to, ended, message, send, Client, Service};
use common::local::wait_until;
use common::proxy::{agent, name_of};
use common::tls::{Authority, Files};
use common::{pattern, until, within};
use faucet_core::front::Networks;
use faucet_core::offers::{CallsSettings, HubAddress};
use faucet_core::server::{ProxySettings, Server};
use faucet_core::token::Token;
use http_body_util::BodyExt;
use serde_json::Value;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

struct Proxy(common::proxy::Proxy);

fn proxy(agents: &[&Agent], change: impl FnOnce(&mut ProxySettings)) -> Proxy {
    let mut proxy = common::proxy::Proxy {
        server: None,
        state: tempfile::tempdir().expect("a folder"),
        agents: agents.iter().map(|agent| name_of(agent)).collect(),
    };
    proxy.start(change);
    Proxy(proxy)
}

impl Proxy {
    fn url(&self) -> String {
        self.0.url()
    }

    fn deploy(&self, definition: &str) -> Value {
        self.0.json("POST", "/deploy?wait=60", definition)[0].clone()
    }

    /// Deploys `test.Echo`.
    fn deployed(&self, url: &str, more: &str) {
        let answer = self.deploy(&format!(
            r#"{{"name": "echo", "url": "{url}", "services": "test.Echo"{more}}}"#
        ));
        assert_eq!(answer["status"], "deployed", "{answer}");
    }

    async fn client(&self) -> Client {
        connect_to(&self.url()).await
    }
}

/// Both directions at once, metadata, trailers and errors.
async fn calls_are_passed_on(client: &mut Client) {
    for path in ["/functions/echo/test.Echo/Echo", "/test.Echo/Echo"] {
        let more = [("grpc-timeout", "20S"), ("x-request-id", "mine")];
        let (mut sender, answer) = begin(client, path, &more).await;
        let first = message(&[(1, b"first")]);
        send(&mut sender, first.clone()).await;
        let response = within("an answer", answer).await.expect("an answer");
        let told = response.headers();
        assert_eq!(told["told-te"], "trailers");
        assert_eq!(told["told-x-request-id"], "mine");
        assert!(told.contains_key("told-grpc-timeout"));
        let ours = |name: &&hyper::header::HeaderName| name.as_str().starts_with("faucet-");
        assert_eq!(told.keys().find(ours), None);
        let mut output = response.into_body();
        let frame = within("a message", output.frame()).await.expect("one");
        assert_eq!(frame.expect("one").into_data().expect("data"), first);
        let second = message(&[(1, b"second")]);
        send(&mut sender, second.clone()).await;
        drop(sender);
        let rest = within("the end", output.collect()).await.expect("an end");
        assert_eq!(rest.trailers().expect("trailers")["grpc-status"], "0");
        assert_eq!(rest.to_bytes(), second);
    }
    for (path, expected) in [
        ("/test.Echo/Fail", 9),
        ("/test.Other/Echo", 12),
        ("/functions/echo", 3),
    ] {
        let (code, _, _) = call(client, path, Bytes::new()).await;
        assert_eq!(code, expected, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_through_a_proxy_as_they_come() {
    let service = Service::start().await;
    // Whether the agent takes the proxy for a front, or for any client.
    for agent in [agent(), Agent::start(|_| {})] {
        let proxy = proxy(&[&agent], |_| {});
        proxy.deployed(&service.url, "");
        calls_are_passed_on(&mut proxy.client().await).await;
        let answer = ask(
            &proxy.url(),
            "POST",
            "/functions/echo/test.Echo/Echo",
            "",
            b"",
        );
        assert_eq!(answer.0, 501);
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_dials_in_is_called_over_what_it_has_dialled() {
    let service = Service::start().await;
    let token = || Some(Token::new("shared".into()));
    let proxy = proxy(&[], |settings| {
        settings.door = Some(("127.0.0.1".into(), 0));
        settings.agent_token = token();
    });
    let door = proxy
        .0
        .server
        .as_ref()
        .and_then(Server::worker_address)
        .expect("a door");
    let (host, port) = door.rsplit_once(':').expect("a port");
    let calls = CallsSettings {
        proxies: vec![HubAddress {
            host: host.to_owned(),
            port: port.parse().expect("a number"),
            tls: false,
        }],
        token: token(),
        name: "far".into(),
        ca: None,
    };
    let _agent = Agent::start(|settings| {
        settings.access.token = token();
        settings.calls = Some(calls);
    });
    wait_until("the agent is there", || {
        let (_, agents) = ask(&proxy.url(), "GET", "/agents", "", b"");
        agents.contains(r#""status":"up""#)
    });
    proxy.deployed(&service.url, r#", "toAgent": "far""#);
    calls_are_passed_on(&mut proxy.client().await).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_tls_is_called_by_http2_with_tls() {
    let service = Service::start().await;
    let (authority, files) = (Authority::new(), Files::new());
    let identity = files.identity(&authority.sign(&["127.0.0.1"]));
    let agent = Agent::start_with(
        |_| {},
        |settings| {
            settings.fronts = Networks::parse(&["127.0.0.0/8"]).expect("a network");
            settings.tls = Some(identity);
        },
    );
    let ca = files.write("ca.pem", &authority.pem);
    let proxy = proxy(&[&agent], |settings| {
        settings.tls = true;
        settings.ca = Some(ca);
    });
    proxy.deployed(&service.url, "");
    calls_are_passed_on(&mut proxy.client().await).await;
    service.stop().await;
}

/// Two proxies and the agent's own clients share a service that has one call at a time: calls are refused, wait for their turn,
/// and are sent again from their beginning.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_others_use_has_one_call_at_a_time_and_none_is_lost() {
    let service = Service::start().await;
    let agent = agent();
    let proxies = [proxy(&[&agent], |_| {}), proxy(&[&agent], |_| {})];
    for proxy in &proxies {
        proxy.deployed(&service.url, "");
    }
    let clients = [
        proxies[0].client().await,
        proxies[1].client().await,
        connect(&agent).await,
    ];
    let calls: Vec<_> = (0..60usize)
        .map(|number| {
            let mut client = clients[number % 3].clone();
            tokio::spawn(async move {
                // Some are larger than what is sent before it is read.
                let size = [3, 40_000, 300_000][number / 3 % 3];
                let input = message(&[(1, &pattern(size)), (2, &number.to_be_bytes())]);
                let (mut sender, answer) = begin(&mut client, "/test.Echo/Echo", &[]).await;
                let sending = async {
                    let mut rest = input.clone();
                    while !rest.is_empty() {
                        let piece = rest.split_to(rest.len().min(10_000));
                        if sender.send_data(piece).await.is_err() {
                            break;
                        }
                    }
                    drop(sender);
                };
                let ((), (code, trailers, output)) = tokio::join!(sending, ended(answer));
                assert_eq!(code, 0, "{trailers:?}");
                assert_eq!(output, input);
            })
        })
        .collect();
    for call in calls {
        call.await.expect("an answer");
    }
    assert_eq!(service.seen.most.load(Ordering::SeqCst), 1);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_a_proxy_or_is_late_holds_no_service() {
    let service = Service::start().await;
    let agent = agent();
    let proxy = proxy(&[&agent], |_| {});
    proxy.deployed(&service.url, "");
    let mut client = proxy.client().await;
    let given_up = || service.seen.given_up.load(Ordering::SeqCst);
    let calls = || service.seen.calls.load(Ordering::SeqCst);
    // Its input is still to come, or has come.
    for (round, complete) in [false, true].into_iter().enumerate() {
        let (sender, answer) = begin(&mut client, "/test.Echo/Hold", &[]).await;
        let sender = (!complete).then_some(sender);
        let answer = tokio::spawn(answer);
        until("it is called", || calls() == round + 1).await;
        answer.abort();
        until("it is given up", || given_up() == round + 1).await;
        drop(sender);
    }
    // By the call's own deadline.
    let (sender, answer) = begin(&mut client, "/test.Echo/Hold", &[("grpc-timeout", "100m")]).await;
    let (code, trailers, _) = ended(answer).await;
    assert_eq!(code, 4, "{trailers:?}");
    drop(sender);
    // In the middle of an answer.
    let (mut sender, answer) = begin(&mut client, "/test.Echo/Echo", &[]).await;
    send(&mut sender, message(&[(1, b"half")])).await;
    let response = within("an answer", answer).await.expect("an answer");
    let before = given_up();
    drop(response);
    // Its end would be one.
    sender.abort(std::io::Error::other("no more"));
    until("it is given up", || given_up() > before).await;
    let input = message(&[(1, b"free")]);
    let (code, _, output) = call(&mut client, "/test.Echo/Echo", input.clone()).await;
    assert_eq!((code, output), (0, input));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_agent_is_unavailable_and_another_serves() {
    let service = Service::start().await;
    let mut agents = [agent(), agent()];
    let proxy = proxy(&[&agents[0], &agents[1]], |_| {});
    proxy.deployed(&service.url, r#", "replicas": 2"#);
    let mut client = proxy.client().await;
    for round in 0..2 {
        if round == 1 {
            agents[0].kill();
        }
        for _ in 0..4 {
            let input = message(&[(1, b"either")]);
            let (code, trailers, output) =
                call(&mut client, "/test.Echo/Echo", input.clone()).await;
            assert_eq!((code, output), (0, input), "{trailers:?}");
        }
    }
    let calls = || service.seen.calls.load(Ordering::SeqCst);
    let before = calls();
    let (sender, answer) = begin(&mut client, "/test.Echo/Hold", &[]).await;
    until("it is called", || calls() > before).await;
    agents[1].kill();
    let (code, trailers, _) = ended(answer).await;
    assert_eq!(code, 13, "{trailers:?}");
    drop(sender);
    service.stop().await;
}
