//! gRPC, by a client that does what a test says. What stock clients make of it, `tools/test-grpc` tells.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::agent::Agent;
use common::grpc::{begin, call, connect, ended, message, send};
use common::local::wait_until;
use common::{within, PATIENCE, SOON};
use http_body_util::channel::Channel;
use http_body_util::BodyExt;
use hyper::Request;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

/// What calls `chain` with this input, or its beginning.
fn invocation(chain: &str, data: &[u8]) -> Bytes {
    message(&[(1, chain.as_bytes()), (5, data)])
}

const INVOKE: &str = "/faucet.v1.Functions/Invoke";
const REFLECT: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

fn deployed(agent: &Agent, definition: &str) {
    let answer = agent.deploy(definition);
    assert_eq!(answer["status"], "deployed", "{answer}");
}

#[tokio::test]
async fn half_an_input_is_not_taken_for_all_of_it() {
    let agent = Agent::start(|_| {});
    let directory = tempfile::tempdir().expect("a directory");
    let ends = directory.path().join("ends");
    // It may begin with half an input, as it reads that as it comes, and answers at its end.
    let command = format!(
        "all=$(cat); echo end >> '{}'; echo \"$all\"",
        ends.display()
    );
    let definition = serde_json::json!({"name": "cat", "command": ["sh", "-c", command]});
    deployed(&agent, &definition.to_string());
    let mut client = connect(&agent).await;
    let mut left = Vec::new();
    for reset_by in ["an error", "leaving"] {
        // The program has most likely not begun, or has.
        for wait in [Duration::ZERO, Duration::from_millis(20)] {
            let (mut sender, answer) = begin(&mut client, INVOKE, &[]).await;
            let answer = tokio::spawn(answer);
            send(&mut sender, invocation("cat", b"half")).await;
            tokio::time::sleep(wait).await;
            if reset_by == "an error" {
                sender.abort(std::io::Error::other("no more"));
                assert!(within("a reset", answer).await.expect("a task").is_err());
            } else {
                answer.abort();
                let _ = answer.await;
                // Its end would be that of the input.
                left.push(sender);
            }
        }
    }
    let (code, _, output) = call(&mut client, INVOKE, invocation("cat", b"whole")).await;
    assert_eq!(code, 0);
    assert!(output.ends_with(b"whole\n"), "{output:?}");
    let ends = std::fs::read_to_string(ends).expect("it ran");
    assert_eq!(ends, "end\n");
}

#[tokio::test]
async fn who_sends_nothing_is_not_waited_for() {
    let agent = Agent::start_with(|_| {}, |server| server.limits.idle_timeout = Some(SOON));
    let mut client = connect(&agent).await;
    // No message, half a head of one, half a message.
    for begun in [&b""[..], &[0, 0], &[0, 0, 0, 0, 9, 1]] {
        let (mut sender, answer) = begin(&mut client, INVOKE, &[]).await;
        if !begun.is_empty() {
            send(&mut sender, Bytes::from_static(begun)).await;
        }
        let (code, trailers, _) = ended(answer).await;
        assert_eq!(code, 4, "{trailers:?}");
        assert_eq!(trailers["faucet-error"], "body_timeout");
        drop(sender);
    }
}

#[tokio::test]
async fn a_deadline_counts_from_the_beginning() {
    let agent = Agent::start(|_| {});
    let mut client = connect(&agent).await;
    let (sender, answer) = begin(&mut client, INVOKE, &[("grpc-timeout", "50m")]).await;
    let (code, trailers, _) = ended(answer).await;
    assert_eq!(
        (code, &trailers["faucet-error"]),
        (4, &"timeout".parse().expect("a value"))
    );
    drop(sender);
    let (sender, answer) = begin(&mut client, INVOKE, &[("grpc-timeout", "soon")]).await;
    assert_eq!(ended(answer).await.0, 3);
    drop(sender);
}

#[tokio::test]
async fn what_is_no_message_is_refused() {
    let agent = Agent::start(|_| {});
    deployed(&agent, r#"{"name": "cat", "command": "cat"}"#);
    let mut client = connect(&agent).await;
    let huge = Bytes::from_static(&[0, 0, 64, 0, 1]);
    let (code, trailers, _) = call(&mut client, INVOKE, huge).await;
    assert_eq!(code, 8, "{trailers:?}");
    // No valid protobuf, a message that is compressed, one that is cut off, and no chain.
    for (input, expected) in [
        (&[0, 0, 0, 0, 1, 255][..], 13),
        (&[1, 0, 0, 0, 1, 255], 13),
        (&[0, 0, 0, 0, 9, 10], 13),
    ] {
        let (code, trailers, _) = call(&mut client, INVOKE, Bytes::from_static(input)).await;
        assert_eq!(code, expected, "{trailers:?}");
    }
    let (code, _, _) = call(&mut client, "/faucet.v1.Functions/None", Bytes::new()).await;
    assert_eq!(code, 12);
    // What does not speak gRPC hears of it by HTTP.
    let request =
        Request::post(format!("http://localhost{INVOKE}")).header("content-type", "text/plain");
    let (_, body) = Channel::new(1);
    let answer = client.send_request(request.body(body).expect("a request"));
    assert_eq!(
        within("an answer", answer)
            .await
            .expect("an answer")
            .status(),
        415
    );
    let (code, _, _) = call(&mut client, INVOKE, invocation("cat", b"a")).await;
    assert_eq!(code, 0);
}

/// What one who watches is told next.
async fn told(watching: &mut hyper::body::Incoming) -> u8 {
    let frame = within("a message", watching.frame()).await;
    let frame = frame.expect("one").expect("one").into_data();
    // The field `status`, in a message of two bytes.
    match &frame.expect("data")[..] {
        [0, 0, 0, 0, 2, 8, status] => *status,
        other => panic!("{other:?}"),
    }
}

const SERVING: u8 = 1;
const NOT_SERVING: u8 = 2;
const SERVICE_UNKNOWN: u8 = 3;

#[tokio::test]
async fn who_watches_is_told_when_a_function_comes_and_goes() {
    let mut agent = Agent::start(|_| {});
    let mut client = connect(&agent).await;
    let mut watching = Vec::new();
    for service in [&b"cat"[..], b""] {
        let (mut watcher, answer) = begin(&mut client, WATCH, &[]).await;
        send(&mut watcher, message(&[(1, service)])).await;
        drop(watcher);
        let answer = within("an answer", answer).await.expect("an answer");
        watching.push(answer.into_body());
    }
    let mut server = watching.pop().expect("two");
    let mut cat = watching.pop().expect("two");
    assert_eq!(told(&mut server).await, SERVING);
    assert_eq!(told(&mut cat).await, SERVICE_UNKNOWN);
    for _ in 0..2 {
        deployed(&agent, r#"{"name": "cat", "command": "cat"}"#);
        while told(&mut cat).await != SERVING {}
        agent.json("POST", "/stop", r#"{"name": "cat"}"#);
        // It drains first.
        loop {
            match told(&mut cat).await {
                SERVICE_UNKNOWN => break,
                other => assert_eq!(other, NOT_SERVING),
            }
        }
    }
    agent
        .server()
        .ask(faucet_core::server::Request::Stop(Some(PATIENCE)));
    // Nothing has come before that.
    assert_eq!(told(&mut server).await, NOT_SERVING);
    assert_eq!(told(&mut cat).await, NOT_SERVING);
    for watching in [server, cat] {
        let rest = within("its end", watching.collect()).await.expect("an end");
        assert_eq!(rest.trailers().expect("trailers")["grpc-status"], "0");
        assert!(rest.to_bytes().is_empty());
    }
}

#[tokio::test]
async fn streams_that_would_go_on_end_with_the_server() {
    let mut agent = Agent::start(|_| {});
    deployed(&agent, r#"{"name": "cat", "command": "cat"}"#);
    let mut client = connect(&agent).await;
    let (mut sender, answer) = begin(&mut client, REFLECT, &[]).await;
    // ListServices.
    send(&mut sender, message(&[(7, b"")])).await;
    let reflecting = within("an answer", answer).await.expect("an answer");
    let mut reflecting = reflecting.into_body();
    let listed = within("a message", reflecting.frame())
        .await
        .expect("one")
        .expect("one");
    let listed = listed.into_data().expect("data");
    let listed = String::from_utf8_lossy(&listed);
    assert!(listed.contains("faucet.v1.Functions"), "{listed}");
    let (mut watcher, answer) = begin(&mut client, WATCH, &[]).await;
    send(&mut watcher, message(&[])).await;
    drop(watcher);
    let watching = within("an answer", answer).await.expect("an answer");
    let mut watching = watching.into_body();
    let frame = within("a message", watching.frame())
        .await
        .expect("one")
        .expect("one");
    // SERVING.
    assert_eq!(&frame.into_data().expect("data")[..], [0, 0, 0, 0, 2, 8, 1]);
    agent
        .server()
        .ask(faucet_core::server::Request::Stop(Some(PATIENCE)));
    let rest = within("its end", reflecting.collect())
        .await
        .expect("an end");
    assert_eq!(rest.trailers().expect("trailers")["grpc-status"], "14");
    let rest = within("its end", watching.collect()).await.expect("an end");
    assert_eq!(rest.trailers().expect("trailers")["grpc-status"], "0");
    // NOT_SERVING.
    assert_eq!(&rest.to_bytes()[..], [0, 0, 0, 0, 2, 8, 2]);
    drop(sender);
    let server = agent.server();
    wait_until("the server has ended", || {
        server.wait(Duration::from_millis(10));
        matches!(server.phase(), faucet_core::server::Phase::Stopped)
    });
}
