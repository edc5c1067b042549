//! What all pools of processes on this machine share: the thread that spawns, and the folders for sockets and temporary
//! files.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::confinement::Identity;
use super::scratch::Temporary;
use super::shared::SharedTemplate;
use super::templates::Ready;
use super::{Budget, LocalSettings, Scratch, Sockets, Spawner};
use crate::body::Store;
use crate::descriptors::Descriptors;
use crate::environment::Environment;
use crate::ops::log::Log;
use crate::ops::status::TemplateStatus;

/// Threads that open large bodies.
const FILE_THREADS: usize = 2;

/// One for a server, whose pools share it as long as there are any.
pub struct Resources {
    pub spawner: Spawner,
    pub budget: Arc<Budget>,
    pub environment: Environment,
    /// Where temporary files go.
    parent: PathBuf,
    /// Made for the first process that may be native.
    sockets: Mutex<Option<Sockets>>,
    scratch: Mutex<Option<Scratch>>,
    /// Made for the first pool whose requests are served here.
    store: Mutex<Option<Store>>,
    generations: AtomicU64,
    /// What workers of all pools may be forked from.
    template: Mutex<Option<SharedTemplate>>,
}

impl Resources {
    /// What the system has for the processes of a server, which get `environment` as it is when they start, and of which
    /// there are at most `max_workers`, or as many as memory allows.
    ///
    /// # Errors
    /// There can be no thread, or no folder.
    pub fn prepare(environment: &Environment, max_workers: Option<u32>) -> io::Result<Self> {
        let parent = environment.temporary_directory();
        let elsewhere = Some(Sockets::parent(parent)).filter(|other| *other != parent);
        let others = elsewhere.into_iter().map(PathBuf::from).collect();
        Ok(Self {
            spawner: Spawner::start(environment.clone())?,
            budget: Budget::new(max_workers),
            environment: environment.clone(),
            parent: parent.to_owned(),
            sockets: Mutex::default(),
            store: Mutex::default(),
            scratch: Mutex::new(Some(Scratch::make(parent, others)?)),
            generations: AtomicU64::new(0),
            template: Mutex::default(),
        })
    }

    /// A number for a process that no other process of the server has had.
    pub fn next_generation(&self) -> u64 {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    /// Where the process of a generation listens, if it is native.
    ///
    /// # Errors
    /// There can be no folder.
    pub fn socket(&self, generation: u64, owner: Option<&Identity>) -> io::Result<PathBuf> {
        let mut sockets = lock(&self.sockets);
        if sockets.is_none() {
            *sockets = Some(Sockets::make(&self.parent)?);
        }
        match &mut *sockets {
            Some(sockets) => sockets.path(generation, owner),
            None => Err(gone()),
        }
    }

    /// A folder for the temporary files of the process of a generation.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn temporary(&self, generation: u64, owner: Option<&Identity>) -> io::Result<Temporary> {
        match &mut *lock(&self.scratch) {
            Some(scratch) => scratch.take(generation, owner),
            None => Err(gone()),
        }
    }

    /// Where bodies are that come to what serves in the server's own process. Their front sees to limits.
    ///
    /// # Errors
    /// There is no thread for files.
    pub fn store(&self) -> io::Result<Store> {
        let mut store = lock(&self.store);
        if let Some(store) = &*store {
            return Ok(store.clone());
        }
        let new = Store::new(u64::MAX, Descriptors::new(usize::MAX), FILE_THREADS)?;
        Ok(store.insert(new).clone())
    }

    /// Starts what workers are forked from whose pools have `shared_template`, and looks after it until the end. `settings` say how:
    /// what its process is told in `env` is what it loads. To be called once, in a runtime.
    pub fn share_template(self: &Arc<Self>, settings: LocalSettings, log: Arc<Log>) {
        *lock(&self.template) = Some(SharedTemplate::start(settings, self.clone(), log));
    }

    /// The shared template, if there is one that forks.
    pub(super) fn shared_template(&self) -> Option<Ready> {
        lock(&self.template).as_ref()?.ready()
    }

    /// The shared template does not answer.
    pub(super) fn lose_shared_template(&self, serial: u64) {
        if let Some(template) = &*lock(&self.template) {
            template.lose(serial);
        }
    }

    /// How the shared template is, if there is to be one.
    pub fn template_status(&self) -> Option<TemplateStatus> {
        lock(&self.template).as_ref()?.status()
    }

    /// Ends the shared template, and waits until all folders that were given up are removed, but not for ever.
    pub async fn end(&self) {
        let template = lock(&self.template).take();
        if let Some(template) = template {
            template.end().await;
        }
        let scratch = lock(&self.scratch).take();
        if let Some(scratch) = scratch {
            scratch.end().await;
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the server is going down")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
