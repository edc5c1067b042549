//! The templates of one app: one that forks workers, one that loads newer code, and those that only wait for their last child.
//!
//! Whoever owns them ([`Supervisor`](super::Supervisor) or [`SharedTemplate`](super::shared::SharedTemplate)) hears their [`News`]
//! and decides; nothing here waits, nor starts anything by itself.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::boot::{accepts, ReservedPort, LOOK};
use super::confinement::Confined;
use super::listening;
use super::output::Outlet;
use super::position::{Due, Place, Position};
use super::process::{Exit, Process};
use super::scratch::Temporary;
use super::spawn::Launch;
use super::template::{Conversation, Line};
use super::{LocalSettings, Resources};
use crate::environment::SystemError;
use crate::ops::status::{Kind, State, TemplateStatus};
use crate::sources::Failure;
use crate::worker::Address;

/// How long a template may take to end that nobody needs any more.
const GRACE: Duration = Duration::from_secs(1);

/// What becomes of templates.
pub enum News {
    Loaded(u64, Result<(), LoadFailure>),
    Exited(u64, Exit),
    /// Another start is due.
    Due(Due),
}

/// Why a template that runs cannot be forked from.
pub enum LoadFailure {
    Unable(String),
    Timeout,
}

/// What a template's word means.
pub enum Loaded {
    /// Workers are forked from it.
    Ready,
    /// There will be none: this app cannot be forked.
    Unable,
    /// Nothing yet: one that was killed ends, and others are of no interest.
    Nothing,
}

/// The templates.
#[derive(Default)]
pub struct Templates {
    /// Whether the next one is started when this one is gone.
    pub wanted: bool,
    /// The app cannot be preloaded, as far as is known.
    pub unable: bool,
    /// Workers are forked from this one.
    ready: Option<u64>,
    /// This one loads the app.
    coming: Option<u64>,
    position: Position,
    /// All that run: those that were replaced stay until their last child has ended, which they reap.
    running: BTreeMap<u64, Template>,
}

struct Template {
    process: Process,
    /// None once it is not needed any more, but by its children.
    line: Option<Line>,
    ready_since: Option<Instant>,
    /// Why it was killed while it loaded the app.
    problem: Option<String>,
    conversation: JoinHandle<()>,
    _port: ReservedPort,
    /// The workers that are forked from it have theirs there, too.
    temporary: Arc<Temporary>,
}

impl Drop for Template {
    fn drop(&mut self) {
        // Its end of file may not come: a child of the app may have inherited the other end.
        self.conversation.abort();
    }
}

/// A template that forks.
#[derive(Clone)]
pub struct Ready {
    pub serial: u64,
    pub line: Line,
    /// Its folder is R's `tempdir()` in its children.
    pub temporary: Arc<Temporary>,
}

impl Templates {
    /// The template that forks, if there is one.
    pub fn ready(&self) -> Option<Ready> {
        let serial = self.ready?;
        let template = self.running.get(&serial)?;
        Some(Ready {
            serial,
            line: template.line.clone()?,
            temporary: template.temporary.clone(),
        })
    }

    /// Whether workers wait for the first one.
    pub fn is_awaited(&self) -> bool {
        self.ready.is_none() && self.coming.is_some()
    }

    /// Whether no process is left.
    pub fn are_gone(&self) -> bool {
        self.running.is_empty()
    }

    /// Lets a template go when its last child has ended.
    fn release(&mut self, serial: Option<u64>) {
        if let Some(template) = serial.and_then(|serial| self.running.get_mut(&serial)) {
            template.line = None;
        }
    }

    /// The same for all.
    pub fn release_all(&mut self) {
        (self.wanted, self.ready, self.coming) = (false, None, None);
        for template in self.running.values_mut() {
            template.line = None;
        }
    }

    pub fn kill_all(&mut self) {
        self.release_all();
        for template in self.running.values() {
            template.process.ender().kill();
        }
    }

    pub fn status(&self, max_failures: u32) -> Option<TemplateStatus> {
        let pid = |serial| Some(self.running.get(&serial)?.process.pid());
        let (pid, state) = match (self.ready, self.coming) {
            (Some(serial), _) => (pid(serial), State::Ready),
            (_, Some(serial)) => (pid(serial), State::Starting),
            _ if !self.wanted => return None,
            _ if self.position.is_failing(max_failures) => (None, State::Failed),
            _ => (None, State::Dead),
        };
        let waits = matches!(state, State::Failed | State::Dead);
        let due = self.position.due().filter(|_| waits);
        Some(TemplateStatus {
            pid,
            state,
            next_try: due.map(|due| due.time),
        })
    }

    /// Starts a template for the code as it is now. One that is on its way may have read other code.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(
        &mut self,
        settings: &LocalSettings,
        resources: &Resources,
        outlet: &Outlet,
        tell: impl Fn(News) + Clone + Send + 'static,
    ) -> Result<(), Failure> {
        let before = self.coming.take();
        self.release(before);
        self.wanted = true;
        self.unable = false;
        self.position.place = Place::Filled;
        let serial = resources.next_generation();
        match launch(serial, settings, resources, outlet, tell).await {
            Ok(template) => {
                self.running.insert(serial, template);
                self.coming = Some(serial);
                Ok(())
            }
            Err(error) => {
                let why = why_not_started(&settings.dir, &error);
                Err(Failure::new(
                    "boot",
                    format!("The template could not be started: {why}."),
                ))
            }
        }
    }

    /// A template has loaded the app, or will not.
    pub fn loaded(
        &mut self,
        serial: u64,
        loaded: Result<(), LoadFailure>,
        settings: &LocalSettings,
    ) -> Loaded {
        if self.coming != Some(serial) {
            return Loaded::Nothing;
        }
        let Some(template) = self.running.get_mut(&serial) else {
            return Loaded::Nothing;
        };
        match loaded {
            Ok(()) => {
                template.ready_since = Some(Instant::now());
                tracing::info!("the template is ready (pid {})", template.process.pid());
                self.position.started();
                self.coming = None;
                let old = self.ready.replace(serial);
                self.release(old);
                Loaded::Ready
            }
            Err(LoadFailure::Unable(why)) if settings.worker_type == Some(Kind::Native) => {
                let message = format!("The app cannot be preloaded: {why}.");
                template.problem = Some(message);
                template.process.ender().kill();
                Loaded::Nothing
            }
            Err(LoadFailure::Unable(why)) => {
                tracing::warn!("the app cannot be preloaded, each worker loads it: {why}");
                self.release_all();
                self.unable = true;
                Loaded::Unable
            }
            Err(LoadFailure::Timeout) => {
                template.problem = Some(format!(
                    "The template did not load the app within {} s (`boot_timeout`).",
                    settings.boot_timeout.as_secs_f64()
                ));
                template.process.ender().kill();
                Loaded::Nothing
            }
        }
    }

    /// A template has ended: when the next start is due, if it had forked; why it could not, if it was still loading the app.
    pub fn exited(&mut self, serial: u64, exit: &Exit) -> (Option<Due>, Option<Failure>) {
        let due = self.lose(serial, &exit.describe());
        let template = self.running.remove(&serial);
        let Some(template) = template.filter(|_| self.coming == Some(serial)) else {
            return (due, None);
        };
        self.coming = None;
        let message = match &template.problem {
            Some(problem) => problem.clone(),
            None => format!("The template {} before it was ready.", exit.describe()),
        };
        let failure = Failure {
            class: "boot",
            message,
            lines: template.process.tail.lines(),
        };
        (due, Some(failure))
    }

    /// The template that forked is of no more use: another one, at once or later. Its workers go on.
    pub fn lose(&mut self, serial: u64, why: &str) -> Option<Due> {
        if self.ready != Some(serial) {
            return None;
        }
        self.ready = None;
        tracing::warn!("the template {why}; its workers go on");
        let template = self.running.get(&serial)?;
        template.process.ender().kill();
        let since = template.ready_since.unwrap_or_else(Instant::now);
        let waits = self.coming.is_none();
        waits.then(|| self.position.died(since))
    }

    /// Whether this is the start that is waited for.
    pub fn is_due(&self, due: Due) -> bool {
        self.wanted && self.position.place == Place::Waiting(due)
    }

    /// A template did not become ready: when the next start is due.
    pub fn failed(&mut self, failure: &Failure, max_failures: u32) -> Due {
        let was_failing = self.position.is_failing(max_failures);
        let due = self.position.start_failed();
        let pause = due.at.saturating_duration_since(Instant::now());
        if self.position.is_failing(max_failures) && !was_failing {
            tracing::error!(
                "the template has failed to start {max_failures} times in a row, and is tried again from now on at \
                 pauses of up to a minute"
            );
        }
        tracing::error!(
            "{} Trying again in {:.1} s. {}",
            failure.message,
            pause.as_secs_f64(),
            failure.reason()
        );
        due
    }

    /// Tries one again that was given up: when it is due.
    pub fn retry(&mut self) -> Due {
        self.wanted = true;
        self.position.start_failed()
    }
}

async fn launch(
    serial: u64,
    settings: &LocalSettings,
    resources: &Resources,
    outlet: &Outlet,
    tell: impl Fn(News) + Clone + Send + 'static,
) -> io::Result<Template> {
    let port = ReservedPort::take()?;
    let (conversation, line, word, stdin) = Conversation::new()?;
    let mut env = settings.process_env(0, &port);
    env.entry("FAUCET_TEMPLATE".into())
        .or_insert_with(|| "1".into());
    let temporary = Arc::new(resources.temporary(serial, None)?);
    env.extend(temporary.variable());
    let launch = Launch {
        command: settings.command.clone(),
        dir: settings.dir.clone(),
        env,
        stdin: Some(stdin),
        orphaned: Signal::SIGINT,
        // Its children are, each in its own way.
        confined: Confined::default(),
    };
    let (process, exit) = Process::start(&resources.spawner, launch, outlet).await?;
    let ender = process.ender();
    let conversation = tokio::spawn(async move {
        conversation.run().await;
        ender.stop(GRACE).await;
    });
    let (mut loading, exited) = oneshot::channel::<()>();
    let timeout = settings.boot_timeout;
    let address = [Address::Tcp(port.address)];
    let (pid, own_port) = (process.pid(), port.address.port());
    let teller = tell.clone();
    tokio::spawn(async move {
        let loaded = tokio::select! {
            // In this order: one that is unable says so, and ends.
            biased;
            word = word => match word {
                Ok(word) => word.map_err(LoadFailure::Unable),
                // It hung up, and ends.
                Err(_) => return,
            },
            _ = accepts(&address, LOOK) => {
                Err(LoadFailure::Unable("the app serves TCP itself".into()))
            }
            strays = listening::elsewhere(pid, own_port, |_| ()) => {
                let why = format!("the app serves TCP itself, on {}", listening::describe(&strays));
                Err(LoadFailure::Unable(why))
            }
            () = tokio::time::sleep(timeout) => Err(LoadFailure::Timeout),
            () = loading.closed() => return,
        };
        teller(News::Loaded(serial, loaded));
    });
    tokio::spawn(async move {
        if let Ok(exit) = exit.await {
            drop(exited);
            tell(News::Exited(serial, exit));
        }
    });
    Ok(Template {
        process,
        line: Some(line),
        ready_since: None,
        problem: None,
        conversation,
        _port: port,
        temporary,
    })
}

/// The system does not say which file is missing.
pub fn why_not_started(dir: &Path, error: &io::Error) -> String {
    let error = SystemError(error);
    if dir.is_dir() {
        error.to_string()
    } else {
        format!("{error} ({} is gone)", dir.display())
    }
}
