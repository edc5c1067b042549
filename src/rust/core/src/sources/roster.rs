//! Who the workers are: kept by a source, read by everyone who asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::lock::Table;
use crate::ops::status::{Kind, State, Status, TemplateStatus, WorkerStatus};
use crate::sources::local::resident_memory;
use crate::worker::Worker;

/// One worker as its source sees it. `state` is never `Busy`: that is the lock table's to say.
#[derive(Clone)]
pub struct Entry {
    pub id: u32,
    pub generation: u64,
    pub pid: Option<u32>,
    pub state: State,
    pub restarts: u32,
    pub started: Option<SystemTime>,
    pub boot: Option<Duration>,
    pub worker: Option<Arc<Worker>>,
}

/// The workers of one server.
pub struct Roster {
    table: Arc<Table<Worker>>,
    entries: Mutex<Vec<Entry>>,
    template: Mutex<Option<TemplateStatus>>,
    draining: AtomicBool,
}

impl Roster {
    pub fn new(table: Arc<Table<Worker>>) -> Self {
        Self {
            table,
            entries: Mutex::default(),
            template: Mutex::default(),
            draining: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, now. Asks the system about each process.
    pub fn status_with_memory(&self) -> Status {
        let mut status = self.status();
        for worker in &mut status.workers {
            worker.memory = worker.pid.and_then(resident_memory);
        }
        status
    }

    /// Replaces what is known of all workers, and of the template they are forked from.
    pub fn set(&self, entries: Vec<Entry>, template: Option<TemplateStatus>) {
        *self.lock() = entries;
        *self.template() = template;
    }

    fn template(&self) -> MutexGuard<'_, Option<TemplateStatus>> {
        self.template.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server takes no new requests from now on.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Everything, now, but the workers' memory.
    pub fn status(&self) -> Status {
        let table = self.table.snapshot();
        let in_flight = |entry: &Entry| {
            let worker = entry.worker.as_ref()?;
            table
                .members
                .iter()
                .find(|member| Arc::ptr_eq(&member.worker, worker))
                .map(|member| member.in_flight)
        };
        let workers = self
            .lock()
            .iter()
            .map(|entry| {
                let in_flight = in_flight(entry).unwrap_or(0);
                WorkerStatus {
                    worker: entry.id,
                    pid: entry.pid,
                    state: match entry.state {
                        State::Ready if in_flight > 0 => State::Busy,
                        state => state,
                    },
                    kind: entry.worker.as_ref().map(|worker| match worker.native {
                        Some(_) => Kind::Native,
                        None => Kind::Http,
                    }),
                    in_flight,
                    requests: entry.worker.as_ref().map_or(0, |worker| worker.requests()),
                    restarts: entry.restarts,
                    memory: None,
                    started: entry.started,
                    boot: entry.boot,
                    tunnels: entry
                        .worker
                        .as_ref()
                        .map_or(0, |worker| worker.tunnels.count()),
                }
            })
            .collect();
        Status {
            workers,
            template: *self.template(),
            queue: table.waiting,
            draining: self.is_draining(),
        }
    }
}
