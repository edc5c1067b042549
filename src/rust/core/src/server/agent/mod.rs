//! An agent: functions that are deployed to this machine, each a pool of its own.

mod deploy;
mod exposed;
mod function;
mod record;
mod settings;
mod store;

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
use super::task::ServerTask;
use crate::body::Buffered;
use crate::endpoint::Endpoint;
use crate::environment::SystemError;
use crate::front::Told;
use crate::functions::management::{Ask, Audit, Deployments, Manager, Telling};
use crate::functions::{BadSecret, Name, Records, Secrets};
use crate::ops::log::Log;
use crate::sources::local::Resources;
use crate::sources::Failure;

pub use self::settings::AgentSettings;
pub(super) use self::store::{Store, UploadFailed};

/// How many functions are started at the same time: each start takes a processor.
const STARTS_AT_ONCE: usize = 4;

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
    starts: Semaphore,
    /// Set when the server is about to end.
    closing: watch::Sender<bool>,
    task: OnceLock<Weak<ServerTask>>,
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
        let records = store.records().map_err(super::system)?;
        let (folder, key) = store.secrets();
        let (secrets, broken) = Secrets::open(folder, &key)
            .map_err(|error| Failure::new("option", format!("`state_dir`: secrets: {error}.")))?;
        for broken in broken {
            set_aside(&log, "secret", &broken);
        }
        let exposed = Exposed::make(store.root()).map_err(super::system)?;
        let agent = Self {
            settings,
            records,
            secrets: Mutex::new(secrets),
            exposed,
            store,
            resources,
            endpoint,
            log,
            functions: Mutex::default(),
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
            settings.access.clone(),
            audit,
            settings.max_bundle,
            false,
        );
        let _ = task.front.management.set(Arc::new(manager));
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
                    more = history.since(next) => (text, next) = more,
                    () = sender.closed() => return,
                    _ = closing.wait_for(|closing| *closing) => return,
                }
            }
        });
        Told::Text(receiver)
    }

    async fn keep_bundle(self: Arc<Self>, body: Buffered) -> Told {
        let kept = tokio::task::spawn_blocking(move || self.store.keep_bundle(&body)).await;
        match kept {
            Ok(Ok(digest)) => Told::ok(json!({ "bundle": digest, "status": "uploaded" })),
            Ok(Err(UploadFailed::Bad(problem))) => Told::refused(
                StatusCode::BAD_REQUEST,
                "bad_bundle",
                UploadFailed::Bad(problem).to_string(),
            ),
            Ok(Err(UploadFailed::System(error))) => storage(&error),
            Err(error) => internal(&error.to_string()),
        }
    }

    async fn set_secret(self: Arc<Self>, name: Name, body: Buffered) -> Told {
        let mut value = vec![0; usize::try_from(body.len()).unwrap_or_default()];
        if body.copy_to(0, &mut value).is_err() {
            return internal("the secret cannot be read");
        }
        let (agent, its) = (self.clone(), name.clone());
        let set = tokio::task::spawn_blocking(move || agent.secrets().set(its, value)).await;
        match set {
            Ok(Ok(changed)) => {
                if changed {
                    self.secret_changed(&name);
                }
                Told::ok(json!({"secret": name.as_str(), "changed": changed}))
            }
            Ok(Err(BadSecret::System(error))) => storage(&error),
            Ok(Err(problem)) => {
                Told::refused(StatusCode::BAD_REQUEST, "bad_secret", problem.to_string())
            }
            Err(error) => internal(&error.to_string()),
        }
    }

    async fn delete_secret(self: Arc<Self>, name: Name) -> Told {
        let users: Vec<String> = self.users_of(&name).map(|f| f.name.to_string()).collect();
        if !users.is_empty() {
            let users = users.join(", ");
            let message = format!("secret `{name}` is declared by {users}: stop these first");
            return Told::refused(StatusCode::CONFLICT, "secret_in_use", message);
        }
        let (agent, its) = (self, name.clone());
        let removed = tokio::task::spawn_blocking(move || agent.secrets().remove(&its)).await;
        match removed {
            Ok(Ok(true)) => Told::ok(json!({"secret": name.as_str(), "deleted": true})),
            Ok(Ok(false)) => Told::refused(
                StatusCode::NOT_FOUND,
                "no_secret",
                format!("there is no secret `{name}`"),
            ),
            Ok(Err(error)) => storage(&error),
            Err(error) => internal(&error.to_string()),
        }
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
                    let mut functions = Vec::new();
                    for definition in definitions {
                        match self.clone().begin(definition).await {
                            Ok(function) => functions.push(function),
                            Err(error) => return storage(&error),
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
                    let Some(previous) = function.record().previous else {
                        let message = format!("`{name}` has no version to go back to");
                        return Told::refused(StatusCode::CONFLICT, "no_previous", message);
                    };
                    match self.clone().begin(previous.definition).await {
                        Ok(function) => {
                            self.settle(vec![function.clone()], wait).await;
                            Told::ok(function.short(&base))
                        }
                        Err(error) => storage(&error),
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
                Ask::HasBundle(digest) => match self.store.has_bundle(&digest) {
                    true => Told::ok(json!({ "bundle": digest })),
                    false => Told::refused(
                        StatusCode::NOT_FOUND,
                        "no_bundle",
                        "there is no such bundle",
                    ),
                },
                Ask::PutBundle => self.keep_bundle(body).await,
                Ask::Secrets => {
                    let secrets = self.secrets();
                    Told::ok(secrets.names().map(Name::as_str).collect())
                }
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
}

/// The route of a function's pool.
fn route_of(name: &Name) -> String {
    format!("/functions/{name}")
}

fn unknown(name: &str) -> Told {
    Told::refused(
        StatusCode::NOT_FOUND,
        "no_function",
        format!("there is no function `{name}`"),
    )
}

pub(super) fn storage(error: &std::io::Error) -> Told {
    let why = SystemError(error);
    tracing::error!("the state folder cannot be written: {why}");
    Told::refused(
        StatusCode::INSUFFICIENT_STORAGE,
        "storage",
        format!("this cannot be kept: {why}"),
    )
}

pub(super) fn internal(message: &str) -> Told {
    tracing::error!("{message}");
    Told::refused(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
}

pub(super) fn set_aside(log: &Log, what: &str, broken: &crate::functions::Broken) {
    let text = format!(
        "the record of {what} `{}` cannot be read and is set aside as {}: {}",
        broken.name,
        broken.path.display(),
        broken.why
    );
    log.push(crate::ops::log::Kind::Event, crate::ops::log::ERROR, text);
}
