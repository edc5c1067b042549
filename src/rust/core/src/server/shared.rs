//! What a server's thread and its handle share: the phase, the results of what was asked, the end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::request::too_late;
use crate::ops::log::Log;
use crate::sources::Failure;

/// The state of a server.
#[derive(Clone, Debug)]
pub enum Phase {
    /// No worker is ready yet.
    Starting,
    Ready,
    Draining,
    Stopped,
    /// No worker became ready; the server is going down.
    Failed(Failure),
}

impl Phase {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }
}

/// What the handle and the server's thread have in common.
pub(super) struct Shared {
    phase: Mutex<Phase>,
    results: Mutex<HashMap<u64, Asked>>,
    /// Nothing of it is left: no worker, no socket.
    over: AtomicBool,
    /// The configuration file is not what it was.
    config_changed: AtomicBool,
    log: Arc<Log>,
}

/// What became of a request.
enum Asked {
    /// Whether it ends the server.
    UnderWay {
        ends: bool,
    },
    Done(Result<(), Failure>),
}

impl Shared {
    pub(super) fn new(log: Arc<Log>) -> Arc<Self> {
        Arc::new(Self {
            phase: Mutex::new(Phase::Starting),
            results: Mutex::default(),
            over: AtomicBool::new(false),
            config_changed: AtomicBool::new(false),
            log,
        })
    }

    pub(super) fn log(&self) -> &Arc<Log> {
        &self.log
    }

    pub(super) fn phase(&self) -> Phase {
        lock(&self.phase).clone()
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    pub(super) fn note_config_change(&self) {
        self.config_changed.store(true, Ordering::Release);
        self.log.ring();
    }

    pub(super) fn take_config_change(&self) -> bool {
        self.config_changed.swap(false, Ordering::Acquire)
    }

    /// A request is under way.
    pub(super) fn begin(&self, id: u64, ends: bool) {
        lock(&self.results).insert(id, Asked::UnderWay { ends });
    }

    /// The end of a request, once.
    pub(super) fn result(&self, id: u64) -> Option<Result<(), Failure>> {
        let mut results = lock(&self.results);
        match results.get(&id) {
            Some(Asked::UnderWay { .. }) => None,
            Some(Asked::Done(_)) => match results.remove(&id) {
                Some(Asked::Done(result)) => Some(result),
                _ => None,
            },
            None => Some(Ok(())),
        }
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        let mut now = lock(&self.phase);
        let overtaken = match (&*now, &phase) {
            (Phase::Failed(_), _) => true,
            // Workers may become ready while the server is going down.
            (Phase::Starting, Phase::Ready) => false,
            (_, Phase::Ready) => true,
            _ => false,
        };
        if !overtaken {
            *now = phase;
        }
        drop(now);
        self.log.ring();
    }

    pub(super) fn settle(&self, id: u64, result: Result<(), Failure>) {
        lock(&self.results).insert(id, Asked::Done(result));
        self.log.ring();
    }

    /// Answers everyone who still waits.
    fn end(&self, phase: Phase) {
        // First: who sees the phase must not see it run.
        self.over.store(true, Ordering::Release);
        self.set_phase(phase);
        for asked in lock(&self.results).values_mut() {
            if let Asked::UnderWay { ends } = *asked {
                *asked = Asked::Done(too_late(ends));
            }
        }
        self.log.ring();
    }
}

/// Sees to it that whoever waits for a server hears of its end, even if its thread panics.
pub(super) struct Ending(pub(super) Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let phase = if std::thread::panicking() {
            Phase::Failed(Failure {
                class: "internal",
                message: "The server's thread failed.".into(),
                lines: Vec::new(),
            })
        } else {
            Phase::Stopped
        };
        self.0.end(phase);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
