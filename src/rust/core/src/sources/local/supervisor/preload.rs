//! The template that workers are forked from: loaded first, replaced by a reload, started anew when it dies.
//!
//! It only makes starts fast. Whenever there is none, workers start as ordinary processes, and what becomes
//! of a template is nothing to the workers that were forked from it.

use std::time::Instant;

use super::{Event, SourceEvent, Supervisor};
use crate::ops::status::{Kind, State};
use crate::sources::local::output::{Gate, Outlet};
use crate::sources::local::position::{Due, Place, Position};
use crate::sources::local::process::Exit;
use crate::sources::local::templates::{LoadFailure, Loaded, News};
use crate::sources::Failure;

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

    /// Starts a template for the code as it is now.
    pub(super) async fn start_template(&mut self) {
        let sender = self.sender.clone();
        let outlet = Outlet {
            name: self.ops.name_of("template"),
            log: self.ops.log.clone(),
            gate: Gate::default(),
        };
        let tell = move |news| {
            // Fails only when the supervisor is gone.
            let _ = sender.send(Event::Template(news));
        };
        let started = self
            .preload
            .start(&self.settings, &self.resources, &outlet, tell)
            .await;
        if let Err(failure) = started {
            self.template_failed(failure).await;
        }
    }

    pub(super) async fn template_news(&mut self, news: News) {
        match news {
            News::Loaded(serial, loaded) => self.template_loaded(serial, loaded).await,
            News::Exited(serial, exit) => self.template_exited(serial, exit).await,
            News::Due(due) if self.preload.is_due(due) => self.start_template().await,
            News::Due(_) => {}
        }
    }

    /// A template has loaded the app, or will not.
    async fn template_loaded(&mut self, serial: u64, loaded: Result<(), LoadFailure>) {
        match self.preload.loaded(serial, loaded, &self.settings) {
            Loaded::Ready | Loaded::Unable => self.template_settled().await,
            Loaded::Nothing => {}
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

    async fn template_exited(&mut self, serial: u64, exit: Exit) {
        let (due, failure) = self.preload.exited(serial, &exit);
        if let Some(due) = due {
            self.template_later(due);
        }
        if let Some(failure) = failure {
            self.template_failed(failure).await;
        }
    }

    /// The template that forked is of no more use.
    pub(super) fn lose_template(&mut self, serial: u64, why: &str) {
        if let Some(due) = self.preload.lose(serial, why) {
            self.template_later(due);
        }
    }

    fn template_later(&mut self, due: Due) {
        let pause = due.at.saturating_duration_since(Instant::now());
        self.later(pause, Event::Template(News::Due(due)));
    }

    /// A template did not become ready.
    async fn template_failed(&mut self, failure: Failure) {
        let reloads = self
            .rollout
            .as_ref()
            .is_some_and(|rollout| rollout.awaits_template);
        if reloads {
            self.roll_failed(failure.clone());
        }
        if self.preload.ready().is_some() {
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
        let due = self.preload.failed(&failure, self.settings.max_failures);
        self.template_later(due);
        self.fill().await;
    }

    /// Tries a template again that was given up; workers come up without one, if they can.
    pub(super) async fn retry_template(&mut self) {
        let due = self.preload.retry();
        self.template_later(due);
        self.fill().await;
    }
}
