//! A proxy over agents: functions come, are called, move when an agent is lost, and are there again after the proxy's end.

mod common;

use common::agent::{ask, Agent};
use common::local::wait_until;
use common::proxy::{agent, name_of, Proxy};
use faucet_core::functions::fleet::AgentName;
use faucet_core::offers::{CallsSettings, HubAddress};
use faucet_core::server::Server;
use faucet_core::token::Token;
use serde_json::Value;

#[test]
fn a_worker() {
    common::local::be_a_worker();
}

/// The functions that an agent has.
fn functions(agent: &Agent) -> Vec<String> {
    let list = agent.json("GET", "/list", "");
    let list = list.as_array().expect("an array").iter();
    list.map(|one| one["name"].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn a_function_is_deployed_called_and_told_of() {
    let agents = [agent(), agent()];
    let proxy = Proxy::of(&[&agents[0], &agents[1]]);
    let answer = proxy.deployed("a", "says:one", "");
    assert_eq!(answer["url"], format!("{}/functions/a", proxy.url()));
    assert_eq!(answer["version"], 1);
    assert_eq!(proxy.call("a/says"), (200, "one".into()));
    assert_eq!(proxy.call("b/says").0, 404);
    let there = functions(&agents[0]).len() + functions(&agents[1]).len();
    assert_eq!(there, 1);
    let at = proxy.at("a");
    let list = proxy.json("POST", "/list", &format!(r#"{{"atAgent": "{at}"}}"#));
    assert_eq!(list[0]["name"], "a");
    let other = agents.iter().map(name_of).find(|name| name.as_str() != at);
    let other = other.expect("the other agent");
    let list = proxy.json("GET", &format!("/list?atAgent={other}"), "");
    assert_eq!(list, serde_json::json!([]));
    let log = proxy.json("GET", "/log?entrypoint=a", "");
    let logs = log["logs"].as_str().expect("a text");
    assert!(logs.contains("version 1 is deployed\n"), "{logs}");
    // Again: the other version, and back.
    assert_eq!(proxy.deployed("a", "says:two", "")["version"], 2);
    assert_eq!(proxy.call("a/says"), (200, "two".into()));
    let back = proxy.json("POST", "/rollback?wait=60", r#"{"name": "a"}"#);
    assert_eq!(back["status"], "deployed", "{back}");
    assert_eq!(proxy.call("a/says"), (200, "one".into()));
    let stopped = proxy.json("POST", "/stop", r#"{"name": "a", "remove": true}"#);
    assert_eq!(stopped["status"], "stopped");
    assert_eq!(proxy.call("a/says").0, 404);
    wait_until("nobody has it", || {
        agents.iter().all(|agent| functions(agent).is_empty())
    });
    assert_eq!(proxy.ask("GET", "/details?name=a", b"").0, 404);
}

#[test]
fn several_agents_serve_one_function() {
    let agents = [agent(), agent()];
    let proxy = Proxy::of(&[&agents[0], &agents[1]]);
    for agent in &agents {
        proxy.agent_is(&name_of(agent), "up");
    }
    proxy.deployed("a", "says:one", r#", "replicas": 2"#);
    for agent in &agents {
        assert_eq!(functions(agent), ["a"]);
    }
    let details = proxy.json("GET", "/details?name=a", "");
    let replicas = details[0]["replicas"].as_array().expect("an array");
    assert_eq!(replicas.len(), 2);
    assert!(replicas.iter().all(|one| one["status"] == "deployed"));
    for _ in 0..10 {
        assert_eq!(proxy.call("a/says"), (200, "one".into()));
    }
    // More than there are: it is deployed all the same, and no failure.
    let answer = proxy.deployed("a", "says:one", r#", "replicas": 3"#);
    assert_eq!(answer["note"], "it is on 2 of 3 agents: there are no more");
    assert_eq!(answer["message"], Value::Null);
}

#[test]
fn a_lost_agents_functions_are_elsewhere_until_it_returns() {
    let mut agents = [agent(), agent()];
    let proxy = Proxy::of(&[&agents[0], &agents[1]]);
    let home = name_of(&agents[0]);
    proxy.agent_is(&home, "up");
    proxy.agent_is(&name_of(&agents[1]), "up");
    proxy.deployed("a", "says:one", "");
    let home_is_first = proxy.at("a") == home.as_str();
    let at = usize::from(!home_is_first);
    agents[at].kill();
    wait_until("it is served elsewhere", || {
        proxy.call("a/says") == (200, "one".into()) && functions(&agents[1 - at]) == ["a"]
    });
    assert_eq!(proxy.json("GET", "/list", "")[0]["status"], "deployed");
}

#[test]
fn what_fails_at_an_agent_says_so() {
    let agent = agent();
    let proxy = Proxy::of(&[&agent]);
    let answer = proxy.deploy("a", "fail", "");
    assert_eq!(answer["status"], "failed", "{answer}");
    let message = answer["message"].as_str().expect("a message");
    let at = format!("at {}: ", name_of(&agent));
    assert!(message.starts_with(&at), "{message}");
    assert!(
        answer["lines"]
            .as_array()
            .is_some_and(|lines| !lines.is_empty()),
        "{answer}"
    );
    let good = proxy.deployed("a", "says:one", "");
    assert_eq!(good["message"], Value::Null);
    // What served before goes on.
    let answer = proxy.deploy("a", "fail", "");
    assert_eq!(answer["status"], "deployed", "{answer}");
    assert_eq!(answer["version"], good["version"]);
    let message = answer["message"].as_str().expect("a message");
    assert!(message.starts_with(&at), "{message}");
    assert!(!answer["lines"].as_array().expect("lines").is_empty());
    assert_eq!(proxy.call("a/says"), (200, "one".into()));
    let (status, answer) = proxy.ask(
        "POST",
        "/deploy",
        br#"{"name": "b", "command": "cat", "toAgent": "nowhere:1"}"#,
    );
    assert_eq!(status, 404, "{answer}");
    assert!(answer.contains("there is no agent `nowhere:1`"));
    let outside = format!(
        r#"{{"name": "b", "bundle": "{}", "filePath": "../b.R"}}"#,
        "0".repeat(64)
    );
    let (status, answer) = proxy.ask("POST", "/deploy", outside.as_bytes());
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("`filePath` must be"), "{answer}");
    let lacking = format!(r#"{{"name": "b", "bundle": "{}"}}"#, "0".repeat(64));
    let (status, answer) = proxy.ask("POST", "/deploy", lacking.as_bytes());
    assert_eq!(status, 400, "{answer}");
    assert!(answer.contains("was not uploaded"));
}

#[test]
fn what_failed_is_started_nowhere_else() {
    let mut agents = [agent(), agent()];
    let proxy = Proxy::of(&[&agents[0], &agents[1]]);
    for agent in &agents {
        proxy.agent_is(&name_of(agent), "up");
    }
    proxy.deployed("a", "says:one", "");
    assert_eq!(proxy.deploy("a", "fail", "")["status"], "deployed");
    let at = usize::from(proxy.at("a") != name_of(&agents[0]).as_str());
    agents[at].kill();
    wait_until("it is served elsewhere", || {
        proxy.call("a/says") == (200, "one".into()) && functions(&agents[1 - at]) == ["a"]
    });
    // Once the other version starts, it is what is deployed.
    assert_eq!(proxy.deployed("a", "says:two", "")["message"], Value::Null);
    assert_eq!(proxy.call("a/says"), (200, "two".into()));
}

#[test]
fn after_its_end_a_proxy_has_everything_back() {
    let (first, second) = (agent(), agent());
    let mut proxy = Proxy::of(&[&first]);
    let added = format!(r#"{{"agent": "{}"}}"#, name_of(&second));
    assert_eq!(proxy.json("POST", "/agents", &added)["new"], true);
    assert_eq!(proxy.json("POST", "/agents", &added)["new"], false);
    proxy.agent_is(&name_of(&second), "up");
    let to = format!(r#", "toAgent": "{}""#, name_of(&second));
    proxy.deployed("a", "says:one", &to);
    proxy.kill();
    proxy.start(|_| {});
    wait_until("it is served", || {
        proxy.call("a/says") == (200, "one".into())
    });
    // Deployed once only.
    assert_eq!(second.json("GET", "/list", "")[0]["version"], 1);
    let path = format!("/agents/{}", name_of(&second));
    assert_eq!(proxy.json("DELETE", &path, "")["removed"], true);
    assert_eq!(proxy.ask("DELETE", &path, b"").0, 404);
    assert_eq!(
        proxy.json("GET", "/agents", "").as_array().map(Vec::len),
        Some(1)
    );
}

#[test]
fn secrets_go_where_they_are_declared() {
    let (first, second) = (agent(), agent());
    let proxy = Proxy::of(&[&first, &second]);
    proxy.agent_is(&name_of(&first), "up");
    assert_eq!(proxy.ask("PUT", "/secrets/db", b"horse").0, 200);
    let to = format!(r#", "secrets": ["db"], "toAgent": "{}""#, name_of(&first));
    proxy.deployed("a", "says:one", &to);
    assert_eq!(proxy.json("GET", "/secrets", ""), serde_json::json!(["db"]));
    assert_eq!(first.json("GET", "/secrets", ""), serde_json::json!(["db"]));
    assert_eq!(second.json("GET", "/secrets", ""), serde_json::json!([]));
    assert_eq!(proxy.ask("DELETE", "/secrets/db", b"").0, 409);
    let answer = proxy.deploy("b", "says:one", r#", "secrets": ["lacking"]"#);
    assert_eq!(answer["status"], "failed", "{answer}");
    proxy.json("POST", "/stop", r#"{"name": "a"}"#);
    assert_eq!(proxy.ask("DELETE", "/secrets/db", b"").0, 200);
    wait_until("the agent has it no more", || {
        first.json("GET", "/secrets", "") == serde_json::json!([])
    });
}

#[test]
fn tokens_are_asked_for_here_and_shown_there() {
    let token = |text: &str| Some(Token::new(text.into()));
    let own = Agent::start(|settings| settings.access.token = token("agents"));
    let name = name_of(&own);
    let mut proxy = Proxy {
        server: None,
        state: tempfile::tempdir().expect("a folder"),
        agents: vec![name],
    };
    proxy.start(|settings| {
        settings.access.token = token("deploys");
        settings.access.call_token = token("calls");
        settings.agent_token = token("agents");
    });
    let with = |token: &str, method: &str, path: &str, body: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        ask(&proxy.url(), method, path, &header, body.as_bytes())
    };
    let definition = format!(r#"{{"name": "u", "url": "{}"}}"#, own.url());
    assert_eq!(with("calls", "POST", "/deploy", &definition).0, 401);
    assert_eq!(proxy.ask("GET", "/list", b"").0, 401);
    let (status, answer) = with("deploys", "POST", "/deploy?wait=60", &definition);
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains(r#""status":"deployed""#), "{answer}");
    assert_eq!(proxy.call("u/").0, 401);
    // The service is the agent itself, which has nothing there.
    assert_eq!(with("calls", "GET", "/functions/u/", "").0, 404);
}

#[test]
fn nobody_is_asked_while_no_agent_is_there() {
    let mut gone = agent();
    let name = name_of(&gone);
    gone.kill();
    let proxy = Proxy::of(&[]);
    let added = format!(r#"{{"agent": "{name}"}}"#);
    proxy.json("POST", "/agents", &added);
    let answer = proxy.json("POST", "/deploy", r#"{"name": "a", "command": "cat"}"#);
    assert_eq!(answer[0]["status"], "deploying");
    assert_eq!(answer[0]["message"], "no agent is there for it");
    for bad in ["", "a", "a/b:1", "a:x"] {
        let body = serde_json::json!({ "agent": bad }).to_string();
        assert_eq!(
            proxy.ask("POST", "/agents", body.as_bytes()).0,
            400,
            "{bad}"
        );
    }
}

#[test]
fn an_agent_that_cannot_be_dialled_dials() {
    let mut proxy = Proxy {
        server: None,
        state: tempfile::tempdir().expect("a folder"),
        agents: Vec::new(),
    };
    let token = || Some(Token::new("agents".into()));
    proxy.start(|settings| {
        settings.door = Some(("127.0.0.1".into(), 0));
        settings.agent_token = token();
    });
    let door = proxy.server.as_ref().and_then(Server::worker_address);
    let door = door.expect("a door");
    let (host, port) = door.rsplit_once(':').expect("a port");
    let calls = |token: Option<Token>, name: &str| CallsSettings {
        proxies: vec![HubAddress {
            host: host.to_owned(),
            port: port.parse().expect("a number"),
            tls: false,
        }],
        token,
        name: name.to_owned(),
        ca: None,
    };
    let _stranger = Agent::start(|settings| settings.calls = Some(calls(None, "stranger")));
    let mut agent = Agent::start(|settings| {
        settings.access.token = token();
        settings.calls = Some(calls(token(), "gpu"));
    });
    let gpu = AgentName::of_caller("gpu").expect("a name");
    proxy.agent_is(&gpu, "up");
    assert_eq!(
        proxy.json("GET", "/agents", "").as_array().map(Vec::len),
        Some(1)
    );
    proxy.deployed("a", "says:one", r#", "toAgent": "gpu""#);
    for _ in 0..20 {
        assert_eq!(proxy.call("a/says"), (200, "one".into()));
    }
    assert_eq!(proxy.at("a"), "gpu");
    // It leaves, and is welcome when it dials again.
    assert_eq!(proxy.json("DELETE", "/agents/gpu", "")["removed"], true);
    proxy.agent_is(&gpu, "up");
    wait_until("it has its place again", || {
        proxy.call("a/says") == (200, "one".into())
    });
    agent.kill();
    proxy.agent_is(&gpu, "down");
    let (calls, state) = (calls(token(), "gpu"), agent.state);
    let _again = Agent::back(state, |settings| {
        settings.access.token = token();
        settings.calls = Some(calls);
    });
    proxy.agent_is(&gpu, "up");
    wait_until("it serves again", || {
        proxy.call("a/says") == (200, "one".into())
    });
}

/// It is kept here, and run at an agent.
#[test]
fn a_call_that_nobody_waits_for_runs_at_an_agent() {
    let agent = agent();
    let mut proxy = Proxy::of(&[&agent]);
    let definition = r#"{"name": "copy", "command": "cat"}"#;
    let answer = proxy.json("POST", "/deploy?wait=60", definition)[0].clone();
    assert_eq!(answer["status"], "deployed", "{answer}");
    let begin = |proxy: &Proxy| {
        let (status, told) = proxy.ask("POST", "/async/copy", b"hello");
        assert_eq!(status, 202, "{told}");
        let told: Value = serde_json::from_str(&told).expect("JSON");
        told["url"].as_str().expect("a URL").to_owned()
    };
    let ended = |proxy: &Proxy, url: &str| {
        let told = proxy.json("GET", &format!("{url}?wait=15"), "");
        assert_eq!(told["status"], "done", "{told}");
        proxy.ask("GET", &format!("{url}/result"), b"")
    };
    let url = begin(&proxy);
    assert_eq!(ended(&proxy, &url), (200, "hello".into()));
    proxy.kill();
    proxy.start(|_| {});
    assert_eq!(ended(&proxy, &url), (200, "hello".into()));
    assert_eq!(agent.ask("GET", &url, b"").0, 404);
}
