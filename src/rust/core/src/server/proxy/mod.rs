//! A proxy: functions that run at agents, each a pool here whose workers are agents.
//!
//! What is to be done is decided by a [`Fleet`]; here it is done. Everything that happens goes into the fleet under its lock, and
//! rings; one task then asks it what is to be done.

mod act;
mod agent_client;
mod agents;
mod answers;
mod door;
mod logs;
mod settings;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{watch as channel, Notify};

use self::agent_client::AgentClient;
use super::kept::{open_calls, route_of, set_aside, Store, WithinFront};
use super::task::ServerTask;
use crate::environment::SystemError;
use crate::functions::calls::Calls;
use crate::functions::fleet::{AgentName, Fleet, Function};
use crate::functions::management::{Audit, Manager};
use crate::functions::{Name, Records, Secrets};
use crate::ops::log::Log;
use crate::pool::PoolLimits;
use crate::rpc::Services;
use crate::sources::agents::AgentSet;
use crate::sources::Failure;
use crate::tls::{ClientTls, Peer};
use crate::token::Token;
use crate::worker::Address;

pub(super) use self::door::Door;
pub use self::settings::ProxySettings;

/// Between two looks at what is to be done if nothing happens: time passes, too.
const TICK: Duration = Duration::from_secs(1);

/// A function's pool.
struct Open {
    agents: AgentSet,
    limits: PoolLimits,
    /// If it is services of gRPC.
    services: Option<Vec<String>>,
}

/// A proxy's agents and functions.
pub struct Proxy {
    settings: ProxySettings,
    store: Store,
    records: Records,
    agents: Records,
    secrets: Mutex<Secrets>,
    tls: Option<Arc<ClientTls>>,
    /// Calls that nobody waits for.
    async_calls: Arc<Calls>,
    fleet: Mutex<Fleet>,
    /// One at a time: what is written last is what is so last.
    saving: tokio::sync::Mutex<()>,
    open: Mutex<BTreeMap<Name, Open>>,
    /// Where each agent was found.
    addresses: Mutex<BTreeMap<AgentName, Address>>,
    /// Rings when there may be something to do.
    news: Notify,
    /// Counts what has happened, for those who wait for something.
    changes: channel::Sender<u64>,
    /// Set when the server is about to end.
    closing: channel::Sender<bool>,
    task: OnceLock<Weak<ServerTask>>,
}

impl Proxy {
    /// Opens what is kept. To be called on R's thread.
    ///
    /// # Errors
    /// Class `option` or `system`: the folder cannot be used, or certificates are missing.
    pub(super) fn open(settings: ProxySettings, log: &Log) -> Result<Arc<Self>, Failure> {
        let store = Store::open(settings.state_dir.clone())?;
        store.tidy_folders(|_| true);
        let records = store.records().map_err(super::system)?;
        let agents = Records::open(store.root().join("agents"), "json").map_err(super::system)?;
        let (folder, key) = store.secrets();
        let (secrets, broken) = Secrets::open(folder, &key)
            .map_err(|error| Failure::new("option", format!("`state_dir`: secrets: {error}.")))?;
        for broken in broken {
            set_aside(log, "secret", &broken);
        }
        let (functions, broken) = records
            .read(|_, content| Function::parse(&content))
            .map_err(super::system)?;
        for broken in broken {
            set_aside(log, "function", &broken);
        }
        let (known, broken) = agents
            .read(|name, _| AgentName::parse(name).map_err(|error| error.to_string()))
            .map_err(super::system)?;
        for broken in broken {
            set_aside(log, "agent", &broken);
        }
        let tls = match settings.tls {
            true => Some(Arc::new(ClientTls::load(settings.ca.as_deref())?)),
            false => None,
        };
        let async_calls = open_calls(
            &store,
            &settings.async_calls,
            &settings.access,
            settings.ca.as_deref(),
            log,
        )?;
        let mut fleet = Fleet::new(settings.agent_grace, functions);
        for agent in known.into_iter().chain(settings.agents.clone()) {
            fleet.add_agent(agent, Instant::now());
        }
        for name in secrets.names() {
            fleet.secret_set(name.clone());
        }
        Ok(Arc::new(Self {
            settings,
            store,
            records,
            agents,
            secrets: Mutex::new(secrets),
            tls,
            async_calls,
            fleet: Mutex::new(fleet),
            saving: tokio::sync::Mutex::default(),
            open: Mutex::default(),
            addresses: Mutex::default(),
            news: Notify::new(),
            changes: channel::channel(0).0,
            closing: channel::channel(false).0,
            task: OnceLock::new(),
        }))
    }

    fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pools(&self) -> MutexGuard<'_, BTreeMap<Name, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn addresses(&self) -> MutexGuard<'_, BTreeMap<AgentName, Address>> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self) -> Option<Arc<ServerTask>> {
        self.task.get().and_then(Weak::upgrade)
    }

    /// Something has happened.
    fn ring(&self) {
        self.changes.send_modify(|count| *count += 1);
        self.news.notify_one();
    }

    /// What agents are shown, and show when they dial in.
    fn agent_token(&self) -> Option<Token> {
        let own = self.settings.access.token.clone();
        self.settings.agent_token.clone().or(own)
    }

    fn client(&self, agent: &AgentName) -> Result<AgentClient, String> {
        let token = self.agent_token();
        if agent.is_caller() {
            let callers = self.callers_of(agent);
            let callers = callers.ok_or("it has not dialled in")?;
            return Ok(AgentClient::over(callers, token));
        }
        AgentClient::new(agent, self.tls.clone(), token)
    }

    /// With whom hands are to be shaken at an agent, if it is reached with TLS.
    fn peer(&self, agent: &AgentName) -> Option<Peer> {
        let tls = self.tls.clone()?;
        let host = agent.as_str().rsplit_once(':')?.0;
        Some(Peer::new(tls, host))
    }

    /// Serves what is kept, and takes what comes. To be called in the runtime.
    ///
    /// # Errors
    /// The audit log cannot be opened.
    pub(super) fn start(self: &Arc<Self>, task: &Arc<ServerTask>) -> Result<(), Failure> {
        // Set once.
        let _ = self.task.set(Arc::downgrade(task));
        let audit = Audit::open(&self.store.audit()).map_err(|error| {
            let why = SystemError(&error);
            let message = format!("`state_dir`: the audit log cannot be written: {why}");
            Failure::new("option", message)
        })?;
        let settings = &self.settings;
        let (access, max_bundle) = (settings.access.clone(), settings.max_bundle);
        // Agents ask for the callers' token, too.
        let manager = Manager::new(
            self.clone(),
            self.async_calls.clone(),
            access,
            audit,
            max_bundle,
            true,
        );
        let _ = task.front.management.set(Arc::new(manager));
        let runner = Arc::new(WithinFront::new(&task.front));
        self.async_calls.start(runner, task.front.store.clone());
        task.front.rpc.take(Arc::new(Services::new()));
        let agents: Vec<AgentName> = self.fleet().agents().keys().cloned().collect();
        for agent in agents {
            self.watch(agent);
        }
        let proxy = self.clone();
        tokio::spawn(async move { proxy.run().await });
        Ok(())
    }

    /// Does what is to be done until the server is about to end.
    async fn run(self: Arc<Self>) {
        let mut closing = self.closing.subscribe();
        let closed = async { drop(closing.wait_for(|closing| *closing).await) };
        tokio::pin!(closed);
        loop {
            // Before the look, so that nothing is missed between look and wait.
            let news = self.news.notified();
            self.act().await;
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep(TICK) => {}
                () = closed.as_mut() => return,
            }
        }
    }

    /// Writes down what has changed.
    ///
    /// # Errors
    /// It cannot be written; it is tried again with the next change.
    async fn save(self: &Arc<Self>) -> io::Result<()> {
        let _saving = self.saving.lock().await;
        let unsaved = self.fleet().take_unsaved();
        if unsaved.is_empty() {
            return Ok(());
        }
        let proxy = self.clone();
        let saved = tokio::task::spawn_blocking(move || {
            let mut outcome = Ok(());
            for (name, function) in unsaved {
                let written = match function {
                    Some(function) => {
                        let content = function.to_json().to_string();
                        proxy.records.write(name.as_str(), content.as_bytes())
                    }
                    None => proxy.records.remove(name.as_str()),
                };
                if let Err(error) = written {
                    proxy.fleet().still_unsaved(name);
                    outcome = Err(error);
                }
            }
            outcome
        });
        saved
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}
