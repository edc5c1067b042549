//! Who the workers are: kept by a source, read by everyone who asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;

use crate::functions::Signature;
use crate::lock::{MemberView, Table};
use crate::ops::routes::AppRoutes;
use crate::ops::status::{LookupStatus, PoolStatus, State, TemplateStatus, WorkerStatus};
use crate::sources::local::{resident_memory, WorkerRange};
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
    /// When its next start is due, if it waits for one.
    pub next_try: Option<SystemTime>,
    pub worker: Option<Arc<Worker>>,
}

/// How many workers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that take requests.
    pub serving: usize,
    pub total: usize,
}

fn key(entry: &Entry) -> (u32, u64) {
    (entry.id, entry.generation)
}

/// The workers of one pool.
pub struct Roster {
    /// Whether the slots are for sessions.
    sticky: bool,
    table: Arc<Table<Worker>>,
    entries: Mutex<Vec<Entry>>,
    template: Mutex<Option<TemplateStatus>>,
    lookup: Mutex<Option<LookupStatus>>,
    docs: OnceLock<String>,
    signature: Mutex<Option<Arc<Signature>>>,
    routes: Mutex<Option<AppRoutes>>,
    draining: AtomicBool,
    /// How many workers there may be, and whether there are none because none are needed.
    size: Mutex<(Option<WorkerRange>, bool)>,
    /// Since when no worker has taken requests; none while one does.
    unserved: Mutex<Option<Instant>>,
    /// How long that may last before the pool counts as lost.
    give_up_after: OnceLock<Duration>,
    /// Rings when something here has changed, for those who watch the server.
    changes: OnceLock<watch::Sender<()>>,
}

impl Roster {
    pub fn new(table: Arc<Table<Worker>>) -> Self {
        Self::with(table, false)
    }

    /// Of a pool whose workers' slots are for sessions.
    pub fn sticky(table: Arc<Table<Worker>>) -> Self {
        Self::with(table, true)
    }

    fn with(table: Arc<Table<Worker>>, sticky: bool) -> Self {
        Self {
            sticky,
            table,
            entries: Mutex::default(),
            template: Mutex::default(),
            lookup: Mutex::default(),
            docs: OnceLock::new(),
            signature: Mutex::default(),
            routes: Mutex::default(),
            draining: AtomicBool::new(false),
            size: Mutex::default(),
            unserved: Mutex::new(Some(Instant::now())),
            give_up_after: OnceLock::new(),
            changes: OnceLock::new(),
        }
    }

    /// Has this ring whenever something here changes. To be said once.
    pub fn ring(&self, changes: watch::Sender<()>) {
        let _ = self.changes.set(changes);
    }

    fn changed(&self) {
        if let Some(changes) = self.changes.get() {
            changes.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, now. Asks the system about each process.
    pub fn status_with_memory(&self) -> PoolStatus {
        let mut status = self.status();
        for worker in &mut status.workers {
            worker.memory = worker.pid.and_then(resident_memory);
        }
        status
    }

    /// Replaces what is known of all workers, in the order of their numbers and generations, and of the template that
    /// they are forked from.
    pub fn set(&self, entries: Vec<Entry>, template: Option<TemplateStatus>) {
        let mut now = self.lock();
        *now = entries;
        self.look(&now);
        drop(now);
        *self.template() = template;
        self.changed();
    }

    /// Replaces what is known of one worker, or adds it.
    pub fn put(&self, entry: Entry) {
        let mut entries = self.lock();
        let place = entries.binary_search_by_key(&key(&entry), key);
        match place {
            Ok(at) => entries[at] = entry,
            Err(at) => entries.insert(at, entry),
        }
        self.look(&entries);
        drop(entries);
        self.changed();
    }

    /// Forgets one worker.
    pub fn forget(&self, id: u32, generation: u64) {
        let mut entries = self.lock();
        if let Ok(at) = entries.binary_search_by_key(&(id, generation), key) {
            entries.remove(at);
        }
        self.look(&entries);
        drop(entries);
        self.changed();
    }

    /// Sees whether anything serves.
    fn look(&self, entries: &[Entry]) {
        let serves = entries.iter().any(|entry| entry.state == State::Ready) || self.is_sleeping();
        let mut unserved = self.since_unserved();
        match (serves, *unserved) {
            (true, Some(_)) => *unserved = None,
            (false, None) => *unserved = Some(Instant::now()),
            _ => {}
        }
    }

    fn since_unserved(&self) -> MutexGuard<'_, Option<Instant>> {
        self.unserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long nothing may serve before the pool counts as lost: `None` for any time. To be said once.
    pub fn set_give_up_after(&self, limit: Option<Duration>) {
        if let Some(limit) = limit {
            let _ = self.give_up_after.set(limit);
        }
    }

    /// What is known of the name that workers are found by.
    pub fn set_lookup(&self, lookup: LookupStatus) {
        *self.lookup() = Some(lookup);
    }

    /// What is known of that name; `None` if there is none.
    pub fn lookup_status(&self) -> Option<LookupStatus> {
        self.lookup().clone()
    }

    fn lookup(&self) -> MutexGuard<'_, Option<LookupStatus>> {
        self.lookup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many workers the source may have, and whether there are none because none are needed.
    pub fn set_size(&self, workers: WorkerRange, sleeping: bool) {
        *self.size() = (Some(workers), sleeping);
        self.changed();
    }

    fn size(&self) -> MutexGuard<'_, (Option<WorkerRange>, bool)> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are no workers because none are needed: the next request starts one.
    pub fn is_sleeping(&self) -> bool {
        self.size().1
    }

    /// How many requests may be served at a time: those that workers take which are not there yet count.
    pub fn capacity(&self) -> u32 {
        let now = self.table.capacity();
        match self.size().0 {
            Some(workers) if workers.is_elastic() => now.max(workers.max),
            _ => now,
        }
    }

    /// Whether any worker is such.
    pub fn any(&self, is_such: impl Fn(&Worker) -> bool) -> bool {
        let entries = self.lock();
        let workers = entries.iter().filter_map(|entry| entry.worker.as_deref());
        workers.into_iter().any(is_such)
    }

    /// How many workers there are, for those who ask often.
    pub fn counts(&self) -> Counts {
        let entries = self.lock();
        Counts {
            serving: entries
                .iter()
                .filter(|entry| entry.state == State::Ready)
                .count(),
            total: entries.len(),
        }
    }

    fn template(&self) -> MutexGuard<'_, Option<TemplateStatus>> {
        self.template.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool takes no new requests from now on.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.changed();
    }

    /// Where the app has its documentation.
    pub fn set_docs(&self, path: String) {
        // The first worker's word counts.
        let _ = self.docs.set(path);
    }

    /// What the function takes that is served here: the last worker's word counts, and after its end, too.
    pub fn set_signature(&self, signature: Signature) {
        *self.known_signature() = Some(Arc::new(signature));
    }

    /// What the function takes; `None` if that is not known, or if this is no function.
    pub fn signature(&self) -> Option<Arc<Signature>> {
        self.known_signature().clone()
    }

    fn known_signature(&self) -> MutexGuard<'_, Option<Arc<Signature>>> {
        self.signature
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The routes of the app that is served here, if they are known: the last worker's word counts, as its code is the newest.
    pub fn set_routes(&self, routes: Option<AppRoutes>) {
        *self.known_routes() = routes;
    }

    fn known_routes(&self) -> MutexGuard<'_, Option<AppRoutes>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Everything, now, but the workers' memory.
    pub fn status(&self) -> PoolStatus {
        let table = self.table.snapshot();
        let members: HashMap<*const Worker, &MemberView<Worker>> = table
            .members
            .iter()
            .map(|member| (Arc::as_ptr(&member.worker), member))
            .collect();
        let workers = self
            .lock()
            .iter()
            .map(|entry| {
                let worker = entry.worker.as_ref();
                let member = worker.and_then(|worker| members.get(&Arc::as_ptr(worker)));
                let slots_taken = member.map_or(0, |member| member.in_flight);
                let in_flight = if self.sticky {
                    member.map_or(0, |member| member.named)
                } else {
                    slots_taken
                };
                WorkerStatus {
                    worker: entry.id,
                    pid: entry.pid,
                    name: worker.and_then(|worker| Some(worker.dialled.as_ref()?.name.clone())),
                    state: match entry.state {
                        State::Ready if in_flight > 0 => State::Busy,
                        state => state,
                    },
                    address: worker.map(|worker| worker.address.to_string()),
                    kind: worker.and_then(|worker| worker.kind()),
                    slots: member.map_or(0, |member| member.slots),
                    in_flight,
                    sessions: self.sticky.then_some(slots_taken),
                    requests: worker.map_or(0, |worker| worker.requests()),
                    restarts: entry.restarts,
                    memory: None,
                    started: entry.started,
                    boot: entry.boot,
                    next_try: entry.next_try,
                    tunnels: worker.map_or(0, |worker| worker.tunnels.count()),
                }
            })
            .collect();
        let (size, sleeping) = *self.size();
        let unserved = self.since_unserved().map(|since| since.elapsed());
        let limit = self.give_up_after.get();
        PoolStatus {
            pool: Arc::default(),
            workers,
            unserved,
            given_up: unserved
                .zip(limit)
                .is_some_and(|(unserved, limit)| unserved >= *limit),
            template: *self.template(),
            lookup: self.lookup().clone(),
            size: size.filter(|size| size.is_elastic()),
            sleeping,
            queue: table.waiting,
            sticky: self.sticky,
            draining: self.is_draining(),
            docs: self.docs.get().cloned(),
            routes: self.known_routes().clone(),
        }
    }
}
