//! From a version of a function to a pool with all that it needs.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::exposed::give;
use super::record::Version;
use super::{Agent, WORKERS};
use crate::environment::SystemError;
use crate::functions::{Code, Definition, Name, Secret, Signature};
use crate::pool::{PoolLimits, Route};
use crate::server::kept::route_of;
use crate::server::request::PreparedPool;
use crate::server::PoolSettings;
use crate::sources::command::CommandSettings;
use crate::sources::local::{Confinement, LocalSettings};
use crate::sources::replicas::{Settings as ReplicasSettings, Target};
use crate::sources::{Failure, Source};

impl Agent {
    /// A pool with all that a version needs.
    pub(super) async fn prepare(
        self: &Arc<Self>,
        version: &Version,
    ) -> Result<PreparedPool, Failure> {
        let agent = self.clone();
        let version = version.clone();
        let prepared = tokio::task::spawn_blocking(move || agent.prepare_now(&version)).await;
        prepared.unwrap_or_else(|error| Err(Failure::new("internal", error.to_string())))
    }

    pub(super) fn prepare_now(&self, version: &Version) -> Result<PreparedPool, Failure> {
        let definition = &version.definition;
        let settings = &self.settings;
        let route = Route::parse(&route_of(&definition.name))
            .map_err(|error| Failure::new("internal", error.to_string()))?;
        let own = &settings.limits;
        let limits = PoolLimits {
            queue: definition.queue.map_or(own.queue, |queue| {
                usize::try_from(queue).unwrap_or(usize::MAX)
            }),
            timeout: definition.timeout.or(own.timeout),
            max_body: definition.max_body.unwrap_or(own.max_body),
            streams: definition.streams(),
            ..own.clone()
        };
        let source = match &definition.code {
            Code::Bundle(_) | Code::Folder(_) => Source::Local(self.local(version)?),
            Code::Command(words) => Source::Command(CommandSettings {
                command: words.clone(),
                dir: None,
                env: self.environment(version)?,
                confinement: self.confinement(definition),
                workers: definition.workers.unwrap_or(WORKERS),
                signature: Signature::of_command(&definition.options),
            }),
            Code::Url(url) => Source::Replicas(replicas(definition, url)?),
        };
        let prepared = source
            .clone()
            .prepare(|| Ok(self.resources.clone()))
            .map_err(crate::server::system)?;
        Ok(PreparedPool {
            settings: PoolSettings {
                route,
                limits,
                source,
                sessions: None,
            },
            source: prepared,
        })
    }

    /// Workers that are R processes.
    fn local(&self, version: &Version) -> Result<LocalSettings, Failure> {
        let definition = &version.definition;
        let dir = self.folder_of(definition, version.number)?;
        let mut local = LocalSettings {
            dir,
            workers: definition.workers.unwrap_or(WORKERS),
            shared_template: self.settings.template.is_some(),
            confinement: self.confinement(definition),
            ..self.settings.worker.clone()
        };
        local.env.extend(self.environment(version)?);
        if let Some(file) = &definition.file_path {
            check_inside(&local.dir, file)?;
            local
                .env
                .insert("FAUCET_FUNCTION_FILE".into(), file.clone());
        }
        if definition.stream {
            local
                .env
                .insert("FAUCET_FUNCTION_STREAM".into(), "1".into());
        }
        Ok(match &self.endpoint {
            Some(endpoint) => match Source::Local(local).listening_at(endpoint) {
                Source::Local(local) => local,
                _ => return Err(Failure::new("internal", "a source changed its kind")),
            },
            None => local,
        })
    }

    /// What its processes are kept to.
    fn confinement(&self, definition: &Definition) -> Confinement {
        Confinement {
            user: self.settings.run_as.clone(),
            memory: definition.memory,
            cpu_time: definition.cpu_time,
        }
    }

    /// What the processes of a version are told, and where its secrets are, which are written for that.
    fn environment(&self, version: &Version) -> Result<BTreeMap<String, String>, Failure> {
        let definition = &version.definition;
        let owner = self.settings.run_as.as_deref();
        let mut env = definition.env.clone();
        env.insert("FAUCET_FUNCTION".into(), definition.name.to_string());
        if !definition.secrets.is_empty() {
            let secrets = self.declared(definition)?;
            let folder = self
                .exposed
                .write(&definition.name, version.number, &secrets, owner)
                .map_err(|error| {
                    let why = SystemError(&error);
                    Failure::new("secret", format!("The secrets cannot be written: {why}"))
                })?;
            env.insert("FAUCET_SECRETS".into(), folder.display().to_string());
        }
        Ok(env)
    }

    /// The secrets that a function has declared.
    pub(super) fn declared(&self, definition: &Definition) -> Result<Vec<(Name, Secret)>, Failure> {
        let secrets = self.secrets();
        let declared = definition.secrets.iter();
        declared
            .map(|name| match secrets.get(name) {
                Some(secret) => Ok((name.clone(), secret.clone())),
                None => Err(Failure::new(
                    "secret",
                    format!("Secret \"{name}\" is declared, but it is not set here: secret_set(\"{name}\") sets it."),
                )),
            })
            .collect()
    }

    fn folder_of(&self, definition: &Definition, number: u64) -> Result<PathBuf, Failure> {
        match &definition.code {
            Code::Bundle(digest) => {
                if !self.store.has_bundle(digest) {
                    return Err(Failure::new(
                        "bundle",
                        format!("The bundle {digest} was not uploaded: PUT /bundles does that."),
                    ));
                }
                let name = definition.name.as_str();
                let folder = self
                    .store
                    .unpack(digest, name, number)
                    .map_err(|error| Failure::new("bundle", format!("{error}.")))?;
                give_all(&folder, self.settings.run_as.as_deref()).map_err(|error| {
                    let why = SystemError(&error);
                    Failure::new(
                        "bundle",
                        format!("The function's folder cannot be given to its user: {why}"),
                    )
                })?;
                Ok(folder)
            }
            Code::Folder(folder) => match folder.is_dir() {
                true => Ok(folder.clone()),
                false => Err(Failure::new(
                    "dir",
                    format!(
                        "There is no folder {} on the agent's machine.",
                        folder.display()
                    ),
                )),
            },
            Code::Command(_) | Code::Url(_) => Err(Failure::new("internal", "it has no folder")),
        }
    }
}

/// A service that is sent so many requests at a time.
fn replicas(definition: &Definition, url: &str) -> Result<ReplicasSettings, Failure> {
    let target = match definition.is_grpc() {
        true => Target::of_grpc(url, definition.services.clone()),
        false => Target::of_service(url),
    };
    let target = target.map_err(|problem| Failure::new("option", format!("`url`: {problem}")))?;
    let settings = ReplicasSettings::of(target);
    Ok(ReplicasSettings {
        slots: definition
            .workers
            .map_or(settings.slots, |workers| workers.max),
        ..settings
    })
}

/// A file that is run is in the function's folder, also if there are links.
///
/// # Errors
/// Class `file`: it is not.
fn check_inside(folder: &Path, file: &str) -> Result<(), Failure> {
    let found = folder.canonicalize().and_then(|folder| {
        let found = folder.join(file).canonicalize()?;
        Ok(found.is_file() && found.starts_with(folder))
    });
    match found {
        Ok(true) => Ok(()),
        _ => Err(Failure::new(
            "file",
            format!("`filePath`: there is no file {file} in the function's folder."),
        )),
    }
}

/// Gives a folder and all in it to a user.
fn give_all(folder: &Path, owner: Option<&str>) -> io::Result<()> {
    if owner.is_none() {
        return Ok(());
    }
    give(folder, owner)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            give_all(&entry.path(), owner)?;
        } else {
            give(&entry.path(), owner)?;
        }
    }
    Ok(())
}
