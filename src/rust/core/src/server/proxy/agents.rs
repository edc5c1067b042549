//! Agents that join and leave, and what is told of them.

use std::sync::Arc;
use std::time::Instant;

use hyper::StatusCode;
use serde_json::{json, Map, Value};

use super::answers::refused;
use super::Proxy;
use crate::front::Told;
use crate::functions::fleet::{Agent, AgentName, Refusal, Standing};
use crate::server::kept::{internal, storage};
use crate::worker::Address;

impl Proxy {
    /// An agent that there is.
    pub(super) fn known(&self, text: &str) -> Result<AgentName, Refusal> {
        let decoded = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
        let name = AgentName::parse(&decoded).ok();
        name.filter(|name| self.fleet().agents().contains_key(name))
            .ok_or_else(|| Refusal::NoAgent(decoded.into_owned()))
    }

    fn tell_agent(&self, name: &AgentName, agent: &Agent) -> Value {
        let sum = |field: &str| -> u64 {
            let reports = agent.functions.values();
            let numbers = reports.filter_map(|seen| seen.report[field].as_u64());
            numbers.sum()
        };
        let (status, since) = match agent.standing {
            Standing::Up => ("up", None),
            Standing::Unknown(since) => ("unknown", Some(since)),
            Standing::Down(since) => ("down", Some(since)),
        };
        let mut told = Map::new();
        told.insert("agent".into(), name.as_str().into());
        told.insert("status".into(), status.into());
        told.insert("functions".into(), agent.functions.len().into());
        told.insert("workers".into(), sum("workers").into());
        if let Some(since) = since {
            let seconds = since.elapsed().as_secs_f64();
            told.insert("seconds".into(), seconds.into());
        }
        if let Some(trouble) = &agent.trouble {
            told.insert("message".into(), trouble.as_str().into());
        }
        told.into()
    }

    pub(super) fn tell_agents(&self) -> Told {
        let fleet = self.fleet();
        let agents = fleet.agents().iter();
        Told::ok(
            agents
                .map(|(name, agent)| self.tell_agent(name, agent))
                .collect(),
        )
    }

    pub(super) async fn add(self: Arc<Self>, text: &str) -> Told {
        let name = match AgentName::of_address(text) {
            Ok(name) => name,
            Err(problem) => {
                let json = json!({"error": format!("`agent`: {problem}"), "field": "agent"});
                return Told::Json(StatusCode::BAD_REQUEST, Some("bad_request"), json);
            }
        };
        let (proxy, its) = (self.clone(), name.clone());
        let kept = tokio::task::spawn_blocking(move || proxy.agents.write(its.as_str(), b"{}"));
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return storage(&error),
            Err(error) => return internal(&error.to_string()),
        }
        let new = self.fleet().add_agent(name.clone(), Instant::now());
        if new {
            self.watch(name.clone());
        }
        self.ring();
        Told::ok(json!({"agent": name.as_str(), "new": new}))
    }

    pub(super) async fn dismiss(self: Arc<Self>, text: &str) -> Told {
        let name = match self.known(text) {
            Ok(name) => name,
            Err(refusal) => return refused(&refusal),
        };
        let (proxy, its) = (self.clone(), name.clone());
        let removed = tokio::task::spawn_blocking(move || proxy.agents.remove(its.as_str()));
        match removed.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return storage(&error),
            Err(error) => return internal(&error.to_string()),
        }
        if let Err(refusal) = self.fleet().remove_agent(&name) {
            return refused(&refusal);
        }
        let address = self.addresses().remove(&name);
        if let Some(Address::Callers(callers)) = address {
            callers.end();
        }
        self.ring();
        Told::ok(json!({"agent": name.as_str(), "removed": true}))
    }
}
