//! Calls that nobody waits for, at an agent whose functions are programs.

mod common;

use std::time::Duration;

use common::agent::{Agent, Answer};
use common::local::wait_until;
use common::PATIENCE;
use faucet_core::server::Request;
use faucet_core::token::Token;
use serde_json::Value;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

fn deploy(agent: &Agent, name: &str, command: &[&str]) {
    let definition = serde_json::json!({ "name": name, "command": command, "workers": 2 });
    let answer = agent.deploy(&definition.to_string());
    assert_eq!(answer["status"], "deployed", "{answer}");
}

/// One whose functions copy, shout, take their time and fail.
fn agent() -> Agent {
    let agent = Agent::start(|_| {});
    deploy(&agent, "copy", &["cat"]);
    deploy(&agent, "to-upper", &["tr", "a-z", "A-Z"]);
    deploy(&agent, "forever", &["sleep", "600"]);
    deploy(&agent, "fail", &["sh", "-c", "exit 3"]);
    agent
}

fn json((status, body): Answer) -> (u16, Value) {
    (status, serde_json::from_str(&body).unwrap_or_default())
}

/// The path of a call that was taken.
fn begin(agent: &Agent, path: &str, body: &[u8]) -> String {
    let (status, told) = json(agent.ask("POST", path, body));
    assert_eq!(status, 202, "{told}");
    told["url"].as_str().expect("a URL").to_owned()
}

fn ended(agent: &Agent, url: &str) -> Value {
    let told = agent.json("GET", &format!("{url}?wait=15"), "");
    assert!(!told["ended"].is_null(), "{told}");
    told
}

fn until_it_runs(agent: &Agent, url: &str) {
    wait_until("it runs", || {
        agent.json("GET", url, "")["status"] == "running"
    });
}

fn in_flight(agent: &mut Agent) -> usize {
    let pools = agent.server().status();
    let workers = pools.into_iter().flat_map(|pool| pool.workers);
    workers
        .filter(|worker| format!("{:?}", worker.state).contains("Busy"))
        .count()
}

#[test]
fn a_chain_is_called_and_its_result_fetched() {
    let agent = agent();
    let url = begin(&agent, "/async/copy%20%7C%20to_upper", b"hello");
    let told = ended(&agent, &url);
    assert_eq!(
        (&told["status"], &told["chain"]),
        (&"done".into(), &"copy | to_upper".into()),
        "{told}"
    );
    assert_eq!(told["result"]["length"], 5);
    assert_eq!(
        agent.ask("GET", &format!("{url}/result"), b""),
        (200, "HELLO".into())
    );
    assert_eq!(
        agent.ask("HEAD", &format!("{url}/result"), b""),
        (200, String::new())
    );
    assert_eq!(agent.json("DELETE", &url, "")["status"], "done");
    assert_eq!(agent.ask("GET", &url, b"").0, 404);
    let large = vec![b'x'; 3 << 20];
    let url = begin(&agent, "/async/copy", &large);
    assert_eq!(ended(&agent, &url)["result"]["length"], large.len());
    assert_eq!(
        agent.ask("GET", &format!("{url}/result"), b"").1.len(),
        large.len()
    );
}

#[test]
fn what_cannot_be_called_is_refused_at_once_and_what_fails_later_says_why() {
    let agent = agent();
    for (path, status, field, expected) in [
        ("/async/copy%20%7C%20nothing", 404, "stage", Value::from(2)),
        ("/async/copy%20%7C", 400, "column", Value::from(7)),
        ("/async/copy%20x=1", 400, "option", Value::from("x")),
        (
            "/async/copy?callback=http%3A%2F%2F127.0.0.1%2F",
            400,
            "stage",
            Value::Null,
        ),
    ] {
        let (answered, told) = json(agent.ask("POST", path, b"x"));
        assert_eq!(
            (answered, &told[field]),
            (status, &expected),
            "{path}: {told}"
        );
    }
    let url = begin(&agent, "/async/copy%7Cfail", b"hello");
    let told = ended(&agent, &url);
    assert_eq!(told["status"], "failed");
    let error = &told["error"];
    assert_eq!(
        (&error["stage"], &error["function"]),
        (&2.into(), &"fail".into()),
        "{told}"
    );
    assert_eq!(error["call_id"], told["id"]);
    assert_eq!(agent.ask("GET", &format!("{url}/result"), b"").0, 409);
    let url = begin(&agent, "/async/forever?timeout=0.1", b"");
    assert_eq!(ended(&agent, &url)["error"]["cause"], "timeout");
}

#[test]
fn who_shows_no_token_has_no_calls() {
    let agent = Agent::start(|settings| {
        settings.access.token = Some(Token::new("deploy".into()));
        settings.access.call_token = Some(Token::new("call".into()));
    });
    let ask = |method: &str, path: &str, token: &str, body: &[u8]| {
        let headers = match token {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        json(agent.ask_with(method, path, &headers, body))
    };
    let definition = br#"{"name": "copy", "command": "cat"}"#;
    assert_eq!(
        ask("POST", "/deploy?wait=60", "deploy", definition).1[0]["status"],
        "deployed"
    );
    for token in ["", "wrong"] {
        assert_eq!(ask("POST", "/async/copy", token, b"x").0, 401);
    }
    let (status, told) = ask("POST", "/async/copy", "call", b"x");
    assert_eq!(status, 202, "{told}");
    let url = told["url"].as_str().expect("a URL");
    assert_eq!(ask("GET", url, "", b"").0, 401);
    let (_, told) = ask("GET", &format!("{url}?wait=15"), "call", b"");
    assert_eq!(told["status"], "done", "{told}");
    assert_eq!(ask("GET", &format!("{url}/result"), "deploy", b"").0, 200);
    assert_eq!(ask("DELETE", url, "wrong", b"").0, 401);
}

#[test]
fn who_cancels_a_call_frees_its_worker() {
    let mut agent = agent();
    let url = begin(&agent, "/async/copy%7Cforever", b"x");
    wait_until("it is at work", || in_flight(&mut agent) > 0);
    assert_eq!(agent.json("DELETE", &url, "")["status"], "cancelled");
    wait_until("all are free", || in_flight(&mut agent) == 0);
    assert_eq!(agent.json("GET", &url, "")["status"], "cancelled");
}

#[test]
fn calls_are_there_after_a_kill() {
    let mut agent = agent();
    let done = begin(&agent, "/async/to-upper", b"hello");
    ended(&agent, &done);
    let lost = begin(&agent, "/async/forever", b"x");
    let again = begin(&agent, "/async/forever?retry=1", b"x");
    until_it_runs(&agent, &lost);
    until_it_runs(&agent, &again);
    agent.restart();
    assert_eq!(
        agent.ask("GET", &format!("{done}/result"), b""),
        (200, "HELLO".into())
    );
    let told = ended(&agent, &lost);
    assert_eq!(
        (&told["status"], &told["error"]["cause"]),
        (&"lost".into(), &"lost".into())
    );
    until_it_runs(&agent, &again);
    agent.json("DELETE", &again, "");
    wait_until("all are free", || in_flight(&mut agent) == 0);
}

#[test]
fn a_call_that_runs_may_finish_before_the_server_ends() {
    let mut agent = Agent::start(|_| {});
    deploy(&agent, "slow", &["sh", "-c", "sleep 0.5; cat"]);
    let url = begin(&agent, "/async/slow", b"hello");
    wait_until("it is at work", || in_flight(&mut agent) > 0);
    let mut server = agent.server.take().expect("it runs");
    server.ask(Request::Stop(Some(PATIENCE)));
    wait_until("it has ended", || !server.is_running());
    let agent = Agent::back(agent.state, |_| {});
    assert_eq!(
        agent.ask("GET", &format!("{url}/result"), b""),
        (200, "hello".into())
    );
}

#[test]
fn results_expire() {
    let agent =
        Agent::start(|settings| settings.async_calls.result_ttl = Duration::from_millis(200));
    deploy(&agent, "copy", &["cat"]);
    let url = begin(&agent, "/async/copy", b"hello");
    wait_until("nothing is known of it", || {
        agent.ask("GET", &url, b"").0 == 404
    });
    let folder = agent.state.path().join("calls");
    wait_until("nothing is kept", || {
        std::fs::read_dir(&folder).expect("a folder").count() == 0
    });
}
