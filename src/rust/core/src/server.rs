//! One running server: its thread, its runtime, and the handle that others hold.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{pthread_sigmask, SigSet, SigmaskHow};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::front::{self, Connections, Front, Limits, Order, TrustedProxies};
use crate::lock::{Refused, Table};
use crate::ops::access::{AccessLog, Format};
use crate::ops::log::{Line, Log};
use crate::ops::metrics::Metrics;
use crate::ops::status::Status;
use crate::ops::{self, Ops};
use crate::sources::local::{
    Command, Failure, LocalSettings, Pool, PoolEvent, PoolSender, Spawner,
};
use crate::sources::Roster;

/// How long a stopped server may take to reap its workers after they were killed.
const KILL_GRACE: Duration = Duration::from_secs(2);

/// Everything that a server with local workers is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub host: String,
    /// 0 for any free port.
    pub port: u16,
    /// On loopback; 0 for any free port.
    pub admin_port: Option<u16>,
    /// Requests that may wait.
    pub queue: usize,
    pub limits: Limits,
    pub trusted: TrustedProxies,
    pub access_log: Option<Format>,
    /// Where the access log goes instead of to [`Server::take_lines`].
    pub log_file: Option<PathBuf>,
    pub local: LocalSettings,
}

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

/// What can be asked of a running server.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    Scale(u32),
    Reload,
    /// Take nothing new and finish what is there, for at most this long.
    Drain(Option<Duration>),
    /// Drain, then stop the workers.
    Stop(Option<Duration>),
    /// Stop now; what is in flight is lost.
    Kill,
}

impl Request {
    /// Whether nothing new is served after it.
    fn ends(self) -> bool {
        matches!(self, Self::Drain(_) | Self::Stop(_) | Self::Kill)
    }

    /// Its result when the server is gone.
    fn too_late(self) -> Result<(), Failure> {
        if self.ends() {
            // Already so.
            return Ok(());
        }
        Err(Failure {
            class: "stopped",
            message: "The server is not running.".into(),
            lines: Vec::new(),
        })
    }
}

struct Shared {
    phase: Mutex<Phase>,
    results: Mutex<HashMap<u64, Asked>>,
    /// Nothing of it is left: no worker, no socket.
    over: AtomicBool,
    log: Arc<Log>,
}

/// What became of a request.
enum Asked {
    UnderWay(Request),
    Done(Result<(), Failure>),
}

impl Shared {
    fn set_phase(&self, phase: Phase) {
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

    fn settle(&self, id: u64, result: Result<(), Failure>) {
        lock(&self.results).insert(id, Asked::Done(result));
        self.log.ring();
    }

    /// Answers everyone who still waits.
    fn end(&self, phase: Phase) {
        // First: who sees the phase must not see it run.
        self.over.store(true, Ordering::Release);
        self.set_phase(phase);
        for asked in lock(&self.results).values_mut() {
            if let Asked::UnderWay(request) = asked {
                *asked = Asked::Done(request.too_late());
            }
        }
        self.log.ring();
    }
}

/// Sees to it that whoever waits for a server hears of its end, even if its thread panics.
struct Ending(Arc<Shared>);

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

/// A server on a thread of its own. Dropping it kills its workers.
pub struct Server {
    shared: Arc<Shared>,
    roster: Arc<Roster>,
    requests: mpsc::UnboundedSender<(u64, Request)>,
    next_request: u64,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    abandoned: bool,
}

impl Server {
    /// Binds the ports, starts the thread and returns; the workers start meanwhile.
    ///
    /// # Errors
    /// Class `port_in_use` or `listen` for the ports, `option` for the log file, `system` otherwise.
    pub fn start(settings: Settings) -> Result<Self, Failure> {
        let listener = listen(&settings.host, settings.port)?;
        let admin = settings
            .admin_port
            .map(|port| listen(&Ipv4Addr::LOCALHOST.to_string(), port))
            .transpose()?;
        let address = listener.local_addr().map_err(system)?;
        let admin_address = admin
            .as_ref()
            .map(std::net::TcpListener::local_addr)
            .transpose()
            .map_err(system)?;

        let log = Arc::new(Log::default());
        let access = match (settings.access_log, &settings.log_file) {
            (None, _) => AccessLog::none(),
            (Some(format), None) => AccessLog::to_log(format, log.clone()),
            (Some(format), Some(path)) => {
                AccessLog::to_file(format, path, log.clone()).map_err(|error| Failure {
                    class: "option",
                    message: format!("`log_file` cannot be written: {}: {error}", path.display()),
                    lines: Vec::new(),
                })?
            }
        };
        let ops = Arc::new(Ops {
            metrics: Metrics::default(),
            access,
            log: log.clone(),
        });
        let table = Table::new(settings.queue);
        let roster = Arc::new(Roster::new(table.clone()));
        let shared = Arc::new(Shared {
            phase: Mutex::new(Phase::Starting),
            results: Mutex::default(),
            over: AtomicBool::new(false),
            log: log.clone(),
        });
        let (requests, asked) = mpsc::unbounded_channel();

        let main = {
            let (shared, roster) = (shared.clone(), roster.clone());
            move |spawner| {
                // Before all else, so that it is dropped after all else.
                let _ending = Ending(shared.clone());
                let _lines = tracing::subscriber::set_default(log.subscriber());
                let runtime = match tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .thread_name("faucet-blocking")
                    .build()
                {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        shared.set_phase(Phase::Failed(system(error)));
                        return;
                    }
                };
                let mut limits = settings.limits;
                limits.max_connections = front::room_for_connections(limits.max_connections);
                let front = Arc::new(Front {
                    table: table.clone(),
                    roster: roster.clone(),
                    limits,
                    trusted: settings.trusted,
                    ops: ops.clone(),
                    connections: Connections::default(),
                });
                let (pool, asker, notices) = Pool::new(settings.local, spawner, table, roster, ops);
                let life = Life {
                    shared: shared.clone(),
                    front,
                    pool: asker,
                };
                runtime.block_on(life.run(pool, notices, asked, listener, admin));
                // A connection that hangs must not keep the server from ending.
                runtime.shutdown_timeout(Duration::from_millis(100));
            }
        };
        // Nobody joins the thread: its end shows in what is shared.
        without_signals(|| {
            let spawner = Spawner::start()?;
            std::thread::Builder::new()
                .name("faucet".into())
                .spawn(move || main(spawner))
        })
        .map_err(system)?;
        Ok(Self {
            shared,
            roster,
            requests,
            next_request: 0,
            address,
            admin: admin_address,
            abandoned: false,
        })
    }

    /// Where clients connect. A wildcard address is shown as loopback.
    pub fn url(&self) -> String {
        format!("http://{}", reachable(self.address))
    }

    /// Where operators connect.
    pub fn admin_url(&self) -> Option<String> {
        self.admin.map(|address| format!("http://{address}"))
    }

    pub fn phase(&self) -> Phase {
        lock(&self.shared.phase).clone()
    }

    /// The workers, now, but their memory.
    pub fn status(&self) -> Status {
        self.roster.status()
    }

    /// The workers, now, with their memory.
    pub fn status_with_memory(&self) -> Status {
        self.roster.status_with_memory()
    }

    /// Asks for something; its end is told by [`result`](Self::result) under the returned number.
    pub fn ask(&mut self, request: Request) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        lock(&self.shared.results).insert(id, Asked::UnderWay(request));
        if request.ends() {
            // From this moment on, not from when the server's thread gets to it.
            self.roster.set_draining();
        }
        if self.requests.send((id, request)).is_err() {
            self.shared.settle(id, request.too_late());
        }
        id
    }

    /// The end of a request, once: `None` while it lasts.
    pub fn result(&self, id: u64) -> Option<Result<(), Failure>> {
        let mut results = lock(&self.shared.results);
        match results.get(&id) {
            Some(Asked::UnderWay(_)) => None,
            Some(Asked::Done(_)) => match results.remove(&id) {
                Some(Asked::Done(result)) => Some(result),
                _ => None,
            },
            None => Some(Ok(())),
        }
    }

    /// Its log.
    pub fn log(&self) -> &Arc<Log> {
        &self.shared.log
    }

    /// Forgets the server without touching it: for a forked process, which has this value but not
    /// the thread.
    pub fn abandon(&mut self) {
        // Closing the channel would wake the parent's thread through the file that both share.
        let (idle, _) = mpsc::unbounded_channel();
        std::mem::forget(std::mem::replace(&mut self.requests, idle));
        self.abandoned = true;
    }

    /// Waits until something happens, at most `patience`.
    pub fn wait(&self, patience: Duration) {
        self.shared.log.wait(patience);
    }

    /// Log lines since the last call, and how many were dropped.
    pub fn take_lines(&self) -> (Vec<Line>, u64) {
        self.shared.log.take()
    }

    /// Whether anything of it is left.
    pub fn is_running(&self) -> bool {
        !self.shared.over.load(Ordering::Acquire)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The thread goes on until its workers are gone; nobody waits for it.
        if !self.abandoned {
            self.ask(Request::Kill);
        }
    }
}

/// What runs on the server's thread.
struct Life {
    shared: Arc<Shared>,
    front: Arc<Front>,
    pool: PoolSender,
}

impl Life {
    async fn run(
        self,
        pool: Pool,
        mut notices: mpsc::UnboundedReceiver<PoolEvent>,
        mut asked: mpsc::UnboundedReceiver<(u64, Request)>,
        listener: std::net::TcpListener,
        admin: Option<std::net::TcpListener>,
    ) {
        let (listener, admin) = match (register(listener), admin.map(register).transpose()) {
            (Ok(listener), Ok(admin)) => (listener, admin),
            (Err(error), _) | (_, Err(error)) => {
                self.shared.set_phase(Phase::Failed(system(error)));
                return;
            }
        };
        tokio::spawn(front::expire(self.front.clone()));
        let mut accepting = Some(tokio::spawn(front::accept(self.front.clone(), listener)));
        if let Some(admin) = admin {
            tokio::spawn(ops::serve_admin(admin, self.front.clone()));
        }
        let mut pool = tokio::spawn(pool.run());
        let life = Arc::new(self);
        let mut notices_open = true;
        loop {
            tokio::select! {
                ended = &mut pool => {
                    if let Err(panic) = ended {
                        life.shared.set_phase(Phase::Failed(Failure {
                            class: "internal",
                            message: format!("The workers' task failed: {panic}"),
                            lines: Vec::new(),
                        }));
                    }
                    return;
                }
                notice = notices.recv(), if notices_open => match notice {
                    Some(PoolEvent::Ready) => life.shared.set_phase(Phase::Ready),
                    Some(PoolEvent::BootFailed(failure)) => {
                        life.shared.set_phase(Phase::Failed(failure));
                        life.pool.ask(Command::Kill);
                    }
                    None => notices_open = false,
                },
                asked = asked.recv() => {
                    // The handle was dropped: so is the server.
                    let (id, request) = asked.unwrap_or((u64::MAX, Request::Kill));
                    if request.ends() {
                        life.front.roster.set_draining();
                        if let Some(accepting) = accepting.take() {
                            accepting.abort();
                        }
                    }
                    if matches!(request, Request::Kill) {
                        life.pool.ask(Command::Kill);
                        // Bounded, also against a process that cannot be killed.
                        let _ = tokio::time::timeout(KILL_GRACE, &mut pool).await;
                        return;
                    }
                    let life = life.clone();
                    tokio::spawn(async move {
                        let result = life.obey(request).await;
                        // A stop is done when the server is gone, and with it the port.
                        if !matches!(request, Request::Stop(_)) {
                            life.shared.settle(id, result);
                        }
                    });
                }
            }
        }
    }

    async fn obey(&self, request: Request) -> Result<(), Failure> {
        match request {
            Request::Scale(count) => self.of_pool(|reply| Command::Scale(count, reply)).await,
            Request::Reload => self.of_pool(Command::Reload).await,
            Request::Drain(patience) => {
                if self.drain(patience).await {
                    Ok(())
                } else {
                    Err(Failure {
                        class: "timeout",
                        message: "Requests are still in flight after the drain's deadline.".into(),
                        lines: Vec::new(),
                    })
                }
            }
            Request::Stop(patience) => {
                if !self.drain(patience).await {
                    tracing::warn!("requests are still in flight after the deadline: they are cut");
                }
                self.front.table.refuse(Refused::Closed);
                let stopped = self.of_pool(Command::Stop).await;
                self.front.connections.give_all(Order::Close);
                stopped
            }
            Request::Kill => Ok(()),
        }
    }

    /// Waits until nothing is in flight; whether that was reached in time.
    async fn drain(&self, patience: Option<Duration>) -> bool {
        self.shared.set_phase(Phase::Draining);
        self.front.connections.give_all(Order::Finish);
        let idle = async {
            self.front.table.idle().await;
            // The last answers still travel to their clients.
            while self.front.connections.any_busy() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match patience {
            None => {
                idle.await;
                true
            }
            Some(patience) => tokio::time::timeout(patience, idle).await.is_ok(),
        }
    }

    async fn of_pool(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), Failure>>) -> Command,
    ) -> Result<(), Failure> {
        let (reply, result) = oneshot::channel();
        self.pool.ask(command(reply));
        // A pool that is gone has dropped it.
        result.await.unwrap_or_else(|_| Request::Reload.too_late())
    }
}

fn register(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener)
}

fn listen(host: &str, port: u16) -> Result<std::net::TcpListener, Failure> {
    let named = |error: io::Error| {
        let (class, hint) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                "port_in_use",
                "Another program listens there: choose another `port`, or 0 for any free one.",
            ),
            io::ErrorKind::PermissionDenied => (
                "listen",
                "Ports below 1024 need privileges: choose another `port`.",
            ),
            _ => ("listen", "Is `host` an address of this machine?"),
        };
        Failure {
            class,
            message: format!("Cannot listen on {host}:{port}: {error}. {hint}"),
            lines: Vec::new(),
        }
    };
    let address = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => (host, port)
            .to_socket_addrs()
            .map_err(named)?
            .next()
            .ok_or_else(|| named(io::ErrorKind::AddrNotAvailable.into()))?,
    };
    front::bind(address).map_err(named)
}

fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
    } else {
        address
    }
}

fn system(error: io::Error) -> Failure {
    Failure {
        class: "system",
        message: format!("The server cannot be started: {error}"),
        lines: Vec::new(),
    }
}

/// Runs `start` with all signals blocked, so that the threads it starts never run a signal handler
/// of R's: those belong to R's own thread.
fn without_signals<T>(start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let mut before = SigSet::empty();
    pthread_sigmask(
        SigmaskHow::SIG_BLOCK,
        Some(&SigSet::all()),
        Some(&mut before),
    )?;
    let result = start();
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    result
}
