//! Running a program for one request, from its start to its end.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::net::unix::pipe::Sender;
use tokio::sync::oneshot;
use tracing::Instrument;

use super::call::{Call, Place};
use super::input::{feed, Input};
use super::output::{Ended, Output};
use super::pipes::widen;
use super::CommandSettings;
use crate::environment::{SystemError, Variables};
use crate::ops::Ops;
use crate::sources::local::confinement::{Confined, Identity};
use crate::sources::local::leftovers;
use crate::sources::local::output::{Gate, Outlet};
use crate::sources::local::process::{Exit, Process};
use crate::sources::local::spawn::Launch;
use crate::sources::local::Resources;

/// What all runs of a program have in common.
pub struct Program {
    pub settings: CommandSettings,
    pub resources: Arc<Resources>,
    pub ops: Arc<Ops>,
}

impl Program {
    /// Starts it for the request of `call`, of the worker `id`. It is not ended by whoever stops to wait for this.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(
        self: Arc<Self>,
        id: u32,
        arguments: Vec<String>,
        input: Input,
        call: Arc<Call>,
        place: Place,
    ) -> io::Result<Output> {
        let (started, output) = oneshot::channel();
        let running = async move {
            let ended = self.run(id, arguments, input, call, started).await;
            // First: whoever hears of its end finds that it is over.
            drop(place);
            if let Some((ended, how)) = ended {
                let _ = ended.send(how);
            }
        };
        tokio::spawn(running.in_current_span());
        let gone = || Err(io::Error::other("the server is going down"));
        output.await.unwrap_or_else(|_| gone())
    }

    async fn run(
        &self,
        id: u32,
        arguments: Vec<String>,
        input: Input,
        call: Arc<Call>,
        started: oneshot::Sender<io::Result<Output>>,
    ) -> Option<(oneshot::Sender<Ended>, Ended)> {
        let start = async {
            let confined = self.settings.confinement.resolve_for_call()?;
            let generation = self.resources.next_generation();
            let owner = confined.identity.as_ref();
            let temporary = self.resources.temporary(generation, owner)?;
            let launch = self.launch(id, arguments, temporary.path(), confined);
            let outlet = Outlet {
                name: self.ops.name_of(&format!("worker {id}")),
                log: self.ops.log.clone(),
                gate: Gate::default(),
            };
            let spawner = &self.resources.spawner;
            let (process, pipes, exit) = Process::start_piped(spawner, launch, &outlet).await?;
            widen(&pipes.stdin);
            widen(&pipes.stdout);
            Ok((temporary, process, pipes, exit))
        };
        let (_temporary, process, pipes, exit) = match start.await {
            Ok(running) => running,
            Err(error) => {
                let _ = started.send(Err(error));
                return None;
            }
        };
        call.started(process.ender());
        let (ended, outcome) = oneshot::channel();
        let answering = Output::new(pipes.stdout, call.clone(), outcome);
        let failed = answering.is_err();
        if started.send(answering).is_err() || failed {
            call.kill();
        }
        let mut exit = std::pin::pin!(exit);
        let mut problem = None;
        let exit = tokio::select! {
            exit = exit.as_mut() => exit,
            fed = feed_all(pipes.stdin, input) => match fed {
                Ok(()) => exit.await,
                Err((error, stdin)) => {
                    // What breaks off where it comes from is no fault here: the access log has it.
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        tracing::error!(worker = id, "a request's body could not be read: {}", SystemError(&error));
                    }
                    problem = Some("was ended, as its input could not be read".to_owned());
                    call.kill();
                    let exit = exit.await;
                    // It must not have taken that for an end.
                    drop(stdin);
                    exit
                }
            }
        };
        let how = match (problem, exit) {
            (Some(problem), _) => Ended::Badly(problem),
            _ if call.is_ending() => Ended::Unwanted,
            (None, Ok(exit)) if exit.is_success() => Ended::Well,
            (None, exit) => {
                let how = exit.map_or_else(|_| "is lost".to_owned(), |exit: Exit| exit.describe());
                tracing::warn!(worker = id, "`{}` {how}", self.settings.name());
                Ended::Badly(how)
            }
        };
        drop(process);
        Some((ended, how))
    }

    fn launch(
        &self,
        id: u32,
        arguments: Vec<String>,
        temporary: &Path,
        confined: Confined,
    ) -> Launch {
        let settings = &self.settings;
        let mut command = settings.command.clone();
        command.extend(arguments);
        let mut env = BTreeMap::from([("FAUCET_WORKER_ID".to_owned(), id.to_string())]);
        if let Some(path) = temporary.to_str() {
            env.insert("TMPDIR".into(), path.into());
        }
        env.extend(confined.identity.iter().flat_map(Identity::variables));
        env.extend(settings.env.clone());
        let (name, kind) = leftovers::KIND;
        env.insert(name.into(), kind.into());
        Launch {
            command,
            dir: settings.dir.clone().unwrap_or_else(|| temporary.to_owned()),
            env,
            stdin: None,
            // Nobody could end it any more.
            orphaned: Signal::SIGKILL,
            confined,
        }
    }

    /// Why the program could not be started at all, if that is to be seen.
    pub fn problem(&self) -> Option<String> {
        let settings = &self.settings;
        if let Some(dir) = settings.dir.as_ref().filter(|dir| !dir.is_dir()) {
            return Some(format!("there is no folder {}", dir.display()));
        }
        let program = Path::new(settings.name());
        if program.as_os_str().is_empty() {
            return Some("the command is empty".to_owned());
        }
        let found = if settings.name().contains('/') {
            // As the system has it, whose working folder that is by then.
            let dir = settings.dir.as_deref().unwrap_or(Path::new("/"));
            is_program(&dir.join(program))
        } else {
            let variables = self.resources.environment.variables();
            let mut folders = folders(&settings.env, &variables).into_iter();
            folders.any(|folder| is_program(&folder.join(program)))
        };
        (!found).then(|| format!("there is no program `{}`", settings.name()))
    }
}

/// Gives a program all of its input, and closes that. Else it stays open.
async fn feed_all(stdin: OwnedFd, input: Input) -> Result<(), (io::Error, Option<Sender>)> {
    let mut stdin = Sender::from_owned_fd(stdin).map_err(|error| (error, None))?;
    match feed(&mut stdin, input).await {
        Ok(()) => Ok(()),
        Err(error) => Err((error, Some(stdin))),
    }
}

/// Where programs are looked for.
fn folders(env: &BTreeMap<String, String>, inherited: &Variables) -> Vec<PathBuf> {
    let own = env.get("PATH").map(std::ffi::OsString::from);
    let path = own.or_else(|| {
        let mut named = inherited.iter().filter(|(name, _)| name == "PATH");
        named.next().map(|(_, value)| value.clone())
    });
    path.iter().flat_map(std::env::split_paths).collect()
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let file = std::fs::metadata(path);
    file.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
