//! The template that workers are forked from: loaded first, replaced by a reload, started anew when it dies.
//!
//! It only makes starts fast. Whenever there is none, workers start as ordinary processes, and what becomes
//! of a template is nothing to the workers that were forked from it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::signal::Signal;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::ending::SHORT_GRACE;
use super::start::{temporary_env, why_not_started};
use super::{Event, SourceEvent, Supervisor};
use crate::ops::status::{Kind, State, TemplateStatus};
use crate::sources::local::boot::{accepts, ReservedPort, LOOK};
use crate::sources::local::listening;
use crate::sources::local::output::{Gate, Outlet};
use crate::sources::local::position::{Due, Place, Position};
use crate::sources::local::process::{Exit, Process};
use crate::sources::local::scratch::Temporary;
use crate::sources::local::spawn::Launch;
use crate::sources::local::template::{Conversation, Line};
use crate::sources::Failure;
use crate::worker::Address;

/// The templates of one server.
#[derive(Default)]
pub(super) struct Preload {
    /// Whether the next one is started when this one is gone.
    wanted: bool,
    /// The app cannot be preloaded, as far as is known.
    unable: bool,
    /// Workers are forked from this one.
    ready: Option<u64>,
    /// This one loads the app.
    coming: Option<u64>,
    position: Position,
    /// All that run: those that were replaced stay until their last child has ended, which they reap.
    pub(super) running: BTreeMap<u64, Template>,
}

pub(super) struct Template {
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

/// Why a template that runs cannot be forked from.
pub(super) enum LoadFailure {
    Unable(String),
    Timeout,
}

impl Preload {
    /// The template that forks, if there is one.
    pub(super) fn template(&self) -> Option<(u64, Line, Arc<Temporary>)> {
        let serial = self.ready?;
        let template = self.running.get(&serial)?;
        Some((serial, template.line.clone()?, template.temporary.clone()))
    }

    /// Whether workers wait for the first one.
    pub(super) fn is_awaited(&self) -> bool {
        self.ready.is_none() && self.coming.is_some()
    }

    /// Lets a template go when its last child has ended.
    fn release(&mut self, serial: Option<u64>) {
        if let Some(template) = serial.and_then(|serial| self.running.get_mut(&serial)) {
            template.line = None;
        }
    }

    /// The same for all.
    pub(super) fn release_all(&mut self) {
        (self.wanted, self.ready, self.coming) = (false, None, None);
        for template in self.running.values_mut() {
            template.line = None;
        }
    }

    pub(super) fn kill_all(&mut self) {
        self.release_all();
        for template in self.running.values() {
            template.process.ender().kill();
        }
    }

    pub(super) fn status(&self, max_failures: u32) -> Option<TemplateStatus> {
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
}

impl Supervisor {
    /// The first start: of a template, or of the workers.
    pub(super) async fn begin(&mut self) {
        if self.settings.preload && !self.preloads() {
            tracing::warn!(
                "`preload` is for native workers: with `worker_type = \"http\"` each loads the app"
            );
        }
        if self.positions.is_empty() {
            // They come with the first request, and until then nothing can be wrong.
            self.ever_ready = true;
            self.notify.send(SourceEvent::Ready);
        } else if self.preloads() {
            self.start_template().await;
        } else {
            self.fill().await;
        }
    }

    /// Whether workers are to be forked, and there is nothing yet that they will be forked from.
    pub(super) fn lacks_template(&self) -> bool {
        self.preloads() && !self.preload.wanted && !self.preload.unable
    }

    /// Whether there is to be a template. An app that could not be preloaded may be after a reload.
    pub(super) fn preloads(&self) -> bool {
        self.settings.preload && self.settings.worker_type != Some(Kind::Http)
    }

    /// Starts a process for each worker that has none and waits for nothing else.
    pub(super) async fn fill(&mut self) {
        let filled = |(id, position): (&u32, &Position)| {
            let waits = position.place == Place::Filled && !self.has_process(*id);
            waits.then_some(*id)
        };
        let empty: Vec<u32> = self.positions.iter().filter_map(filled).collect();
        for id in empty {
            self.start_unasked(id, None).await;
        }
    }

    fn has_process(&self, id: u32) -> bool {
        self.members
            .values()
            .any(|member| member.id == id && matches!(member.state, State::Starting | State::Ready))
    }

    /// Whether this worker's first process waits for the first template.
    pub(super) fn awaits_template(&self, id: u32) -> bool {
        self.preload.is_awaited() && !self.has_process(id)
    }

    /// Starts a template for the code as it is now. One that is on its way may have read other code.
    pub(super) async fn start_template(&mut self) {
        let before = self.preload.coming.take();
        self.preload.release(before);
        self.preload.wanted = true;
        self.preload.unable = false;
        self.preload.position.place = Place::Filled;
        let serial = self.resources.next_generation();
        match self.launch_template(serial).await {
            Ok(template) => {
                self.preload.running.insert(serial, template);
                self.preload.coming = Some(serial);
            }
            Err(error) => {
                let why = why_not_started(&self.settings.dir, &error);
                let failure =
                    Failure::new("boot", format!("The template could not be started: {why}."));
                self.template_failed(failure).await;
            }
        }
    }

    async fn launch_template(&mut self, serial: u64) -> io::Result<Template> {
        let port = ReservedPort::take()?;
        let (conversation, line, word, stdin) = Conversation::new()?;
        let mut env = self.worker_env(0, &port);
        env.insert("FAUCET_TEMPLATE".into(), "1".into());
        let temporary = Arc::new(self.resources.temporary(serial)?);
        env.extend(temporary_env(&temporary));
        let launch = Launch {
            command: self.settings.command.clone(),
            dir: self.settings.dir.clone(),
            env,
            stdin: Some(stdin),
            orphaned: Signal::SIGINT,
        };
        let outlet = Outlet {
            name: self.ops.name_of("template"),
            log: self.ops.log.clone(),
            gate: Gate::default(),
        };
        let (process, exit) = Process::start(&self.resources.spawner, launch, &outlet).await?;
        let ender = process.ender();
        let conversation = tokio::spawn(async move {
            conversation.run().await;
            ender.stop(SHORT_GRACE).await;
        });
        let (mut loading, exited) = oneshot::channel::<()>();
        let (sender, timeout) = (self.sender.clone(), self.settings.boot_timeout);
        let address = [Address::Tcp(port.address)];
        let (pid, own_port) = (process.pid(), port.address.port());
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
            let _ = sender.send(Event::TemplateLoaded(serial, loaded));
        });
        let sender = self.sender.clone();
        tokio::spawn(async move {
            if let Ok(exit) = exit.await {
                drop(exited);
                let _ = sender.send(Event::TemplateExited(serial, exit));
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

    /// A template has loaded the app, or will not.
    pub(super) async fn template_loaded(&mut self, serial: u64, loaded: Result<(), LoadFailure>) {
        if self.preload.coming != Some(serial) {
            return;
        }
        let Some(template) = self.preload.running.get_mut(&serial) else {
            return;
        };
        match loaded {
            Ok(()) => {
                template.ready_since = Some(Instant::now());
                tracing::info!("the template is ready (pid {})", template.process.pid());
                self.preload.position.started();
                self.preload.coming = None;
                let old = self.preload.ready.replace(serial);
                self.preload.release(old);
                self.template_settled().await;
            }
            Err(LoadFailure::Unable(why)) if self.settings.worker_type == Some(Kind::Native) => {
                let message = format!("The app cannot be preloaded: {why}.");
                template.problem = Some(message);
                template.process.ender().kill();
            }
            Err(LoadFailure::Unable(why)) => {
                tracing::warn!("the app cannot be preloaded, each worker loads it: {why}");
                self.preload.release_all();
                self.preload.unable = true;
                self.template_settled().await;
            }
            Err(LoadFailure::Timeout) => {
                template.problem = Some(format!(
                    "The template did not load the app within {} s (`boot_timeout`).",
                    self.settings.boot_timeout.as_secs_f64()
                ));
                template.process.ender().kill();
            }
        }
    }

    /// It is clear how workers start from now on.
    async fn template_settled(&mut self) {
        self.fill().await;
        if let Some(rollout) = &mut self.rollout {
            if std::mem::take(&mut rollout.awaits_template) {
                // Those that came meanwhile may run the old code.
                rollout.left = self.positions.keys().copied().collect();
                self.roll_next().await;
            }
        }
    }

    pub(super) async fn template_exited(&mut self, serial: u64, exit: Exit) {
        if self.preload.ready == Some(serial) {
            self.lose_template(serial, &exit.describe());
        }
        let Some(template) = self.preload.running.remove(&serial) else {
            return;
        };
        if self.preload.coming != Some(serial) {
            return;
        }
        self.preload.coming = None;
        let message = match &template.problem {
            Some(problem) => problem.clone(),
            None => format!("The template {} before it was ready.", exit.describe()),
        };
        let failure = Failure {
            class: "boot",
            message,
            lines: template.process.tail.lines(),
        };
        self.template_failed(failure).await;
    }

    /// The template that forked is of no more use: another one, at once or later. Its workers go on.
    pub(super) fn lose_template(&mut self, serial: u64, why: &str) {
        if self.preload.ready != Some(serial) {
            return;
        }
        self.preload.ready = None;
        tracing::warn!("the template {why}; its workers go on");
        let Some(template) = self.preload.running.get(&serial) else {
            return;
        };
        template.process.ender().kill();
        if self.preload.coming.is_none() {
            let since = template.ready_since.unwrap_or_else(Instant::now);
            let due = self.preload.position.died(since);
            self.template_later(due);
        }
    }

    fn template_later(&mut self, due: Due) {
        let pause = due.at.saturating_duration_since(Instant::now());
        self.later(pause, Event::TemplateDue(due));
    }

    pub(super) async fn template_due(&mut self, due: Due) {
        if self.preload.wanted && self.preload.position.place == Place::Waiting(due) {
            self.start_template().await;
        }
    }

    /// A template did not become ready.
    async fn template_failed(&mut self, failure: Failure) {
        let why = failure.reason().to_owned();
        let reloads = self
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.awaits_template);
        if reloads {
            self.roll_failed(failure.clone());
        }
        if self.preload.ready.is_some() {
            // Whoever asked for the reload was told.
            return;
        }
        if !self.ever_ready && self.members.is_empty() {
            self.preload.wanted = false;
            for position in self.positions.values_mut() {
                position.place = Place::Undecided;
            }
            self.notify.send(SourceEvent::BootFailed(failure));
            return;
        }
        let max_failures = self.settings.max_failures;
        let was_failing = self.preload.position.is_failing(max_failures);
        let due = self.preload.position.start_failed();
        let pause = due.at.saturating_duration_since(Instant::now());
        if self.preload.position.is_failing(max_failures) && !was_failing {
            tracing::error!(
                "the template has failed to start {max_failures} times in a row, and is tried again from now on at \
                 pauses of up to a minute"
            );
        }
        tracing::error!(
            "{} Trying again in {:.1} s. {why}",
            failure.message,
            pause.as_secs_f64()
        );
        self.template_later(due);
        self.fill().await;
    }

    /// Tries a template again that was given up; workers come up without one, if they can.
    pub(super) async fn retry_template(&mut self) {
        self.preload.wanted = true;
        let due = self.preload.position.start_failed();
        self.template_later(due);
        self.fill().await;
    }
}
