//! The template that workers of all pools may be forked from: it has loaded packages, and no app.
//!
//! A task of its own looks after it until the server ends: it is started anew when it dies, ever later if it dies at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::output::{Gate, Outlet};
use super::position::Due;
use super::templates::{Loaded, News, Ready, Templates};
use super::{LocalSettings, Resources};
use crate::ops::log::Log;
use crate::ops::status::TemplateStatus;

/// How long the end of a server waits for its template's.
const END: Duration = Duration::from_secs(5);

/// How its lines begin.
const NAME: &str = "template";

enum Event {
    News(News),
    /// It does not answer.
    Lost(u64),
    /// Nobody needs it any more; answers when it is gone.
    End(oneshot::Sender<()>),
}

/// What is known of it.
#[derive(Default)]
struct Known {
    ready: Option<Ready>,
    status: Option<TemplateStatus>,
}

/// The template, as those see it who share it.
pub struct SharedTemplate {
    known: Arc<Mutex<Known>>,
    events: mpsc::UnboundedSender<Event>,
}

impl SharedTemplate {
    /// Starts it. To be called in a runtime.
    pub fn start(settings: LocalSettings, resources: Arc<Resources>, log: Arc<Log>) -> Self {
        let known = Arc::new(Mutex::default());
        let (sender, events) = mpsc::unbounded_channel();
        let keeper = Keeper {
            settings,
            resources,
            outlet: Outlet {
                name: NAME.to_owned(),
                log,
                gate: Gate::default(),
            },
            templates: Templates::default(),
            known: known.clone(),
            sender: sender.clone(),
        };
        tokio::spawn(keeper.run(events));
        Self {
            known,
            events: sender,
        }
    }

    /// The one that forks, if there is one now.
    pub fn ready(&self) -> Option<Ready> {
        lock(&self.known).ready.clone()
    }

    pub fn status(&self) -> Option<TemplateStatus> {
        lock(&self.known).status
    }

    /// One does not answer: another takes its place.
    pub fn lose(&self, serial: u64) {
        // Fails only when the server is gone.
        let _ = self.events.send(Event::Lost(serial));
    }

    /// Ends it when its last child has ended, or after a while.
    pub async fn end(self) {
        let (sender, ended) = oneshot::channel();
        let _ = self.events.send(Event::End(sender));
        let _ = tokio::time::timeout(END, ended).await;
    }
}

/// Who looks after it.
struct Keeper {
    settings: LocalSettings,
    resources: Arc<Resources>,
    outlet: Outlet,
    templates: Templates,
    known: Arc<Mutex<Known>>,
    sender: mpsc::UnboundedSender<Event>,
}

impl Keeper {
    async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) {
        self.start().await;
        let mut ending = None;
        loop {
            self.publish();
            if ending.is_some() && self.templates.are_gone() {
                break;
            }
            match events.recv().await {
                Some(Event::News(news)) => self.heard(news).await,
                Some(Event::Lost(serial)) => {
                    let due = self
                        .templates
                        .lose(serial, "does not answer and is replaced");
                    self.later(due);
                }
                Some(Event::End(reply)) => {
                    self.templates.release_all();
                    ending = Some(reply);
                }
                None => return,
            }
        }
        if let Some(reply) = ending {
            // Whoever waited may have given up.
            let _ = reply.send(());
        }
    }

    async fn heard(&mut self, news: News) {
        match news {
            News::Loaded(serial, loaded) => {
                if let Loaded::Unable = self.templates.loaded(serial, loaded, &self.settings) {
                    tracing::warn!("workers start as ordinary processes");
                }
            }
            News::Exited(serial, exit) => {
                let (due, failure) = self.templates.exited(serial, &exit);
                self.later(due);
                if let Some(failure) = failure {
                    let due = self.templates.failed(&failure, self.settings.max_failures);
                    self.later(Some(due));
                }
            }
            News::Due(due) if self.templates.is_due(due) => self.start().await,
            News::Due(_) => {}
        }
    }

    async fn start(&mut self) {
        let sender = self.sender.clone();
        let tell = move |news| {
            // Fails only when nobody looks after it any more.
            let _ = sender.send(Event::News(news));
        };
        let started = self
            .templates
            .start(&self.settings, &self.resources, &self.outlet, tell)
            .await;
        if let Err(failure) = started {
            let due = self.templates.failed(&failure, self.settings.max_failures);
            self.later(Some(due));
        }
    }

    fn later(&self, due: Option<Due>) {
        let Some(due) = due else {
            return;
        };
        let pause = due.at.saturating_duration_since(Instant::now());
        let sender = self.sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            let _ = sender.send(Event::News(News::Due(due)));
        });
    }

    fn publish(&self) {
        let mut known = lock(&self.known);
        known.ready = self.templates.ready();
        known.status = self.templates.status(self.settings.max_failures);
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
