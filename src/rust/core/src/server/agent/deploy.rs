//! How a function's versions come and go: the new one is started, takes the route, and the old one is drained.

use std::io;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use serde_json::json;
use tracing::Instrument;

use super::function::Function;
use super::record::{Record, Version};
use super::services::{serving, NotBegun};
use super::{Agent, WORKERS};
use crate::environment::SystemError;
use crate::front::Told;
use crate::functions::{check_services, Code, Definition, Name};
use crate::ops;
use crate::pool::{Membership, Pool};
use crate::server::kept::{route_of, storage};
use crate::server::request::PreparedPool;
use crate::server::task::ServerTask;
use crate::sources::local::WorkerRange;
use crate::sources::{Command, Failure, Prepared};

impl Agent {
    /// Notes that a version is to be deployed, and begins: the function.
    ///
    /// # Errors
    /// It cannot be noted, or has a service that is another function's, and nothing has changed.
    pub(super) async fn begin(
        self: Arc<Self>,
        definition: Definition,
    ) -> Result<Arc<Function>, NotBegun> {
        let name = definition.name.clone();
        let (function, number) = {
            // Held until the version is noted: whoever removes the function sees it, or it is another function.
            let mut functions = self.functions();
            check_services(&definition, &serving(&functions))?;
            let known = functions.entry(name.clone());
            let function = known
                .or_insert_with(|| Arc::new(self.make_new(name)))
                .clone();
            let mut state = function.lock();
            state.record.last += 1;
            let number = state.record.last;
            state.record.next = Some(Version {
                number,
                definition,
                signature: None,
                deployed: None,
            });
            drop(state);
            (function, number)
        };
        // The one before is given up, if it has not come so far.
        function.settled.send_modify(|count| *count += 1);
        if let Err(error) = self.keep(&function).await {
            self.forget_next(&function, number);
            return Err(error.into());
        }
        self.deploy_later(function.clone(), number);
        Ok(function)
    }

    fn forget_next(&self, function: &Arc<Function>, number: u64) {
        {
            let mut functions = self.functions();
            let mut state = function.lock();
            let record = &mut state.record;
            record.drop_next(number);
            if record.versions().next().is_none() && record.message.is_none() {
                functions.remove(&function.name);
            }
        }
        function.settled.send_modify(|count| *count += 1);
    }

    fn deploy_later(self: &Arc<Self>, function: Arc<Function>, number: u64) {
        let agent = self.clone();
        let span = ops::pool_span(&route_of(&function.name));
        let work = async move {
            let _change = function.changing.lock().await;
            agent.deploy(&function, number).await;
        };
        tokio::spawn(work.instrument(span));
    }

    /// Writes down how a function is.
    async fn keep(self: &Arc<Self>, function: &Arc<Function>) -> io::Result<()> {
        let (agent, function) = (self.clone(), function.clone());
        let kept = tokio::task::spawn_blocking(move || {
            // One after the other, so that what is written last is what is so last.
            let _writing = function
                .writing
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let content = function.record().to_json().to_string();
            agent
                .records
                .write(function.name.as_str(), content.as_bytes())
        });
        kept.await
            .unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// The same, when there is nobody to tell: what cannot be written is said in the log.
    async fn keep_or_say(self: &Arc<Self>, function: &Arc<Function>) {
        if let Err(error) = self.keep(function).await {
            let why = SystemError(&error);
            tracing::error!("the state folder cannot be written: {why}: a restart would bring back what was before");
        }
    }

    async fn deploy(self: &Arc<Self>, function: &Arc<Function>, number: u64) {
        let next = function.record().next;
        let Some(version) = next.filter(|version| version.number == number) else {
            // Another one has come, and is deployed next.
            return;
        };
        tracing::info!("version {number} is being deployed");
        let started = match self.task.get().and_then(std::sync::Weak::upgrade) {
            None => Err(Failure::stopping()),
            Some(task) => {
                let begin = self.starts.acquire();
                tokio::select! {
                    // Closed only with the agent.
                    _start = begin => self.start_version(function, &version, &task).await,
                    () = function.unwanted(number) => Err(Failure::unwanted()),
                }
            }
        };
        match started {
            Ok(pool) => self.deployed(function, version, pool).await,
            Err(failure) => self.not_deployed(function, &version, failure).await,
        }
    }

    async fn deployed(
        self: &Arc<Self>,
        function: &Arc<Function>,
        version: Version,
        pool: Arc<Pool>,
    ) {
        let number = version.number;
        let definition = version.definition.clone();
        let (old, unused) = {
            let mut state = function.lock();
            let record = &mut state.record;
            record.drop_next(number);
            let before = record.current.replace(Version {
                signature: pool
                    .roster
                    .signature()
                    .map(|signature| (*signature).clone()),
                deployed: Some(SystemTime::now()),
                ..version
            });
            let unused = before.as_ref().map(|before| before.number);
            // One that was stopped and is started again is not the one before itself.
            let again = |before: &Version| record.stopped && before.definition == definition;
            if before.as_ref().is_some_and(|before| !again(before)) {
                record.previous = before;
            }
            record.stopped = false;
            (record.message, record.lines) = (None, Vec::new());
            (state.pool.replace(pool), unused)
        };
        self.keep_or_say(function).await;
        tracing::info!("version {number} is deployed");
        function.settled.send_modify(|count| *count += 1);
        if let Some(old) = old {
            self.retire(old, function, unused);
        } else if let Some(unused) = unused {
            self.clear(function, unused);
        }
    }

    async fn not_deployed(
        self: &Arc<Self>,
        function: &Arc<Function>,
        version: &Version,
        failure: Failure,
    ) {
        let number = version.number;
        if failure.class == "stopped" {
            // The agent ends: it is tried again when it is back.
            return;
        }
        if failure.class == "unwanted" {
            // Another one is deployed next, or whoever stops it waits.
            tracing::info!("version {number} is given up");
            return self.clear(function, number);
        }
        tracing::error!(
            "version {number} could not be deployed: {}",
            failure.message
        );
        {
            let mut state = function.lock();
            let record = &mut state.record;
            record.drop_next(number);
            if record.versions().next().is_none() {
                // So that it is known what has failed, and can be tried again.
                record.previous = Some(version.clone());
            }
            record.message = Some(failure.message);
            record.lines = failure.lines;
        }
        self.keep_or_say(function).await;
        function.settled.send_modify(|count| *count += 1);
        self.clear(function, number);
    }

    /// Lets a version finish what it has, and removes its files.
    fn retire(self: &Arc<Self>, pool: Arc<Pool>, function: &Arc<Function>, number: Option<u64>) {
        let Some(task) = self.task.get().and_then(std::sync::Weak::upgrade) else {
            return;
        };
        let (agent, function) = (self.clone(), function.clone());
        tokio::spawn(async move {
            task.remove(pool, agent.settings.drain_timeout).await;
            if let Some(number) = number {
                agent.clear(&function, number);
            }
        });
    }

    /// Removes the files of a version that runs no more.
    fn clear(self: &Arc<Self>, function: &Arc<Function>, number: u64) {
        let (agent, name) = (self.clone(), function.name.clone());
        tokio::task::spawn_blocking(move || {
            agent.store.remove_folder(name.as_str(), number);
            agent.exposed.remove(&name, number);
            let used: Vec<String> = agent
                .all()
                .iter()
                .flat_map(|function| {
                    let record = function.record();
                    let versions = record
                        .versions()
                        .map(|version| version.definition.code.clone());
                    versions.collect::<Vec<_>>()
                })
                .filter_map(|code| match code {
                    Code::Bundle(digest) => Some(digest),
                    _ => None,
                })
                .collect();
            agent
                .store
                .tidy_bundles(|digest| used.iter().any(|used| used == digest));
        });
    }

    /// Starts a version, and gives it the route once one of its workers has answered.
    async fn start_version(
        self: &Arc<Self>,
        function: &Arc<Function>,
        version: &Version,
        task: &Arc<ServerTask>,
    ) -> Result<Arc<Pool>, Failure> {
        let wanted = version.definition.workers.unwrap_or(WORKERS);
        let prepared = self.prepare(version).await?;
        let name = route_of(&function.name);
        let before = function.lock().pool.clone();
        // One has to answer, before it counts as deployed.
        let first = WorkerRange {
            min: wanted.min.max(1),
            ..wanted
        };
        let starts = matches!(prepared.source, Prepared::Local(..)).then_some(first);
        let prepared = match starts {
            Some(first) => with_workers(prepared, first),
            None => prepared,
        };
        let pool = task
            .join_unless(prepared, before.as_ref(), function.unwanted(version.number))
            .await
            .map_err(|mut failure| {
                // The function is named wherever this is told.
                let start = format!("Pool \"{name}\": ");
                if let Some(message) = failure.message.strip_prefix(&start) {
                    failure.message = message.to_owned();
                }
                failure
            })?;
        if starts.is_some() && wanted != first {
            let scaled = task
                .of_source(pool.clone(), |reply| Command::Scale(wanted, reply))
                .await;
            if let Err(failure) = scaled {
                tracing::error!("{}", failure.message);
            }
        }
        Ok(pool)
    }

    /// Serves all that served before, and deploys what was being deployed.
    pub(super) fn resume(self: &Arc<Self>, task: &Arc<ServerTask>) {
        let mut served: Vec<Definition> = Vec::new();
        for function in self.all() {
            let record = function.record();
            if let Some(version) = record.current.clone().filter(|_| !record.stopped) {
                let span = ops::pool_span(&route_of(&function.name));
                let _entered = span.entered();
                // Kept by a faucet that took both.
                if let Err(taken) = check_services(&version.definition, &served) {
                    tracing::warn!("{taken}: calls by the service's name go there");
                }
                served.push(version.definition.clone());
                match self.serve(&function, &version, task) {
                    Ok(pool) => function.lock().pool = Some(pool),
                    Err(failure) => {
                        tracing::error!(
                            "version {} cannot be served: {}",
                            version.number,
                            failure.message
                        );
                        let mut state = function.lock();
                        let record = &mut state.record;
                        record.previous = record.current.take();
                        record.message = Some(failure.message);
                    }
                }
            }
            if let Some(next) = record.next {
                self.deploy_later(function, next.number);
            }
        }
    }

    /// Serves a version that has served before.
    fn serve(
        &self,
        function: &Arc<Function>,
        version: &Version,
        task: &Arc<ServerTask>,
    ) -> Result<Arc<Pool>, Failure> {
        let prepared = self.prepare_now(version)?;
        let pool = prepared
            .settings
            .pool(&task.front.ops, &task.front.metrics)?;
        if let Some(signature) = &version.signature {
            pool.roster.set_signature(signature.clone());
        }
        task.front.pools.add(pool.clone(), Membership::Routed);
        task.start_unawaited(pool.clone(), prepared);
        tracing::info!("version {} is served again", version.number);
        function.settled.send_modify(|count| *count += 1);
        Ok(pool)
    }

    /// Stops a function; with `remove` nothing of it is kept.
    pub(super) async fn stop(
        self: Arc<Self>,
        function: Arc<Function>,
        remove: bool,
        base: &str,
    ) -> Told {
        let span = ops::pool_span(&route_of(&function.name));
        let work = async {
            // What is on its way is not to come any more.
            let last = {
                let mut state = function.lock();
                state.unwanted = state.record.last;
                state.unwanted
            };
            function.settled.send_modify(|count| *count += 1);
            let _change = function.changing.lock().await;
            let before = function.record();
            let number = {
                let mut state = function.lock();
                let record = &mut state.record;
                if record.next.as_ref().is_some_and(|next| next.number <= last) {
                    let unwanted = record.next.take();
                    record.current = record.current.take().or(unwanted);
                }
                record.stopped = true;
                record.current.as_ref().map(|version| version.number)
            };
            if let Err(error) = self.keep(&function).await {
                self.go_on(&function, before);
                return storage(&error);
            }
            let pool = function.lock().pool.take();
            let task = self.task.get().and_then(std::sync::Weak::upgrade);
            if let Some((task, pool)) = task.zip(pool) {
                task.remove(pool, self.settings.drain_timeout).await;
            }
            if let Some(number) = number {
                self.clear(&function, number);
            }
            if remove {
                if let Err(error) = self.forget(&function).await {
                    return storage(&error);
                }
            }
            tracing::info!("is stopped{}", if remove { " and removed" } else { "" });
            function.settled.send_modify(|count| *count += 1);
            let mut short = function.short(base);
            if remove {
                short["removed"] = json!(true);
            }
            Told::ok(short)
        };
        work.instrument(span).await
    }

    /// A stop could not be noted: all is as it was before.
    fn go_on(self: &Arc<Self>, function: &Arc<Function>, before: Record) {
        let again = {
            let mut state = function.lock();
            state.unwanted = 0;
            let record = &mut state.record;
            record.stopped = before.stopped;
            record.current = before.current;
            match (&record.next, before.next) {
                // It waits for its turn.
                (Some(_), _) | (None, None) => None,
                (None, Some(next)) => {
                    let number = next.number;
                    record.next = Some(next);
                    Some(number)
                }
            }
        };
        if let Some(number) = again {
            self.deploy_later(function.clone(), number);
        }
        function.settled.send_modify(|count| *count += 1);
    }

    /// Keeps nothing of a function that is stopped, unless it is being deployed again by now.
    async fn forget(self: &Arc<Self>, function: &Arc<Function>) -> io::Result<()> {
        let (agent, its) = (self.clone(), function.clone());
        let removed = tokio::task::spawn_blocking(move || {
            // Whoever deploys it from here on writes its record behind this.
            let _writing = its.writing.lock().unwrap_or_else(PoisonError::into_inner);
            match its.record().next {
                Some(_) => Ok(()),
                None => agent.records.remove(its.name.as_str()),
            }
        });
        removed
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)))?;
        let mut functions = self.functions();
        let record = function.record();
        if record.next.is_none() {
            functions.remove(&function.name);
            self.removed().insert(function.name.clone(), record.last);
            self.log.drop_history(&route_of(&function.name));
        }
        Ok(())
    }

    /// A secret has another value: those that have declared it get it, and their workers are replaced.
    pub(super) fn secret_changed(self: &Arc<Self>, secret: &Name) {
        for function in self.users_of(secret) {
            let agent = self.clone();
            let span = ops::pool_span(&route_of(&function.name));
            let (work, secret) = (
                async move { agent.renew_secrets(&function).await },
                secret.clone(),
            );
            span.in_scope(|| {
                tracing::info!("secret `{secret}` has changed: its workers are replaced")
            });
            tokio::spawn(work.instrument(span));
        }
    }

    async fn renew_secrets(self: Arc<Self>, function: &Arc<Function>) {
        let _change = function.changing.lock().await;
        let (current, pool) = {
            let state = function.lock();
            (state.record.current.clone(), state.pool.clone())
        };
        let (Some(version), Some(pool)) = (current, pool) else {
            return;
        };
        let agent = self.clone();
        let written = tokio::task::spawn_blocking(move || {
            let secrets = agent.declared(&version.definition)?;
            let owner = agent.settings.run_as.as_deref();
            let name = &version.definition.name;
            let written = agent.exposed.write(name, version.number, &secrets, owner);
            written.map_err(|error| Failure::new("secret", SystemError(&error).to_string()))
        });
        let written = written
            .await
            .unwrap_or_else(|error| Err(Failure::new("internal", error.to_string())));
        if let Err(failure) = written {
            tracing::error!("the secrets could not be renewed: {}", failure.message);
            return;
        }
        if let Some(task) = self.task.get().and_then(std::sync::Weak::upgrade) {
            if let Err(failure) = task.reload(pool).await {
                tracing::error!("the workers could not be replaced: {}", failure.message);
            }
        }
    }
}

/// The same pool, which has other workers at first.
fn with_workers(mut prepared: PreparedPool, workers: WorkerRange) -> PreparedPool {
    if let Prepared::Local(settings, _) = &mut prepared.source {
        settings.workers = workers;
    }
    prepared
}
