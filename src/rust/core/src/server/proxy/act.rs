//! Doing what is to be done: at agents, and with the pools here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use tracing::Instrument;

use super::{route_of, Open, Proxy};
use crate::environment::SystemError;
use crate::functions::fleet::{Action, AgentName, Trouble};
use crate::functions::{Code, Definition, Name, Secret};
use crate::ops;
use crate::pool::{PoolLimits, Route};
use crate::server::request::PreparedPool;
use crate::server::PoolSettings;
use crate::sources::agents::{Addresses, AgentSet, AgentsSettings};
use crate::sources::{Failure, Prepared, Source};

impl Proxy {
    /// Does all that is to be done now. What agents are to do begins, and is not waited for.
    pub(super) async fn act(self: &Arc<Self>) {
        let actions = self.fleet().plan(Instant::now());
        // Before it is done: what is forgotten would never be undone.
        if let Err(error) = self.save().await {
            let why = SystemError(&error);
            tracing::error!("the state folder cannot be written: {why}");
        }
        for action in actions {
            match action {
                Action::Serve { name, agents } => {
                    let span = ops::pool_span(&route_of(&name));
                    let served = self.serve(&name, &agents).instrument(span).await;
                    if let Err(failure) = served {
                        tracing::error!("`{name}` cannot be served: {}", failure.message);
                    }
                }
                Action::Close { name } => self.close_pool(&name),
                Action::Deploy {
                    agent,
                    definition,
                    version,
                } => {
                    let proxy = self.clone();
                    let span = ops::pool_span(&route_of(&definition.name));
                    let work = async move { proxy.deploy(agent, *definition, version).await };
                    tokio::spawn(work.instrument(span));
                }
                Action::Remove { agent, name } => {
                    let proxy = self.clone();
                    tokio::spawn(async move { proxy.remove(agent, name).await });
                }
                Action::SetSecret {
                    agent,
                    name,
                    edition,
                } => {
                    let proxy = self.clone();
                    let value = self.secrets().get(&name).cloned();
                    tokio::spawn(
                        async move { proxy.set_secret(agent, name, edition, value).await },
                    );
                }
                Action::DropSecret { agent, name } => {
                    let proxy = self.clone();
                    tokio::spawn(async move { proxy.drop_secret(agent, name).await });
                }
            }
        }
        self.changes.send_modify(|count| *count += 1);
    }

    async fn deploy(self: Arc<Self>, agent: AgentName, definition: Definition, version: u64) {
        tracing::info!("version {version} goes to agent {agent}");
        let bundle = match &definition.code {
            Code::Bundle(digest) => Some(self.store.bundle(digest)),
            _ => None,
        };
        let outcome = match self.client(&agent) {
            Ok(client) => client.deploy(&definition, bundle.as_deref()).await,
            Err(why) => Err(Trouble::Unreachable(why)),
        };
        match &outcome {
            Ok(_) => tracing::info!("version {version} is at agent {agent}"),
            Err(Trouble::Refused(why)) => {
                tracing::error!("version {version} failed at agent {agent}: {why}");
            }
            Err(Trouble::Unreachable(why)) => {
                tracing::warn!("agent {agent} could not be asked to deploy: {why}");
            }
        }
        let name = &definition.name;
        self.fleet()
            .done(&agent, name, version, outcome, Instant::now());
        self.ring();
    }

    async fn remove(self: Arc<Self>, agent: AgentName, name: Name) {
        let outcome = match self.client(&agent) {
            Ok(client) => client.remove(&name).await,
            Err(why) => Err(Trouble::Unreachable(why)),
        };
        // It is to be asked again, whatever it says.
        let outcome = outcome.map_err(|trouble| match trouble {
            Trouble::Refused(why) | Trouble::Unreachable(why) => Trouble::Unreachable(why),
        });
        if let Err(Trouble::Unreachable(why)) = &outcome {
            tracing::warn!("agent {agent} could not be asked to stop `{name}`: {why}");
        }
        self.fleet().done(&agent, &name, 0, outcome, Instant::now());
        self.ring();
    }

    async fn set_secret(
        self: Arc<Self>,
        agent: AgentName,
        name: Name,
        edition: u64,
        value: Option<Secret>,
    ) {
        let outcome = match (self.client(&agent), value) {
            (Ok(client), Some(value)) => {
                let value = value.reveal().to_vec();
                client
                    .set_secret(&name, value)
                    .await
                    .map(|()| Some(edition))
            }
            (Err(why), _) => Err(why),
            (Ok(_), None) => Err("it was deleted meanwhile".into()),
        };
        if let Err(why) = &outcome {
            tracing::warn!("agent {agent} could not be given secret `{name}`: {why}");
        }
        self.fleet()
            .secret_done(&agent, &name, outcome, Instant::now());
        self.ring();
    }

    async fn drop_secret(self: Arc<Self>, agent: AgentName, name: Name) {
        let outcome = match self.client(&agent) {
            Ok(client) => client.drop_secret(&name).await.map(|()| None),
            Err(why) => Err(why),
        };
        self.fleet()
            .secret_done(&agent, &name, outcome, Instant::now());
        self.ring();
    }

    /// Where these agents are, as far as they were found.
    fn places(&self, agents: impl IntoIterator<Item = AgentName>) -> Addresses {
        let addresses = self.addresses();
        let found = agents.into_iter().filter_map(|agent| {
            let address = addresses.get(&agent)?.clone();
            Some((address, self.peer(&agent)))
        });
        found.collect()
    }

    /// Some agent is elsewhere now.
    pub(super) fn refresh(&self) {
        let members: Vec<(Name, Vec<AgentName>)> = {
            let fleet = self.fleet();
            let names = fleet.functions().map(|(name, _)| name);
            names
                .map(|name| (name.clone(), fleet.members(name).cloned().collect()))
                .collect()
        };
        for (name, agents) in members {
            let places = self.places(agents);
            if let Some(open) = self.pools().get(&name) {
                open.agents.set(places);
            }
        }
    }

    /// What a function's pool allows, and the services of gRPC that it is, if it is such.
    fn terms_of(&self, name: &Name) -> (PoolLimits, Option<Vec<String>>) {
        let own = &self.settings.limits;
        let fleet = self.fleet();
        let Ok(function) = fleet.function(name.as_str()) else {
            return (own.clone(), None);
        };
        let definition = &function.definition;
        let limits = PoolLimits {
            queue: definition.queue.map_or(own.queue, |queue| {
                usize::try_from(queue).unwrap_or(usize::MAX)
            }),
            timeout: definition.timeout.or(own.timeout),
            max_body: definition.max_body.unwrap_or(own.max_body),
            streams: definition.streams(),
            ..own.clone()
        };
        (
            limits,
            definition.is_grpc().then(|| definition.services.clone()),
        )
    }

    /// Has a pool for a function, with these agents.
    async fn serve(
        self: &Arc<Self>,
        name: &Name,
        agents: &BTreeSet<AgentName>,
    ) -> Result<(), Failure> {
        let places = self.places(agents.iter().cloned());
        let (limits, services) = self.terms_of(name);
        if let Some(open) = self.pools().get(name) {
            if open.limits == limits && open.services == services {
                open.agents.set(places);
                return Ok(());
            }
        }
        let Some(task) = self.task() else {
            return Err(Failure::stopping());
        };
        let internal = |error: String| Failure::new("internal", error);
        let route = Route::parse(&route_of(name)).map_err(|error| internal(error.to_string()))?;
        let before = task.front.pools.named(route.name());
        let set = AgentSet::new();
        set.set(places);
        let settings = AgentsSettings {
            services: services.clone(),
            ..AgentsSettings::new(set.clone())
        };
        let prepared = PreparedPool {
            settings: PoolSettings {
                route,
                limits: limits.clone(),
                source: Source::Agents(settings.clone()),
                sessions: None,
            },
            source: Prepared::Agents(settings),
        };
        task.join(prepared, before.as_ref()).await?;
        let open = Open {
            agents: set,
            limits,
            services,
        };
        self.pools().insert(name.clone(), open);
        if let Some(before) = before {
            let patience = self.settings.drain_timeout;
            tokio::spawn(async move { task.remove(before, patience).await });
        }
        Ok(())
    }

    /// Takes a function's pool away, once it has finished what it has.
    fn close_pool(&self, name: &Name) {
        self.pools().remove(name);
        let Some(task) = self.task() else {
            return;
        };
        let Some(pool) = task.front.pools.named(&route_of(name)) else {
            return;
        };
        let patience = self.settings.drain_timeout;
        tokio::spawn(async move { task.remove(pool, patience).await });
    }
}
