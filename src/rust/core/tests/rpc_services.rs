//! Services that speak gRPC themselves, as functions of an agent.

mod common;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use common::agent::Agent;
use common::grpc::{begin, call, connect, ended, message, send, Service};
use common::{until, within, SOON};
use http_body_util::BodyExt;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

fn deploy(agent: &Agent, url: &str, more: &str) {
    let answer = agent.deploy(&format!(
        r#"{{"name": "echo", "url": "{url}", "services": "test.Echo"{more}}}"#
    ));
    assert_eq!(answer["status"], "deployed", "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_passed_on_as_they_come() {
    let service = Service::start().await;
    let agent = Agent::start(|_| {});
    deploy(&agent, &service.url, "");
    let mut client = connect(&agent).await;
    // By the function's name, and by the service's.
    for path in ["/functions/echo/test.Echo/Echo", "/test.Echo/Echo"] {
        let (mut sender, answer) = begin(
            &mut client,
            path,
            &[("grpc-timeout", "20S"), ("x-request-id", "mine")],
        )
        .await;
        let first = message(&[(1, b"first")]);
        send(&mut sender, first.clone()).await;
        let response = within("an answer", answer).await.expect("an answer");
        let told = response.headers();
        assert_eq!(told["told-te"], "trailers");
        assert_eq!(told["told-x-request-id"], "mine");
        assert!(told.contains_key("told-grpc-timeout"));
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
    let (code, _, _) = call(&mut client, "/test.Echo/Fail", Bytes::new()).await;
    assert_eq!(code, 9);
    let (code, _, _) = call(&mut client, "/test.Other/Echo", Bytes::new()).await;
    assert_eq!(code, 12);
    let (code, _, _) = call(&mut client, "/functions/echo", Bytes::new()).await;
    assert_eq!(code, 3);
    // Not by HTTP.
    assert_eq!(
        agent.ask("POST", "/functions/echo/test.Echo/Echo", b"").0,
        501
    );
    assert_eq!(agent.ask("POST", "/test.Echo/Echo", b"").0, 404);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_has_one_call_at_a_time() {
    let service = Service::start().await;
    let agent = Agent::start(|_| {});
    deploy(&agent, &service.url, "");
    let client = connect(&agent).await;
    let calls: Vec<_> = (0..40u8)
        .map(|number| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let input = message(&[(1, &[number])]);
                let (code, _, output) = call(&mut client, "/test.Echo/Echo", input.clone()).await;
                assert_eq!((code, output), (0, input));
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
async fn who_leaves_or_is_late_holds_no_service() {
    let service = Service::start().await;
    let agent = Agent::start(|_| {});
    deploy(&agent, &service.url, "");
    let mut client = connect(&agent).await;
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
    until("it is given up", || given_up() == 3).await;
    // In the middle of an answer.
    let (mut sender, answer) = begin(&mut client, "/test.Echo/Echo", &[]).await;
    send(&mut sender, message(&[(1, b"half")])).await;
    let response = within("an answer", answer).await.expect("an answer");
    drop((response, sender));
    until("it is given up", || given_up() == 4).await;
    let input = message(&[(1, b"free")]);
    let (code, _, output) = call(&mut client, "/test.Echo/Echo", input.clone()).await;
    assert_eq!((code, output), (0, input));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_functions_timeout_and_who_sends_nothing() {
    let service = Service::start().await;
    let agent = Agent::start_with(|_| {}, |server| server.limits.idle_timeout = Some(2 * SOON));
    deploy(&agent, &service.url, r#", "timeout": 0.1"#);
    let mut client = connect(&agent).await;
    let (sender, answer) = begin(&mut client, "/test.Echo/Hold", &[]).await;
    assert_eq!(ended(answer).await.0, 4);
    drop(sender);
    deploy(&agent, &service.url, "");
    let (sender, answer) = begin(&mut client, "/test.Echo/Hold", &[]).await;
    let (code, trailers, _) = ended(answer).await;
    assert_eq!(
        (code, trailers["faucet-error"].as_bytes()),
        (4, &b"body_timeout"[..])
    );
    drop(sender);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_gone_is_unavailable_and_comes_back() {
    let service = Service::start().await;
    let agent = Agent::start(|_| {});
    deploy(&agent, &service.url, "");
    let mut client = connect(&agent).await;
    let (sender, answer) = begin(&mut client, "/test.Echo/Hold", &[]).await;
    until("it is called", || {
        service.seen.calls.load(Ordering::SeqCst) == 1
    })
    .await;
    service.stop().await;
    let (code, trailers, _) = ended(answer).await;
    assert_eq!(code, 13, "{trailers:?}");
    drop(sender);
    let (code, trailers, _) = call(&mut client, "/test.Echo/Echo", message(&[])).await;
    assert_eq!(code, 14, "{trailers:?}");
    // Another one takes its place.
    let service = Service::start().await;
    deploy(&agent, &service.url, "");
    let (code, _, _) = call(&mut client, "/test.Echo/Echo", message(&[])).await;
    assert_eq!(code, 0);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_tells_how_calls_ended() {
    let service = Service::start().await;
    let mut agent = Agent::start_with(
        |_| {},
        |server| server.access_log = Some(faucet_core::ops::access::Format::Text),
    );
    deploy(&agent, &service.url, "");
    let mut client = connect(&agent).await;
    for (path, code) in [
        ("/test.Echo/Echo", 0),
        ("/test.Echo/Fail", 9),
        ("/test.Other/Echo", 12),
        ("/faucet.v1.Functions/None", 12),
    ] {
        assert_eq!(call(&mut client, path, Bytes::new()).await.0, code);
    }
    let (sender, answer) = begin(&mut client, "/test.Echo/Hold", &[]).await;
    let answer = tokio::spawn(answer);
    until("it is called", || {
        service.seen.calls.load(Ordering::SeqCst) == 3
    })
    .await;
    answer.abort();
    agent.until_logged(" 499 POST /test.Echo/Hold");
    drop(sender);
    for (path, status) in [
        ("/test.Echo/Echo", 0),
        ("/test.Echo/Fail", 9),
        ("/test.Other/Echo", 12),
        ("/faucet.v1.Functions/None", 12),
        ("/test.Echo/Hold", 1),
    ] {
        let is_its = |line: &&String| line.contains(&format!(" POST {path} "));
        let line = agent.lines.iter().find(is_its).expect(path);
        let said = format!(" grpc_status={status}");
        assert!(line.contains(&said), "{line}");
    }
    service.stop().await;
}

#[test]
fn a_service_is_one_functions_alone() {
    let mut agent = Agent::start(|_| {});
    // It is there, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let definition = |name: &str, services: &str| {
        let url = format!("grpc://127.0.0.1:{port}");
        format!(r#"{{"name": "{name}", "url": "{url}", "services": [{services}]}}"#)
    };
    let deployed = |agent: &Agent, name: &str| {
        agent.deploy(&definition(name, r#""test.Echo""#))["status"] == "deployed"
    };
    let refused = |agent: &Agent, definitions: &str, by: &str| {
        let (status, answer) = agent.ask("POST", "/deploy?wait=60", definitions.as_bytes());
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!((status, &answer["takenBy"]), (409, &by.into()), "{answer}");
        assert_eq!(answer["service"], "test.Echo");
    };
    assert!(deployed(&agent, "first"));
    let second = definition("second", r#""test.Other", "test.Echo""#);
    refused(&agent, &second, "first");
    assert!(deployed(&agent, "first"));
    // Nothing is deployed of what comes together.
    let other = definition("other", "");
    refused(&agent, &format!("[{other}, {second}]"), "first");
    assert_eq!(
        agent.json("GET", "/list", "").as_array().map(Vec::len),
        Some(1)
    );
    agent.json("POST", "/stop", r#"{"name": "first"}"#);
    assert!(deployed(&agent, "second"));
    refused(&agent, &definition("first", r#""test.Echo""#), "second");
    let rolled_back = agent.ask("POST", "/rollback", br#"{"name": "first"}"#);
    assert_eq!(rolled_back.0, 409, "{}", rolled_back.1);
    // As one that took both has kept it.
    agent.kill();
    let path = agent.state.path().join("functions/first.json");
    let record = std::fs::read_to_string(&path).expect("a record");
    let record = record.replace(r#""stopped":true"#, r#""stopped":false"#);
    std::fs::write(&path, record).expect("a folder");
    agent.restart();
    agent.until_logged("the service `test.Echo` is function `first`'s");
}

#[test]
fn what_is_no_service_is_refused() {
    let agent = Agent::start(|_| {});
    for (definition, field) in [
        (
            r#"{"name": "a", "url": "http://b", "services": "c.D"}"#,
            "services",
        ),
        (
            r#"{"name": "a", "url": "grpc://b:1", "services": "c/D"}"#,
            "services",
        ),
    ] {
        let (status, answer) = agent.ask("POST", "/deploy", definition.as_bytes());
        assert_eq!(status, 400, "{answer}");
        assert!(answer.contains(field), "{answer}");
    }
    for (url, part) in [("grpc://b", "port"), ("grpc://b:1/c", "path")] {
        let answer = agent.deploy(&format!(r#"{{"name": "a", "url": "{url}"}}"#));
        assert_eq!(answer["status"], "failed", "{answer}");
        assert!(answer["message"]
            .as_str()
            .is_some_and(|text| text.contains(part)));
    }
}
