//! An agent: functions come, are called, are replaced, go back, stop, and are there again after its end.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use common::agent::{archive, ask, Agent};
use common::local::{is_alive, wait_until};
use faucet_core::server::Request;
use faucet_core::token::Token;
use serde_json::Value;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

fn definition(name: &str, bundle: &str) -> String {
    format!(r#"{{"name": "{name}", "bundle": "{bundle}"}}"#)
}

/// Deploys code under a name.
fn deployed(agent: &Agent, name: &str, code: &str) -> Value {
    let answer = agent.deploy(&definition(name, &agent.upload(code)));
    assert_eq!(answer["status"], "deployed", "{answer}");
    answer
}

fn pids(agent: &mut Agent) -> Vec<u32> {
    let pools = agent.server().status();
    let workers = pools.into_iter().flat_map(|pool| pool.workers);
    workers.filter_map(|worker| worker.pid).collect()
}

#[test]
fn a_function_is_deployed_called_and_told_of() {
    let mut agent = Agent::start(|_| {});
    let answer = deployed(&agent, "a", "says:one");
    let url = format!("{}/functions/a", agent.url());
    assert_eq!(answer["url"], url.as_str());
    assert_eq!(answer["version"], 1);
    assert_eq!(agent.call("a/says"), (200, "one".into()));
    assert_eq!(agent.call("a/env:FAUCET_FUNCTION"), (200, "a".into()));
    let (status, answer) = agent.call("b/says");
    assert_eq!(status, 404);
    assert!(
        answer.contains("no function `b` is served here"),
        "{answer}"
    );
    let details = agent.json("GET", "/details?name=a", "");
    assert_eq!(details[0]["requests"], 2, "{details}");
    assert_eq!(details[0]["workers"], 1);
    assert_eq!(agent.json("POST", "/list", "")[0]["name"], "a");
    let log = agent.json("GET", "/log?entrypoint=a", "");
    assert_eq!(log["function"]["name"], "a");
    let logs = log["logs"].as_str().expect("a text");
    assert!(logs.contains("version 1 is deployed\n"), "{logs}");
    assert!(agent.audit().contains(r#""action":"deploy""#));
    let (status, answer) = agent.ask("GET", "/details?name=b", b"");
    assert_eq!(status, 404, "{answer}");
    assert!(answer.contains("there is no function `b`"));
    agent.until_logged("127.0.0.1: deploy a");
}

#[test]
fn nobody_s_function_has_no_process() {
    let mut agent = Agent::start(|settings| {
        settings.worker.shrink_after = Some(std::time::Duration::from_millis(50));
    });
    deployed(&agent, "a", "says:one");
    wait_until("its worker has left", || pids(&mut agent).is_empty());
    assert_eq!(agent.call("a/says"), (200, "one".into()));
}

#[test]
fn another_version_takes_over_and_the_one_before_comes_back() {
    let agent = Agent::start(|_| {});
    deployed(&agent, "a", "says:one");
    let stop = Arc::new(AtomicBool::new(false));
    let caller = {
        let (stop, url) = (stop.clone(), agent.url());
        std::thread::spawn(move || {
            let mut answers = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                answers.push(ask(&url, "GET", "/functions/a/says", "", b""));
            }
            answers
        })
    };
    deployed(&agent, "a", "says:two");
    assert_eq!(agent.call("a/says"), (200, "two".into()));
    let back = agent.json("POST", "/rollback?wait=60", r#"{"name": "a"}"#);
    assert_eq!(
        (&back["status"], &back["version"]),
        (&"deployed".into(), &3.into())
    );
    assert_eq!(agent.call("a/says"), (200, "one".into()));
    stop.store(true, Ordering::Relaxed);
    let answers = caller.join().expect("no panic");
    assert!(
        answers.iter().all(|(status, _)| *status == 200),
        "{answers:?}"
    );
}

/// Whoever has made a mistake corrects it at once, and does not wait until that has been seen to lead nowhere.
#[test]
fn what_is_not_wanted_any_more_is_given_up_before_it_fails() {
    let mut agent = Agent::start(|_| {});
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = nobody.local_addr().expect("its own").port();
    drop(nobody);
    let service = format!(r#"{{"name": "a", "url": "http://127.0.0.1:{port}/"}}"#);
    let status = |answer: Value| answer["status"].as_str().unwrap_or_default().to_owned();
    let begun = agent.json("POST", "/deploy", &service)[0].clone();
    assert_eq!(status(begun), "deploying");
    let stopped = agent.json("POST", "/stop", r#"{"name": "a"}"#);
    // It would say that nobody has answered.
    assert_eq!(stopped["message"], Value::Null, "{stopped}");
    assert_eq!(status(stopped), "stopped");
    agent.json("POST", "/deploy", &service);
    let answer = deployed(&agent, "a", "says:one");
    assert_eq!(
        (&answer["message"], &answer["version"]),
        (&Value::Null, &3.into())
    );
    assert_eq!(agent.call("a/says"), (200, "one".into()));
    agent.until_logged("version 1 is given up");
    agent.until_logged("version 2 is given up");
}

#[test]
fn a_version_that_does_not_start_leaves_the_one_before() {
    let agent = Agent::start(|_| {});
    let failed = agent.deploy(&definition("a", &agent.upload("fail")));
    assert_eq!(failed["status"], "failed", "{failed}");
    // Of two streams: which line is first is nobody's promise.
    let lines = failed["lines"].as_array().expect("lines");
    assert!(
        ["first line", "last line"]
            .iter()
            .all(|line| lines.contains(&(*line).into())),
        "{lines:?}"
    );
    deployed(&agent, "a", "says:one");
    let failed = agent.deploy(&definition("a", &agent.upload("fail")));
    assert_eq!(failed["status"], "deployed");
    assert_eq!(failed["version"], 2);
    let message = failed["message"].as_str().expect("why");
    assert!(message.contains("status 7"), "{message}");
    assert_eq!(agent.call("a/says"), (200, "one".into()));
    for (definition, expected) in [
        (definition("b", &"0".repeat(64)), "was not uploaded"),
        (
            r#"{"name": "b", "dir": "/none"}"#.to_owned(),
            "no folder /none",
        ),
        (
            r#"{"name": "b", "dir": "/", "secrets": ["db"]}"#.to_owned(),
            "Secret \"db\" is declared, but it is not set",
        ),
    ] {
        let failed = agent.deploy(&definition);
        assert_eq!(failed["status"], "failed");
        let message = failed["message"].as_str().expect("why");
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn what_was_deployed_is_there_after_a_kill() {
    let mut agent = Agent::start(|_| {});
    deployed(&agent, "a", "says:one");
    deployed(&agent, "b", "says:b");
    deployed(&agent, "a", "says:two");
    agent.json("POST", "/stop", r#"{"name": "b"}"#);
    assert_eq!(agent.call("a/says"), (200, "two".into()));
    let before = pids(&mut agent);
    agent.restart();
    for pid in before {
        wait_until("no process is left", || !is_alive(pid));
    }
    assert_eq!(agent.call("a/says"), (200, "two".into()));
    assert_eq!(agent.call("b/says").0, 404);
    let list = agent.json("GET", "/list", "");
    assert_eq!(list[1]["status"], "stopped");
    let back = |name: &str| {
        let body = format!(r#"{{"name": "{name}"}}"#);
        agent.json("POST", "/rollback?wait=60", &body);
    };
    back("b");
    assert_eq!(agent.call("b/says"), (200, "b".into()));
    agent.json("POST", "/stop", r#"{"name": "a"}"#);
    back("a");
    assert_eq!(agent.call("a/says"), (200, "two".into()));
    back("a");
    assert_eq!(agent.call("a/says"), (200, "one".into()));
    agent.json("POST", "/stop", r#"{"name": "a", "remove": true}"#);
    agent.restart();
    let list = agent.json("GET", "/list", "");
    assert_eq!(list.as_array().expect("a list").len(), 1, "{list}");
}

#[test]
fn a_record_that_cannot_be_read_is_set_aside_and_the_others_start() {
    let mut agent = Agent::start(|_| {});
    deployed(&agent, "a", "says:one");
    deployed(&agent, "b", "says:b");
    agent.kill();
    let record = agent.state.path().join("functions/b.json");
    std::fs::write(&record, "{").expect("written");
    agent.restart();
    agent.until_logged("the record of function `b` cannot be read and is set aside");
    assert_eq!(agent.call("a/says"), (200, "one".into()));
    assert_eq!(agent.call("b/says").0, 404);
    assert!(record.with_extension("json.broken").exists());
}

#[test]
fn one_process_has_a_folder() {
    let agent = Agent::start(|_| {});
    let settings = faucet_core::server::Settings {
        agent: Some(faucet_core::server::AgentSettings {
            state_dir: agent.state.path().to_owned(),
            access: Default::default(),
            max_bundle: 1,
            worker: common::local::worker_settings(std::path::Path::new("/")),
            template: None,
            limits: Default::default(),
            drain_timeout: None,
            calls: None,
            ca: None,
            run_as: None,
            async_calls: Default::default(),
        }),
        ..Default::default()
    };
    let failure = faucet_core::server::Server::start(settings);
    let failure = failure.err().expect("it is taken");
    assert_eq!(failure.class, "option");
    assert!(
        failure.message.contains("another agent or proxy uses it"),
        "{failure}"
    );
}

#[test]
fn secrets_reach_those_that_declare_them() {
    let mut agent = Agent::start(|_| {});
    let (status, _) = agent.ask("PUT", "/secrets/db", b"pa55");
    assert_eq!(status, 200);
    assert_eq!(agent.json("GET", "/secrets", ""), serde_json::json!(["db"]));
    let bundle = agent.upload("says:one");
    let with = format!(r#"{{"name": "a", "bundle": "{bundle}", "secrets": ["db"]}}"#);
    assert_eq!(agent.deploy(&with)["status"], "deployed");
    let (_, folder) = agent.call("a/env:FAUCET_SECRETS");
    let file = std::path::Path::new(&folder).join("db");
    assert_eq!(std::fs::read_to_string(&file).expect("exposed"), "pa55");
    let before = agent.call("a/pid");
    assert_eq!(agent.ask("PUT", "/secrets/db", b"other").0, 200);
    wait_until("its workers are replaced", || agent.call("a/pid") != before);
    assert_eq!(std::fs::read_to_string(&file).expect("exposed"), "other");
    let (status, answer) = agent.ask("DELETE", "/secrets/db", b"");
    assert_eq!(status, 409, "{answer}");
    deployed(&agent, "b", "says:one");
    assert_eq!(agent.call("b/env:FAUCET_SECRETS"), (200, String::new()));
    agent.json("POST", "/stop", r#"{"name": "a"}"#);
    wait_until("its secrets are gone", || !file.exists());
    assert_eq!(agent.ask("DELETE", "/secrets/db", b"").0, 200);
    assert!(!agent.audit().contains("pa55"));
    // Whoever has started it has not let go of it yet.
    let root = std::path::Path::new(&folder).parent().expect("a folder");
    assert!(root.exists());
    let server = agent.server();
    server.ask(Request::Kill);
    wait_until("the agent has ended", || !server.is_running());
    assert!(!root.exists());
}

#[test]
fn strangers_are_refused_and_that_is_on_record() {
    let agent = Agent::start(|settings| {
        settings.access.token = Some(Token::new("deploy".into()));
        settings.access.call_token = Some(Token::new("call".into()));
    });
    let by = |token: &str, method: &str, path: &str, body: &[u8]| {
        let header = format!("Authorization: Bearer {token}\r\n");
        agent.ask_with(method, path, &header, body)
    };
    let (status, answer) = by("deploy", "PUT", "/bundles", &archive("says:one"));
    assert_eq!(status, 200);
    let bundle: Value = serde_json::from_str(&answer).expect("JSON");
    let definition = definition("a", bundle["bundle"].as_str().expect("a digest"));
    for token in ["call", "", "deploy2"] {
        let refused = by(token, "POST", "/deploy?wait=60", definition.as_bytes());
        assert_eq!(refused.0, 401, "{refused:?}");
    }
    assert_eq!(agent.ask("GET", "/list", b"").0, 401);
    assert_eq!(
        by("deploy", "POST", "/deploy?wait=60", definition.as_bytes()).0,
        200
    );
    assert_eq!(agent.call("a/says").0, 401);
    assert_eq!(by("call", "GET", "/functions/a/says", b"").0, 200);
    assert_eq!(by("deploy", "GET", "/functions/a/says", b"").0, 200);
    assert_eq!(by("other", "GET", "/functions/a/says", b"").0, 401);
    let audit = agent.audit();
    assert_eq!(
        audit.matches(r#""message":"unauthorized""#).count(),
        5,
        "{audit}"
    );
    assert!(!audit.contains("deploy2"));
}

#[test]
fn what_is_no_bundle_is_refused_whole() {
    let agent = Agent::start(|_| {});
    let (status, answer) = agent.ask("PUT", "/bundles", b"no archive");
    assert_eq!(status, 400, "{answer}");
    let large = vec![0u8; (1 << 20) + 1];
    assert_eq!(agent.ask("PUT", "/bundles", &large).0, 413);
    assert!(agent.audit().contains(r#""status":413"#));
    let kept = std::fs::read_dir(agent.state.path().join("bundles"));
    assert_eq!(kept.expect("a folder").count(), 0);
    let digest = agent.upload("says:one");
    assert_eq!(agent.ask("HEAD", &format!("/bundles/{digest}"), b"").0, 200);
    let audited = format!(
        r#""action":"upload","client":"127.0.0.1","message":"","status":200,"subject":"{digest}""#
    );
    assert!(agent.audit().contains(&audited), "{}", agent.audit());
    assert_eq!(agent.ask("HEAD", "/bundles/..%2f..%2flock", b"").0, 404);
    assert_eq!(agent.ask("HEAD", "/bundles/../lock", b"").0, 404);
}

#[test]
fn who_follows_a_log_does_not_hold_up_the_end() {
    use std::io::{BufRead, BufReader, Write};
    let mut agent = Agent::start(|_| {});
    deployed(&agent, "a", "says:one");
    let url = agent.url();
    let stream = std::net::TcpStream::connect(url.trim_start_matches("http://"));
    let mut stream = stream.expect("it listens");
    let head = "GET /log?entrypoint=a&follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let mut lines = BufReader::new(stream).lines();
    let mut next = |part: &str| {
        lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains(part))
    };
    assert!(next("version 1 is deployed"));
    deployed(&agent, "a", "says:two");
    assert!(next("version 2 is deployed"));
    let id = agent.server().ask(faucet_core::server::Request::Stop(None));
    wait_until("it has stopped", || agent.server().result(id).is_some());
    assert!(!next("nothing more"));
}

#[test]
fn who_deploys_while_it_is_removed_has_a_function_that_can_be_told_of_and_stopped() {
    let mut agent = Agent::start(|_| {});
    let code = agent.upload("says:one");
    for round in 0..20 {
        assert_eq!(agent.deploy(&definition("a", &code))["status"], "deployed");
        let url = agent.url();
        let remover = std::thread::spawn(move || {
            let body = br#"{"name": "a", "remove": true}"#;
            ask(&url, "POST", "/stop", "", body)
        });
        std::thread::sleep(std::time::Duration::from_micros(300 * round));
        let deployed = agent.deploy(&definition("a", &code));
        let stopped = remover.join().expect("no panic");
        assert_eq!(stopped.0, 200, "{stopped:?}");
        let list = agent.json("GET", "/list", "");
        match deployed["status"].as_str() {
            Some("deployed") => {
                assert_eq!(list[0]["status"], "deployed", "{list}");
                assert_eq!(agent.call("a/says"), (200, "one".into()));
                for pid in pids(&mut agent) {
                    nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(pid as i32),
                        nix::sys::signal::Signal::SIGKILL,
                    )
                    .expect("killed");
                    wait_until("it has ended", || !is_alive(pid));
                }
                // Its files are its own.
                wait_until("another worker answers", || agent.call("a/says").0 == 200);
            }
            _ => assert_ne!(agent.call("a/says").0, 200, "{deployed}"),
        }
        agent.ask("POST", "/stop", br#"{"name": "a", "remove": true}"#);
        assert_eq!(agent.call("a/says").0, 404);
    }
}

#[test]
fn what_cannot_be_stopped_for_good_goes_on_and_can_be_stopped_later() {
    let agent = Agent::start(|_| {});
    deployed(&agent, "a", "says:one");
    let (folder, away) = (
        agent.state.path().join("functions"),
        agent.state.path().join("away"),
    );
    std::fs::rename(&folder, &away).expect("renamed");
    let stop = |remove: bool| {
        let body = format!(r#"{{"name": "a", "remove": {remove}}}"#);
        agent.ask("POST", "/stop", body.as_bytes()).0
    };
    assert_eq!((stop(false), stop(true)), (507, 507));
    assert_eq!(agent.call("a/says"), (200, "one".into()));
    assert_eq!(agent.json("GET", "/list", "")[0]["status"], "deployed");
    std::fs::rename(&away, &folder).expect("renamed");
    assert_eq!(stop(false), 200);
    assert_eq!(agent.call("a/says").0, 404);
    assert_eq!(stop(true), 200);
    assert_eq!(agent.json("GET", "/list", ""), serde_json::json!([]));
}

#[test]
fn who_follows_the_log_of_a_function_hears_its_end() {
    let agent = Agent::start(|_| {});
    deployed(&agent, "a", "says:one");
    let url = agent.url();
    let follower = std::thread::spawn(move || {
        let path = "/log?entrypoint=a&follow=1";
        ask(&url, "GET", path, "", b"")
    });
    agent.json("POST", "/stop", r#"{"name": "a", "remove": true}"#);
    let (status, _) = follower.join().expect("it ends");
    // It may have come too late.
    assert!(matches!(status, 200 | 404), "{status}");
}
