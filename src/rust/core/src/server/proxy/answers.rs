//! What a proxy answers those who manage functions.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::StatusCode;
use serde_json::{json, Value};

use super::Proxy;
use crate::body::Buffered;
use crate::front::Told;
use crate::functions::fleet::{AgentName, Function, Refusal, Status};
use crate::functions::management::{openapi, Ask, Deployments, Telling};
use crate::functions::{check_services_among, BadSecret, Code, Definition, Name, ServiceTaken};
use crate::server::kept::{self, route_of, service_taken, storage, UploadFailed};

pub(super) fn refused(refusal: &Refusal) -> Told {
    let (status, cause) = match refusal {
        Refusal::NoFunction(_) => (StatusCode::NOT_FOUND, "no_function"),
        Refusal::NoAgent(_) => (StatusCode::NOT_FOUND, "no_agent"),
        Refusal::NoPrevious(_) => (StatusCode::CONFLICT, "no_previous"),
        Refusal::ServiceTaken(taken) => return service_taken(taken),
    };
    Told::refused(status, cause, refusal.to_string())
}

impl Deployments for Proxy {
    fn tell(self: Arc<Self>, ask: Ask, base: String, body: Buffered) -> Telling {
        Box::pin(async move {
            match ask {
                Ask::Deploy { definitions, wait } => {
                    self.deploy_all(definitions, wait, &base).await
                }
                Ask::Rollback { name, wait } => {
                    let begun = self.fleet().roll_back(&name, SystemTime::now());
                    match begun {
                        Err(refusal) => refused(&refusal),
                        Ok(_) => match self.saved_and_settled(vec![name.clone()], wait).await {
                            Err(error) => storage(&error),
                            Ok(()) => Told::ok(self.short(&name, &base)),
                        },
                    }
                }
                Ask::Stop { name, remove } => self.stop(name, remove, &base).await,
                Ask::Details(name) => self.details(name.as_deref(), &base),
                Ask::List(agent) => self.list(agent.as_deref(), &base),
                Ask::Log {
                    name,
                    lines,
                    follow,
                } => self.log(&name, lines, follow, &base).await,
                Ask::HasBundle(digest) => kept::bundle_known(&self.store, &digest),
                Ask::PutBundle => self.keep_bundle(body).await,
                Ask::Secrets => kept::secret_names(&self.secrets()),
                Ask::PutSecret(name) => self.put_secret(name, body).await,
                Ask::DeleteSecret(name) => self.delete_secret(name).await,
                Ask::Agents => self.tell_agents(),
                Ask::AddAgent(agent) => self.add(&agent).await,
                Ask::RemoveAgent(agent) => self.dismiss(&agent).await,
                Ask::OpenApi => Told::ok(openapi(&base)),
            }
        })
    }

    fn close(&self) {
        self.closing.send_replace(true);
    }
}

impl Proxy {
    async fn deploy_all(
        self: Arc<Self>,
        definitions: Vec<Definition>,
        wait: Duration,
        base: &str,
    ) -> Told {
        if let Err(taken) = self.check_services(&definitions) {
            return service_taken(&taken);
        }
        for definition in &definitions {
            match &definition.code {
                Code::Bundle(digest) if !self.store.has_bundle(digest) => {
                    let error = format!("`{}`: this bundle was not uploaded", definition.name);
                    let json = json!({"error": error, "field": "bundle"});
                    return Told::Json(StatusCode::BAD_REQUEST, Some("bad_definition"), json);
                }
                _ => {}
            }
        }
        let mut names = Vec::new();
        for definition in definitions {
            let name = definition.name.clone();
            let begun = self.fleet().deploy(definition, SystemTime::now());
            if let Err(refusal) = begun {
                self.ring();
                return refused(&refusal);
            }
            names.push(name);
        }
        if let Err(error) = self.saved_and_settled(names.clone(), wait).await {
            return storage(&error);
        }
        Told::ok(names.iter().map(|name| self.short(name, base)).collect())
    }

    /// Before any of them is deployed.
    fn check_services(&self, definitions: &[Definition]) -> Result<(), ServiceTaken> {
        check_services_among(definitions)?;
        let fleet = self.fleet();
        let mut all = definitions.iter();
        all.try_for_each(|definition| fleet.check_services(definition))
    }

    /// Has written down what is to be, and waits for it until `wait` is over.
    async fn saved_and_settled(
        self: &Arc<Self>,
        names: Vec<Name>,
        wait: Duration,
    ) -> std::io::Result<()> {
        let mut changes = self.changes.subscribe();
        self.save().await?;
        self.ring();
        let mut closing = self.closing.subscribe();
        let settled = async {
            while !names.iter().all(|name| self.is_settled(name)) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(wait, settled) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
        Ok(())
    }

    /// Whether there is nothing to be waited for: one that is deployed is served here, too.
    fn is_settled(&self, name: &Name) -> bool {
        let status = {
            let fleet = self.fleet();
            let Ok(function) = fleet.function(name.as_str()) else {
                return true;
            };
            fleet.status(function).0
        };
        match status {
            Status::Deployed => self.pools().contains_key(name),
            status => status.is_settled(),
        }
    }

    async fn stop(self: Arc<Self>, name: Name, remove: bool, base: &str) -> Told {
        let mut short = self.short(&name, base);
        if let Err(refusal) = self.fleet().stop(&name, remove) {
            return refused(&refusal);
        }
        if let Err(error) = self.save().await {
            return storage(&error);
        }
        // Once this is told, it is not served any more.
        let mut changes = self.changes.subscribe();
        self.ring();
        let mut closing = self.closing.subscribe();
        // Unless somebody wants it again by now.
        let is_wanted = || {
            let fleet = self.fleet();
            let function = fleet.function(name.as_str());
            function.is_ok_and(|function| function.wanted)
        };
        while !is_wanted() && self.pools().contains_key(&name) {
            tokio::select! {
                _ = changes.changed() => {}
                _ = closing.wait_for(|closing| *closing) => break,
            }
        }
        short["status"] = Status::Stopped.name().into();
        if remove {
            short["removed"] = true.into();
        }
        Told::ok(short)
    }

    /// What lists have of a function. `base` is how the client has called this server.
    pub(super) fn short(&self, name: &Name, base: &str) -> Value {
        let fleet = self.fleet();
        let Ok(function) = fleet.function(name.as_str()) else {
            return json!({"name": name.as_str(), "status": Status::Stopped.name()});
        };
        let (status, message) = fleet.status(function);
        let proxy = base.split_once("://").map_or(base, |(_, rest)| rest);
        let agents: Vec<&str> = function.agents().map(AgentName::as_str).collect();
        let mut short = json!({
            "name": name.as_str(),
            "status": status.name(),
            "url": format!("{base}{}", route_of(name)),
            "proxy": proxy,
            "atAgent": agents.join(", "),
            "version": function.version,
        });
        // It is as it should be, as far as that can be.
        let is_well = status == Status::Deployed && function.failure.is_none();
        if let (true, Some(note)) = (is_well, &message) {
            short["note"] = note.as_str().into();
        } else if let (Some(message), Some(fields)) = (message, short.as_object_mut()) {
            // What it has printed is below.
            let mut lines = message.lines();
            fields.insert("message".into(), lines.next().unwrap_or_default().into());
            fields.insert("lines".into(), lines.collect());
        }
        short
    }

    fn details_of(&self, name: &Name, base: &str) -> Value {
        let mut details = self.short(name, base);
        let fleet = self.fleet();
        let Ok(function) = fleet.function(name.as_str()) else {
            return details;
        };
        let reports: Vec<&Value> = function
            .agents()
            .filter_map(|agent| Some(&fleet.agents().get(agent)?.functions.get(name)?.report))
            .collect();
        let sum = |field: &str| -> u64 {
            let numbers = reports.iter().filter_map(|report| report[field].as_u64());
            numbers.sum()
        };
        let signature = reports.iter().find(|report| !report["signature"].is_null());
        let replicas: Vec<Value> = function
            .agents()
            .map(|agent| {
                let (status, message) = fleet.status_at(agent, function);
                json!({"agent": agent.as_str(), "status": status.name(), "message": message})
            })
            .collect();
        let more = json!({
            "definition": function.definition.to_json(),
            "signature": signature.map(|report| report["signature"].clone()),
            "deployed": humantime::format_rfc3339_seconds(function.deployed).to_string(),
            "previous": function.previous.as_ref().map(|version| version.number),
            "workers": sum("workers"),
            "queue": sum("queue"),
            "requests": sum("requests"),
            "replicas": replicas,
        });
        if let (Some(details), Value::Object(more)) = (details.as_object_mut(), more) {
            details.extend(more);
        }
        details
    }

    fn names(&self, of: impl Fn(&Function) -> bool) -> Vec<Name> {
        let fleet = self.fleet();
        let functions = fleet.functions().filter(|(_, function)| of(function));
        functions.map(|(name, _)| name.clone()).collect()
    }

    fn details(&self, name: Option<&str>, base: &str) -> Told {
        let names = match name {
            None => self.names(|_| true),
            Some(name) => match self.fleet().function(name) {
                Ok(function) => vec![function.definition.name.clone()],
                Err(refusal) => return refused(&refusal),
            },
        };
        let names = names.iter();
        Told::ok(names.map(|name| self.details_of(name, base)).collect())
    }

    fn list(&self, agent: Option<&str>, base: &str) -> Told {
        let names = match agent {
            None => self.names(|_| true),
            Some(text) => match self.known(text) {
                Ok(agent) => self.names(|function| function.agents().any(|at| *at == agent)),
                Err(refusal) => return refused(&refusal),
            },
        };
        let names = names.iter();
        Told::ok(names.map(|name| self.short(name, base)).collect())
    }

    async fn keep_bundle(self: Arc<Self>, body: Buffered) -> Told {
        let kept = tokio::task::spawn_blocking(move || {
            let kept = self.store.keep_bundle(&body)?;
            let used: Vec<String> = {
                let fleet = self.fleet();
                let functions = fleet.functions();
                let definitions = functions.flat_map(|(_, function)| function.definitions());
                let bundles = definitions.filter_map(|definition| match &definition.code {
                    Code::Bundle(digest) => Some(digest.clone()),
                    _ => None,
                });
                bundles.collect()
            };
            self.store
                .tidy_bundles(|digest| used.iter().any(|used| used == digest));
            Ok::<_, UploadFailed>(kept)
        });
        kept::bundle_kept(kept.await)
    }

    async fn put_secret(self: Arc<Self>, name: Name, body: Buffered) -> Told {
        let value = match kept::secret_sent(&body) {
            Ok(value) => value,
            Err(told) => return told,
        };
        let (proxy, its) = (self.clone(), name.clone());
        let set = tokio::task::spawn_blocking(move || {
            let changed = proxy.secrets().set(its.clone(), value)?;
            if changed {
                proxy.fleet().secret_set(its);
            }
            Ok::<_, BadSecret>(changed)
        });
        let set = set.await;
        self.ring();
        kept::secret_set(&name, set)
    }

    async fn delete_secret(self: Arc<Self>, name: Name) -> Told {
        let users = self.names(|function| {
            let good = function.good().map(|good| &good.version.definition);
            let served = good.into_iter().chain([&function.definition]);
            function.wanted && served.into_iter().any(|one| one.secrets.contains(&name))
        });
        if let Some(refused) = kept::secret_in_use(&name, &users) {
            return refused;
        }
        let (proxy, its) = (self.clone(), name.clone());
        let removed = tokio::task::spawn_blocking(move || proxy.secrets().remove(&its)).await;
        if matches!(removed, Ok(Ok(true))) {
            self.fleet().secret_removed(&name);
            self.ring();
        }
        kept::secret_removed(&name, removed)
    }
}
