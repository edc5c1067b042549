//! An agent: functions that are deployed to this machine, each a pool of its own.

mod deploy;
mod exposed;
mod function;
mod prepare;
mod record;
mod services;
mod settings;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{json, Value};
use tokio::sync::{mpsc, watch, Semaphore};

use self::exposed::Exposed;
use self::function::Function;
use self::record::Record;
use super::kept::{self, route_of, set_aside, Store, WithinFront};
use super::task::ServerTask;
use crate::body::Buffered;
use crate::endpoint::Endpoint;
use crate::environment::SystemError;
use crate::front::Told;
use crate::functions::calls::Calls as AsyncCalls;
use crate::functions::management::{Ask, Audit, Deployments, Manager, Telling};
use crate::functions::{Name, Records, Secrets};
use crate::offers::Calls;
use crate::ops::log::Log;
use crate::rpc::Services;
use crate::sources::local::{Resources, WorkerRange};
use crate::sources::Failure;

pub use self::settings::AgentSettings;

/// How many functions are started at the same time: each start takes a processor.
const STARTS_AT_ONCE: usize = 4;

/// Workers of a function that says nothing of it: none while nobody calls it.
const WORKERS: WorkerRange = WorkerRange { min: 0, max: 1 };

/// An agent's functions.
pub struct Agent {
    settings: AgentSettings,
    store: Store,
    records: Records,
    secrets: Mutex<Secrets>,
    exposed: Exposed,
    resources: Arc<Resources>,
    /// Where clients connect, for workers to know.
    endpoint: Option<Endpoint>,
    log: Arc<Log>,
    functions: Mutex<BTreeMap<Name, Arc<Function>>>,
    /// The last versions of those that were removed: what is left of them may not be over yet.
    removed: Mutex<BTreeMap<Name, u64>>,
    starts: Semaphore,
    /// Set when the server is about to end.
    closing: watch::Sender<bool>,
    task: OnceLock<Weak<ServerTask>>,
    calls: Option<Calls>,
    /// Those that nobody waits for.
    async_calls: Arc<AsyncCalls>,
}

impl Agent {
    /// Opens what is kept. To be called on R's thread.
    ///
    /// # Errors
    /// Class `option` or `system`: the folder cannot be used.
    pub(super) fn open(
        settings: AgentSettings,
        resources: Arc<Resources>,
        endpoint: Option<Endpoint>,
        log: Arc<Log>,
    ) -> Result<Arc<Self>, Failure> {
        let store = Store::open(settings.state_dir.clone())?;
        if let Some(user) = &settings.run_as {
            store.let_through(user)?;
        }
        let records = store.records().map_err(super::system)?;
        let (folder, key) = store.secrets();
        let (secrets, broken) = Secrets::open(folder, &key)
            .map_err(|error| Failure::new("option", format!("`state_dir`: secrets: {error}.")))?;
        for broken in broken {
            set_aside(&log, "secret", &broken);
        }
        let exposed = Exposed::make(store.root()).map_err(super::system)?;
        let async_calls = kept::open_calls(
            &store,
            &settings.async_calls,
            &settings.access,
            settings.ca.as_deref(),
            &log,
        )?;
        let calls = settings.calls.clone().map(Calls::new).transpose()?;
        let agent = Self {
            calls,
            async_calls,
            settings,
            records,
            secrets: Mutex::new(secrets),
            exposed,
            store,
            resources,
            endpoint,
            log,
            functions: Mutex::default(),
            removed: Mutex::default(),
            starts: Semaphore::new(STARTS_AT_ONCE),
            closing: watch::channel(false).0,
            task: OnceLock::new(),
        };
        agent.read_functions().map_err(super::system)?;
        Ok(Arc::new(agent))
    }

    fn read_functions(&self) -> std::io::Result<()> {
        let read = |name: &str, content: Vec<u8>| {
            let name = Name::parse(name).map_err(|error| error.to_string())?;
            Record::parse(&content).map(|record| (name, record))
        };
        let (records, broken) = self.records.read(read)?;
        for broken in broken {
            set_aside(&self.log, "function", &broken);
        }
        let mut functions = self.functions();
        for (name, record) in records {
            let function = self.make(name.clone(), record);
            functions.insert(name, Arc::new(function));
        }
        let kept: Vec<String> = functions
            .iter()
            .flat_map(|(name, function)| {
                let record = function.record();
                let versions: Vec<_> = record.versions().map(|version| version.number).collect();
                versions
                    .into_iter()
                    .map(move |number| format!("{name}@{number}"))
            })
            .collect();
        self.store
            .tidy_folders(|folder| kept.iter().any(|kept| kept == folder));
        Ok(())
    }

    fn make(&self, name: Name, record: Record) -> Function {
        let history = self.log.keep_history(&route_of(&name).into());
        Function::new(name, record, history)
    }

    /// One that nothing is known of, whose versions have numbers that none of that name has had.
    fn make_new(&self, name: Name) -> Function {
        let last = self.removed().remove(&name).unwrap_or_default();
        let record = Record {
            last,
            ..Record::default()
        };
        self.make(name, record)
    }

    fn removed(&self) -> MutexGuard<'_, BTreeMap<Name, u64>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn functions(&self) -> MutexGuard<'_, BTreeMap<Name, Arc<Function>>> {
        self.functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> Option<Arc<Function>> {
        let name = Name::parse(name).ok()?;
        self.functions().get(&name).cloned()
    }

    fn all(&self) -> Vec<Arc<Function>> {
        self.functions().values().cloned().collect()
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
            Failure::new(
                "option",
                format!("`state_dir`: the audit log cannot be written: {why}"),
            )
        })?;
        let settings = &self.settings;
        let manager = Manager::new(
            self.clone(),
            self.async_calls.clone(),
            settings.access.clone(),
            audit,
            settings.max_bundle,
            false,
        );
        let _ = task.front.management.set(Arc::new(manager));
        let runner = Arc::new(WithinFront::new(&task.front));
        self.async_calls.start(runner, task.front.store.clone());
        task.front.rpc.take(Arc::new(Services::new()));
        if let Some(calls) = &self.calls {
            calls.start(&task.front);
        }
        task.share(self.resources.clone());
        if let Some(template) = &settings.template {
            self.resources
                .share_template(template.clone(), self.log.clone());
        }
        self.resume(task);
        Ok(())
    }

    fn details(&self, name: Option<&str>, base: &str) -> Told {
        match name {
            None => {
                let all = self.all();
                let details: Vec<Value> = all.iter().map(|one| one.details(base)).collect();
                Told::ok(details.into())
            }
            Some(name) => match self.find(name) {
                Some(function) => Told::ok(json!([function.details(base)])),
                None => unknown(name),
            },
        }
    }

    fn log(&self, name: &str, lines: usize, follow: bool, base: &str) -> Told {
        let Some(function) = self.find(name) else {
            return unknown(name);
        };
        let (text, next) = function.history.last(lines);
        if !follow {
            return Told::ok(json!({"function": function.short(base), "logs": text}));
        }
        let (sender, receiver) = mpsc::channel(4);
        let mut closing = self.closing.subscribe();
        let history = function.history.clone();
        tokio::spawn(async move {
            let (mut text, mut next) = (text, next);
            loop {
                if !text.is_empty() && sender.send(Bytes::from(text)).await.is_err() {
                    return;
                }
                tokio::select! {
                    more = history.since(next) => match more {
                        Some(more) => (text, next) = more,
                        // The function is removed.
                        None => return,
                    },
                    () = sender.closed() => return,
                    _ = closing.wait_for(|closing| *closing) => return,
                }
            }
        });
        Told::Text(receiver)
    }

    async fn keep_bundle(self: Arc<Self>, body: Buffered) -> Told {
        let kept = tokio::task::spawn_blocking(move || self.store.keep_bundle(&body));
        kept::bundle_kept(kept.await)
    }

    async fn set_secret(self: Arc<Self>, name: Name, body: Buffered) -> Told {
        let value = match kept::secret_sent(&body) {
            Ok(value) => value,
            Err(told) => return told,
        };
        let (agent, its) = (self.clone(), name.clone());
        let set = tokio::task::spawn_blocking(move || agent.secrets().set(its, value)).await;
        if matches!(set, Ok(Ok(true))) {
            self.secret_changed(&name);
        }
        kept::secret_set(&name, set)
    }

    async fn delete_secret(self: Arc<Self>, name: Name) -> Told {
        let users = self.users_of(&name).map(|function| function.name.clone());
        if let Some(refused) = kept::secret_in_use(&name, &users.collect::<Vec<_>>()) {
            return refused;
        }
        let (agent, its) = (self, name.clone());
        let removed = tokio::task::spawn_blocking(move || agent.secrets().remove(&its));
        kept::secret_removed(&name, removed.await)
    }

    /// Functions that serve and have declared a secret.
    fn users_of(&self, secret: &Name) -> impl Iterator<Item = Arc<Function>> {
        let secret = secret.clone();
        self.all().into_iter().filter(move |function| {
            let record = function.record();
            let versions = record.current.iter().chain(&record.next);
            !record.stopped
                && versions
                    .into_iter()
                    .any(|version| version.definition.secrets.contains(&secret))
        })
    }

    /// Waits until all of these have settled, `wait` is over, or the server is about to end.
    async fn settle(&self, functions: Vec<Arc<Function>>, wait: Duration) {
        let mut closing = self.closing.subscribe();
        let all = async {
            for function in functions {
                function.settled().await;
            }
        };
        // What is not settled by then says so itself.
        tokio::select! {
            _ = tokio::time::timeout(wait, all) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }
}

impl Deployments for Agent {
    fn tell(self: Arc<Self>, ask: Ask, base: String, body: Buffered) -> Telling {
        Box::pin(async move {
            match ask {
                Ask::Deploy { definitions, wait } => {
                    if let Err(taken) = self.check_services(&definitions) {
                        return kept::service_taken(&taken);
                    }
                    let mut functions = Vec::new();
                    for definition in definitions {
                        match self.clone().begin(definition).await {
                            Ok(function) => functions.push(function),
                            Err(error) => return error.told(),
                        }
                    }
                    self.settle(functions.clone(), wait).await;
                    let all: Vec<Value> = functions.iter().map(|one| one.short(&base)).collect();
                    Told::ok(all.into())
                }
                Ask::Rollback { name, wait } => {
                    let Some(function) = self.find(name.as_str()) else {
                        return unknown(name.as_str());
                    };
                    let Some(previous) = function.record().earlier() else {
                        let message = format!("`{name}` has no version to go back to");
                        return Told::refused(StatusCode::CONFLICT, "no_previous", message);
                    };
                    match self.clone().begin(previous.definition).await {
                        Ok(function) => {
                            self.settle(vec![function.clone()], wait).await;
                            Told::ok(function.short(&base))
                        }
                        Err(error) => error.told(),
                    }
                }
                Ask::Stop { name, remove } => match self.find(name.as_str()) {
                    Some(function) => self.stop(function, remove, &base).await,
                    None => unknown(name.as_str()),
                },
                Ask::Details(name) => self.details(name.as_deref(), &base),
                Ask::List(_) => {
                    let all = self.all();
                    Told::ok(all.iter().map(|one| one.short(&base)).collect())
                }
                Ask::Log {
                    name,
                    lines,
                    follow,
                } => self.log(&name, lines, follow, &base),
                Ask::HasBundle(digest) => kept::bundle_known(&self.store, &digest),
                Ask::PutBundle => self.keep_bundle(body).await,
                Ask::Secrets => kept::secret_names(&self.secrets()),
                Ask::PutSecret(name) => self.set_secret(name, body).await,
                Ask::DeleteSecret(name) => self.delete_secret(name).await,
                Ask::Agents | Ask::AddAgent(_) | Ask::RemoveAgent(_) => Told::refused(
                    StatusCode::NOT_FOUND,
                    "not_a_proxy",
                    "this is an agent: agents join a proxy",
                ),
                Ask::OpenApi => Told::ok(crate::functions::management::openapi(&base)),
            }
        })
    }

    fn close(&self) {
        self.closing.send_replace(true);
    }

    fn end(&self) {
        self.exposed.end();
    }
}

fn unknown(name: &str) -> Told {
    Told::refused(
        StatusCode::NOT_FOUND,
        "no_function",
        format!("there is no function `{name}`"),
    )
}
