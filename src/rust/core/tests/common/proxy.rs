//! A proxy over [agents](super::agent).

use std::time::Duration;

use faucet_core::front::Networks;
use faucet_core::functions::calls;
use faucet_core::functions::fleet::AgentName;
use faucet_core::functions::management::Access;
use faucet_core::pool::PoolLimits;
use faucet_core::server::{ProxySettings, Request, Server, Settings};
use serde_json::Value;
use tempfile::TempDir;

use super::agent::{archive, ask, Agent, Answer};
use super::local::wait_until;
use super::PATIENCE;

/// A running proxy and its folder.
pub struct Proxy {
    pub server: Option<Server>,
    pub state: TempDir,
    pub agents: Vec<AgentName>,
}

pub fn name_of(agent: &Agent) -> AgentName {
    let url = agent.url();
    let (_, authority) = url.split_once("://").expect("a URL");
    AgentName::parse(authority).expect("an agent")
}

impl Proxy {
    pub fn of(agents: &[&Agent]) -> Self {
        let mut proxy = Self {
            server: None,
            state: tempfile::tempdir().expect("a folder"),
            agents: agents.iter().map(|agent| name_of(agent)).collect(),
        };
        proxy.start(|_| {});
        proxy
    }

    pub fn start(&mut self, change: impl FnOnce(&mut ProxySettings)) {
        self.start_with(change, |_| {});
    }

    /// The same with other settings of its server.
    pub fn start_with(
        &mut self,
        change: impl FnOnce(&mut ProxySettings),
        change_server: impl FnOnce(&mut Settings),
    ) {
        let mut proxy = ProxySettings {
            agents: self.agents.clone(),
            door: None,
            tls: false,
            ca: None,
            agent_token: None,
            state_dir: self.state.path().to_owned(),
            access: Access::default(),
            max_bundle: 1 << 20,
            limits: PoolLimits::default(),
            agent_grace: Duration::from_millis(300),
            check_every: Duration::from_millis(20),
            drain_timeout: Some(PATIENCE),
            async_calls: calls::Settings::default(),
        };
        change(&mut proxy);
        let mut settings = Settings {
            proxy: Some(proxy),
            ..Settings::default()
        };
        change_server(&mut settings);
        self.server = Some(Server::start(settings).expect("a server"));
    }

    pub fn kill(&mut self) {
        let mut server = self.server.take().expect("it runs");
        server.ask(Request::Kill);
        wait_until("the proxy has ended", || !server.is_running());
    }

    pub fn url(&self) -> String {
        let server = self.server.as_ref().expect("it runs");
        server.url().expect("a port")
    }

    pub fn ask(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        ask(&self.url(), method, path, "", body)
    }

    pub fn json(&self, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.ask(method, path, body.as_bytes());
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Deploys code; what is told of it once that is settled.
    pub fn deploy(&self, name: &str, code: &str, more: &str) -> Value {
        let (status, answer) = self.ask("PUT", "/bundles", &archive(code));
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let digest = answer["bundle"].as_str().expect("a digest").to_owned();
        let definition = format!(r#"{{"name": "{name}", "bundle": "{digest}"{more}}}"#);
        self.json("POST", "/deploy?wait=60", &definition)[0].clone()
    }

    pub fn deployed(&self, name: &str, code: &str, more: &str) -> Value {
        let answer = self.deploy(name, code, more);
        assert_eq!(answer["status"], "deployed", "{answer}");
        answer
    }

    pub fn call(&self, path: &str) -> Answer {
        self.ask("GET", &format!("/functions/{path}"), b"")
    }

    pub fn agent_is(&self, agent: &AgentName, status: &str) {
        wait_until("an agent's status", || {
            let agents = self.json("GET", "/agents", "");
            let mut agents = agents.as_array().expect("an array").iter();
            agents.any(|told| told["agent"] == agent.as_str() && told["status"] == status)
        });
    }

    pub fn at(&self, name: &str) -> String {
        let details = self.json("GET", &format!("/details?name={name}"), "");
        details[0]["atAgent"].as_str().expect("a text").to_owned()
    }
}

/// An agent that believes fronts on this machine.
pub fn agent() -> Agent {
    Agent::start_with(
        |_| {},
        |settings| settings.fronts = Networks::parse(&["127.0.0.0/8"]).expect("a network"),
    )
}
