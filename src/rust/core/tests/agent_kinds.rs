//! Functions of an agent that are no R code: programs, and services that run already.

mod common;

use common::agent::{ask, Agent};
use common::local::{wait_until, Local};

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

#[test]
fn a_program_is_deployed_called_replaced_and_there_again_after_a_kill() {
    let mut agent = Agent::start(|_| {});
    let sed =
        r#"{"name": "sed", "command": ["sed", "-E"], "options": ["e=", "n"], "workers": [0, 2]}"#;
    let answer = agent.deploy(sed);
    assert_eq!(answer["status"], "deployed", "{answer}");
    let call = |agent: &Agent, query: &str| {
        agent.ask("POST", &format!("/functions/sed{query}"), b"I hate this\n")
    };
    let love = "?e=s/hate/love/";
    assert_eq!(call(&agent, love), (200, "I love this\n".into()));
    let (status, answer) = call(&agent, "?i");
    assert_eq!(status, 400);
    assert!(answer.contains("there is no option `i`"), "{answer}");
    let details = agent.json("GET", "/details?name=sed", "");
    assert_eq!(details[0]["signature"]["parameters"][0]["name"], "e");
    assert_eq!(details[0]["definition"]["options"][0], "e=");
    agent.restart();
    wait_until("it is there again", || {
        call(&agent, love) == (200, "I love this\n".into())
    });
    let tr = r#"{"name": "sed", "command": ["tr", "a-z", "A-Z"]}"#;
    assert_eq!(agent.deploy(tr)["version"], 2);
    assert_eq!(call(&agent, ""), (200, "I HATE THIS\n".into()));
    let (status, answer) = agent.ask("POST", "/rollback?wait=60", br#"{"name": "sed"}"#);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(call(&agent, love), (200, "I love this\n".into()));
    let (status, answer) = agent.ask("POST", "/stop", br#"{"name": "sed"}"#);
    assert_eq!(status, 200, "{answer}");
    wait_until("it has stopped", || call(&agent, love).0 != 200);
}

#[test]
fn a_program_that_fails_says_so_and_its_log_why() {
    let agent = Agent::start(|_| {});
    let fails = r#"{"name": "fails", "command": ["sh", "-c", "echo 'out of luck' >&2; exit 3"]}"#;
    assert_eq!(agent.deploy(fails)["status"], "deployed");
    let (status, answer) = agent.call("fails");
    assert_eq!(status, 500);
    assert!(answer.contains("`sh` exited with status 3"), "{answer}");
    wait_until("its log tells why", || {
        let log = agent.json("GET", "/log?entrypoint=fails", "");
        let logs = log["logs"].as_str().unwrap_or_default().to_owned();
        logs.contains("out of luck") && logs.contains("`sh` exited with status 3")
    });
    // After the first byte of its answer nobody else is told.
    let late = r#"{"name": "late", "command": ["sh", "-c", "echo some; exit 4"]}"#;
    assert_eq!(agent.deploy(late)["status"], "deployed");
    let _ = agent.call("late");
    wait_until("its log tells that, too", || {
        let log = agent.json("GET", "/log?entrypoint=late", "");
        let logs = log["logs"].as_str().unwrap_or_default();
        logs.contains("`sh` exited with status 4")
    });
    let none = agent.deploy(r#"{"name": "none", "command": "no-such-program"}"#);
    assert_eq!(none["status"], "failed");
    let message = none["message"].as_str().expect("a reason");
    assert!(
        message.contains("no program `no-such-program`"),
        "{message}"
    );
}

#[test]
fn a_program_has_its_variables_and_its_secrets() {
    let agent = Agent::start(|_| {});
    let (status, answer) = agent.ask("PUT", "/secrets/db", b"hunter2");
    assert_eq!(status, 200, "{answer}");
    let script =
        "printf '%s %s ' \\\"$FAUCET_FUNCTION\\\" \\\"$A\\\"; cat \\\"$FAUCET_SECRETS/db\\\"";
    let answer = agent.deploy(&format!(
        r#"{{"name": "tells", "command": ["sh", "-c", "{script}"], "env": {{"A": "b"}}, "secrets": "db"}}"#
    ));
    assert_eq!(answer["status"], "deployed", "{answer}");
    assert_eq!(agent.call("tells"), (200, "tells b hunter2".into()));
}

#[test]
fn a_service_is_called_by_its_name_here() {
    let service = Local::ready(1, "says:hello", |_| {});
    let url = service.server.url().expect("a port");
    let agent = Agent::start(|_| {});
    let answer = agent.deploy(&format!(r#"{{"name": "hello", "url": "{url}/says"}}"#));
    assert_eq!(answer["status"], "deployed", "{answer}");
    assert_eq!(agent.call("hello"), (200, "hello".into()));
    assert_eq!(
        ask(&agent.url(), "GET", "/functions/hello/../says", "", b"").0,
        400
    );
    let bad = agent.deploy(r#"{"name": "bad", "url": "https://me@a/b"}"#);
    assert_eq!(bad["status"], "failed", "{bad}");
}

#[test]
fn a_call_that_takes_too_long_is_in_the_functions_log() {
    let agent = Agent::start(|_| {});
    let answer = agent.deploy(r#"{"name": "late", "command": ["sleep", "300"], "timeout": 0.05}"#);
    assert_eq!(answer["status"], "deployed", "{answer}");
    let id = "X-Request-Id: it-is-this-one\r\n";
    let (status, answer) = agent.ask_with("POST", "/functions/late", id, b"");
    assert_eq!(status, 504, "{answer}");
    wait_until("the line", || {
        let log = agent.json("GET", "/log?entrypoint=late", "");
        let logs = log["logs"].as_str().expect("a text");
        logs.lines().any(|line| {
            line.contains("call it-is-this-one of late has passed its deadline")
                && line.ends_with(" s")
        })
    });
}
