//! The task of a server: what happens on its thread, from the first worker to the last.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::Instrument;

use super::agent::Agent;
use super::hub::Doors;
use super::notify::Notify;
use super::proxy::{Door, Proxy};
use super::redirects::FetchPort;
use super::request::{PreparedPool, Request};
use super::running::{AllRunning, Progress, Running};
use super::shared::{Phase, Shared};
use super::system;
use super::watching::Watched;
use crate::front::{self, Bound, Front, Redirects};
use crate::offers::PreparedOffers;
use crate::ops::{self, Hosts};
use crate::pool::Pool;
use crate::sources::local::Resources;
use crate::sources::{Command, Failure, Notifier, SourceContext, SourceEvent};
use crate::tls::ServerTls;

/// How long a stopped server may take to reap its workers after they were killed.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// What a server listens on, before there is a runtime.
pub(super) struct Sockets {
    pub(super) clients: Vec<Bound>,
    pub(super) admin: Option<(Bound, Hosts)>,
    /// Where workers dial in, if they do.
    pub(super) doors: Option<Doors>,
    /// Where bodies are fetched that do not go through a hub, if any are.
    pub(super) fetches: Option<FetchPort>,
}

/// Who keeps functions, if somebody does.
pub(super) struct Keepers {
    pub(super) agent: Option<Arc<Agent>>,
    /// With the door where agents dial in, if they may.
    pub(super) proxy: Option<(Arc<Proxy>, Option<Door>)>,
}

/// What runs on the server's thread.
pub(super) struct ServerTask {
    pub(super) shared: Arc<Shared>,
    pub(super) front: Arc<Front>,
    pub(super) running: AllRunning,
    events: mpsc::UnboundedSender<(u64, SourceEvent)>,
    next_number: AtomicU64,
    /// Workers of all pools together; `None` is what memory allows.
    pub(super) max_workers: Option<u32>,
    /// What pools of processes share, once there is one.
    resources: Mutex<Option<Arc<Resources>>>,
    /// The configuration file, if it is watched.
    pub(super) config: Option<PathBuf>,
    /// Whether it is ready without pools: they come later.
    is_ready_alone: bool,
    /// What they, or those who come for a body, shake hands with, if they speak TLS.
    pub(super) other_tls: OnceLock<Arc<ServerTls>>,
    /// What waits to be fetched.
    pub(super) redirects: OnceLock<Arc<Redirects>>,
    pub(super) notify: Arc<Notify>,
    /// One at a time: what is added, removed or replaced is not added, removed or replaced by two.
    pub(super) changing: tokio::sync::Mutex<()>,
}

impl ServerTask {
    /// The task, and what its pools' sources will say.
    pub(super) fn new(
        shared: Arc<Shared>,
        front: Arc<Front>,
        max_workers: Option<u32>,
        config: Option<PathBuf>,
        is_ready_alone: bool,
        notify: Arc<Notify>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<(u64, SourceEvent)>) {
        let (events, heard) = mpsc::unbounded_channel();
        let task = Self {
            shared,
            front,
            running: AllRunning::default(),
            events,
            next_number: AtomicU64::new(0),
            max_workers,
            resources: Mutex::default(),
            config,
            is_ready_alone,
            other_tls: OnceLock::new(),
            redirects: OnceLock::new(),
            notify,
            changing: tokio::sync::Mutex::default(),
        };
        (Arc::new(task), heard)
    }

    /// Serves until every worker is gone.
    pub(super) async fn run(
        self: Arc<Self>,
        pools: Vec<(Arc<Pool>, PreparedPool)>,
        mut events: mpsc::UnboundedReceiver<(u64, SourceEvent)>,
        mut asked: mpsc::UnboundedReceiver<(u64, Request)>,
        sockets: Sockets,
        offers: Option<PreparedOffers>,
        keepers: Keepers,
    ) {
        let Sockets {
            clients: listeners,
            admin,
            doors,
            fetches,
        } = sockets;
        let (listeners, admin) = match (
            listeners
                .into_iter()
                .map(Bound::into_listener)
                .collect::<io::Result<Vec<_>>>(),
            admin
                .map(|(listener, hosts)| Ok((listener.into_listener()?, hosts)))
                .transpose(),
        ) {
            (Ok(listeners), Ok(admin)) => (listeners, admin),
            (Err(error), _) | (_, Err(error)) => {
                self.shared.set_phase(Phase::Failed(system(error)));
                return;
            }
        };
        if let Some(tls) = &self.front.tls {
            tls.warn_if_out_of_time();
        }
        self.front.lifecycle.starting.store(true, Ordering::Relaxed);
        let _config = self.watch_config();
        let first = pools.first().map(|(pool, _)| pool.clone());
        for (pool, prepared) in pools {
            self.start(pool, prepared);
        }
        for listener in listeners {
            tokio::spawn(front::accept(self.front.clone(), listener));
        }
        tokio::spawn(self.notify.clone().run(self.front.clone()));
        if let Some(doors) = doors {
            if let Err(failure) = self.serve_hub(doors) {
                self.shared.set_phase(Phase::Failed(failure));
                return;
            }
            // Workers come or do not: nothing has to be waited for.
            self.settle_start();
        }
        if let Err(failure) = self.serve_functions(keepers) {
            self.shared.set_phase(Phase::Failed(failure));
            return;
        }
        if let Some(port) = fetches {
            if let Err(failure) = self.serve_fetchers(port) {
                self.shared.set_phase(Phase::Failed(failure));
                return;
            }
        }
        if let Some((offers, pool)) = offers.zip(first) {
            tokio::spawn(offers.start(self.front.clone(), pool).run());
        }
        if let Some((admin, hosts)) = admin {
            tokio::spawn(ops::serve_admin(admin, hosts, self.front.clone()));
        }
        let (stopped, mut all_stopped) = watch::channel(false);
        let stopped = Arc::new(stopped);
        loop {
            tokio::select! {
                Some((number, event)) = events.recv() => {
                    if !self.handle(number, event) {
                        break;
                    }
                }
                _ = all_stopped.wait_for(|stopped| *stopped) => break,
                asked = asked.recv() => {
                    // The handle was dropped: so is the server.
                    let (id, request) = asked.unwrap_or((u64::MAX, Request::Kill));
                    if request.ends() {
                        self.set_draining();
                    }
                    if matches!(request, Request::Stop(_) | Request::Kill) {
                        self.notify.stopping();
                    }
                    if matches!(request, Request::Kill) {
                        self.kill(&mut events).await;
                        return;
                    }
                    let (task, stopped) = (self.clone(), stopped.clone());
                    tokio::spawn(async move {
                        // A stop is done when the server is gone, and with it the port.
                        let stops = matches!(request, Request::Stop(_));
                        let result = task.execute(request).await;
                        if stops {
                            let _ = stopped.send(true);
                        } else {
                            task.shared.settle(id, result);
                        }
                    });
                }
            }
        }
        self.release_resources().await;
    }

    /// Functions come or do not: nothing has to be waited for.
    fn serve_functions(self: &Arc<Self>, keepers: Keepers) -> Result<(), Failure> {
        if let Some(agent) = keepers.agent {
            self.settle_start();
            agent.start(self)?;
        }
        if let Some((proxy, door)) = keepers.proxy {
            self.settle_start();
            proxy.start(self)?;
            if let Some(door) = door {
                proxy.let_in(door, self)?;
            }
        }
        Ok(())
    }

    fn shared_resources(&self) -> MutexGuard<'_, Option<Arc<Resources>>> {
        self.resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that what pools share is gone before the server is.
    pub(super) fn share(&self, resources: Arc<Resources>) {
        *self.shared_resources() = Some(resources);
    }

    /// Waits until what the pools have shared is gone, but not for ever.
    async fn release_resources(&self) {
        let resources = self.shared_resources().take();
        if let Some(resources) = resources {
            resources.end().await;
        }
        if let Some(management) = self.front.management.get() {
            management.end();
        }
    }

    /// What is in flight that no client waits for is not waited for any more.
    pub(super) fn cut(&self) {
        if let Some(management) = self.front.management.get() {
            management.cut();
        }
    }

    /// Ends everything now. Bounded, also against a process that cannot be killed.
    async fn kill(&self, events: &mut mpsc::UnboundedReceiver<(u64, SourceEvent)>) {
        self.cut();
        for source in self.running.sources() {
            source.send(Command::Kill);
        }
        let killed = async {
            while !self.running.lock().is_empty() {
                let Some((number, event)) = events.recv().await else {
                    return;
                };
                self.handle(number, event);
            }
            self.release_resources().await;
        };
        let _ = tokio::time::timeout(KILL_GRACE, killed).await;
    }

    /// Starts the source of a pool that the front knows.
    pub(super) fn start(&self, pool: Arc<Pool>, prepared: PreparedPool) {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let context = SourceContext {
            table: pool.table.clone(),
            roster: pool.roster.clone(),
            ops: pool.ops.clone(),
            sessions: pool.sessions.clone(),
            notify: Notifier::new(number, self.events.clone()),
        };
        if let Some(resources) = prepared.source.resources() {
            self.share(resources.clone());
        }
        let span = ops::pool_span(pool.name());
        let (work, source) = prepared.source.start(context);
        let source = Arc::new(source);
        let progress = watch::channel(Progress::Starting);
        let reloading = Arc::default();
        let watched = Watched {
            source: source.clone(),
            progress: progress.1,
            reloading: Arc::clone(&reloading),
        };
        // Before the first worker reads them.
        let watching = self.watch(&prepared.settings.source, watched, &span);
        let work = tokio::spawn(work.instrument(span));
        let running = Running {
            expiry: tokio::spawn(front::expire(pool.clone())).abort_handle(),
            pool,
            settings: prepared.settings,
            source,
            progress: progress.0,
            reloading,
            _watching: watching,
        };
        self.running.lock().insert(number, running);
        let notify = Notifier::new(number, self.events.clone());
        tokio::spawn(async move {
            let ended = work.await;
            notify.send(SourceEvent::Ended(
                ended.err().map(|panic| panic.to_string()),
            ));
        });
        self.reserve_descriptors();
    }

    /// The same, when nobody waits for its first worker: if none comes up, it is tried again.
    pub(super) fn start_unawaited(&self, pool: Arc<Pool>, prepared: PreparedPool) {
        self.start(pool.clone(), prepared);
        let (progress, source) = (self.running.progress(&pool), self.running.source(&pool));
        let Some((mut progress, source)) = progress.zip(source) else {
            return;
        };
        let span = ops::pool_span(pool.name());
        let work = async move {
            let settled = progress.wait_for(|progress| !matches!(progress, Progress::Starting));
            let failure = match settled.await.as_deref() {
                Ok(Progress::Failed(failure)) => failure.message.clone(),
                _ => return,
            };
            tracing::error!("does not start, and is tried again: {failure}");
            source.send(Command::KeepTrying);
        };
        tokio::spawn(work.instrument(span));
    }

    /// Of what a pool's source says. Whether the server goes on.
    fn handle(&self, number: u64, event: SourceEvent) -> bool {
        let progress = match event {
            SourceEvent::Ready => Progress::Ready,
            SourceEvent::BootFailed(failure) => Progress::Failed(failure),
            SourceEvent::Ended(None) => Progress::Ended,
            SourceEvent::Ended(Some(panic)) => {
                self.shared.set_phase(Phase::Failed(Failure {
                    class: "internal",
                    message: format!("The source of workers failed: {panic}"),
                    lines: Vec::new(),
                }));
                return false;
            }
        };
        let ended = matches!(progress, Progress::Ended);
        let running = {
            let mut all = self.running.lock();
            if let Some(running) = all.get(&number) {
                running.progress.send_replace(progress);
            }
            if ended {
                all.remove(&number)
            } else {
                None
            }
        };
        if let Some(running) = running {
            self.front.pools.remove(&running.pool);
            self.reserve_descriptors();
        }
        self.settle_start();
        // Whoever failed to start ends here; whoever was asked to stop is told by the request's task.
        !(matches!(self.shared.phase(), Phase::Failed(_)) && self.running.lock().is_empty())
    }

    /// Once it is clear of every pool whether it starts: the server is ready if one does.
    fn settle_start(&self) {
        if !self.front.lifecycle.starting.load(Ordering::Relaxed) {
            return;
        }
        let mut failures = Vec::new();
        let mut ready = self.is_ready_alone;
        for running in self.running.lock().values() {
            match &*running.progress.borrow() {
                Progress::Starting => return,
                Progress::Ready => ready = true,
                Progress::Failed(failure) => {
                    failures.push((
                        running.pool.clone(),
                        running.source.clone(),
                        failure.clone(),
                    ));
                }
                Progress::Ended => {}
            }
        }
        self.front
            .lifecycle
            .starting
            .store(false, Ordering::Relaxed);
        self.front.pools.changed();
        if ready {
            for (pool, source, failure) in failures {
                let _entered = ops::pool_span(pool.name()).entered();
                tracing::error!(
                    "does not start, and is tried again; other pools serve: {}",
                    failure.message
                );
                source.send(Command::KeepTrying);
            }
            self.shared.set_phase(Phase::Ready);
            self.notify.ready();
        } else if let Some((pool, _, failure)) = failures.first().cloned() {
            self.shared.set_phase(Phase::Failed(named(&pool, failure)));
            for source in self.running.sources() {
                source.send(Command::Kill);
            }
        }
    }

    /// Keeps as many descriptors as all workers need.
    pub(super) fn reserve_descriptors(&self) {
        let workers: u32 = self.running.lock().values().fold(0, |sum, running| {
            sum.saturating_add(running.settings.source.workers().max)
        });
        let workers = workers.min(self.max_workers.unwrap_or(u32::MAX));
        let descriptors = self.front.store.descriptors();
        descriptors.reserve_for(workers as usize);
        // Clients may have what the new workers need.
        let lacking = descriptors.overdrawn();
        if lacking > 0 {
            self.front.connections.evict(lacking);
        }
    }
}

/// A failure of a pool, with the pool's name where that is shown.
pub(super) fn named(pool: &Pool, mut failure: Failure) -> Failure {
    if let Some(name) = ops::shown(pool.name()) {
        failure.message = format!("Pool \"{name}\": {}", failure.message);
    }
    failure
}
