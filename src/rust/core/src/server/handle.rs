//! The handle of a running server.

use std::io;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::mpsc;

use super::activation;
use super::agent::Agent;
use super::hub::Doors;
use super::listen::{is_unix, listen};
use super::notify::Notify;
use super::proxy::{Door, Proxy};
use super::redirects::FetchPort;
use super::request::{too_late, PreparedPool, Request};
use super::shared::{Ending, Phase, Shared};
use super::task::{Keepers, ServerTask, Sockets};
use super::{check_max_workers, system, PoolSettings, Settings};
use crate::body::{self, Store};
use crate::descriptors::Descriptors;
use crate::endpoint::Endpoint;
use crate::environment::{Environment, SystemError};
use crate::front::{Connections, Direct, Front, Fronts, Lifecycle, RpcSeat};
use crate::gates::Gates;
use crate::offers::{HubStatus, HubsStatus, PreparedOffers};
use crate::ops::access::AccessLog;
use crate::ops::log::{Line, Log};
use crate::ops::metrics::Metrics;
use crate::ops::status::{LookupStatus, PoolStatus};
use crate::ops::{Hosts, Ops};
use crate::pool::{Membership, Pool, Pools};
use crate::signals;
use crate::sources::local::Resources;
use crate::sources::{Counts, Failure};
use crate::tls::ServerTls;
use crate::traces::Exporter;

/// How long the last lines of the access log may take to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// How long a collector may take for the last spans.
const LAST_SPANS: Duration = Duration::from_millis(500);

/// A server on a thread of its own. Dropping it kills its workers.
pub struct Server {
    shared: Arc<Shared>,
    pools: Arc<Pools>,
    /// The server's own: what it keeps open ends with it, not with the handle.
    ops: Weak<Ops>,
    /// What its pools of processes share, while there is one.
    resources: Weak<Resources>,
    requests: mpsc::UnboundedSender<(u64, Request)>,
    next_request: u64,
    max_workers: Option<u32>,
    environment: Environment,
    /// Where clients connect, if it has clients of its own.
    endpoint: Option<Endpoint>,
    /// Whether they speak TLS there.
    is_tls: bool,
    admin: Option<Endpoint>,
    /// If it offers slots to hubs.
    gates: Option<Arc<Gates>>,
    /// Where workers dial in, and those of POTHEAD.
    workers: Option<Endpoint>,
    pothead: Option<Endpoint>,
    /// If its workers' slots are offered to hubs.
    hubs: Option<HubsStatus>,
    /// Where bodies are fetched that do not go through them.
    redirect: Option<Endpoint>,
    abandoned: bool,
}

impl Server {
    /// Binds the ports, starts the thread and returns; the workers start meanwhile. Reads the environment: to be called
    /// on R's thread.
    ///
    /// # Errors
    /// Class `port_in_use` or `listen` for the ports, `option` for the log file and `max_workers`, `system` otherwise.
    pub fn start(settings: Settings) -> Result<Self, Failure> {
        let least = settings.pools.iter();
        check_max_workers(
            settings.max_workers,
            least.map(|pool| pool.source.workers().min),
        )?;
        let environment = Environment::read();
        body::set_directory(environment.temporary_directory());
        let tls = settings.tls.as_ref().map(ServerTls::load).transpose()?;
        let tls = tls.map(Arc::new);
        let passed = activation::take(&environment)?;
        let is_passed = (!passed.clients.is_empty(), passed.admin.is_some());
        let port = match settings.port {
            // It needs none.
            None if is_unix(&settings.host) => Some(0),
            port => port,
        };
        let listeners = match port {
            _ if is_passed.0 => passed.clients,
            Some(port) => vec![listen("", &settings.host, port)?],
            None => Vec::new(),
        };
        let admin_port = match settings.admin_port {
            // It needs none.
            None if is_unix(&settings.admin_host) => Some(0),
            port => port,
        };
        let admin = match (passed.admin, admin_port) {
            (Some(admin), _) => Some(admin),
            (None, Some(port)) => Some(listen("admin_", &settings.admin_host, port)?),
            (None, None) => None,
        };
        let redirect = settings.offers.as_ref();
        let fetches = redirect
            .and_then(|offers| offers.redirect.as_ref())
            .map(|redirect| FetchPort::open(redirect, settings.tls.as_ref()))
            .transpose()?;
        let redirects = fetches.as_ref().map(|port| port.redirects().clone());
        let offers = settings
            .offers
            .map(|offers| PreparedOffers::new(offers, redirects))
            .transpose()?;
        let gates = offers.as_ref().map(|offers| offers.gates().clone());
        let door = settings
            .proxy
            .as_ref()
            .and_then(|proxy| proxy.door.as_ref());
        let door = door
            .map(|(host, port)| Door::open(host, *port, settings.tls.as_ref()))
            .transpose()?;
        let doors = settings.hub.as_ref();
        let doors = doors
            .map(|hub| Doors::open(hub, settings.tls.as_ref()))
            .transpose()?;
        let endpoints: Vec<Endpoint> = listeners
            .iter()
            .map(|listener| listener.endpoint().clone())
            .collect();
        if let (true, Some(unix)) = (tls.is_some(), endpoints.iter().find(|e| e.is_unix())) {
            return Err(Failure::new(
                "option",
                format!("`tls` is for TCP, and {unix} is a Unix socket: give one of the two up."),
            ));
        }
        let notify = Arc::new(Notify::of(&environment));

        let log = Arc::new(Log::default());
        let access = match (settings.access_log, settings.log_file) {
            (None, _) => AccessLog::none(),
            (Some(format), None) => AccessLog::to_log(format, log.clone()),
            (Some(format), Some(file)) => {
                let path = file.path.clone();
                AccessLog::to_file(format, file, log.clone()).map_err(|error| Failure {
                    class: "option",
                    message: format!(
                        "`log_file` cannot be written: {}: {}",
                        path.display(),
                        SystemError(&error)
                    ),
                    lines: Vec::new(),
                })?
            }
        };
        let metrics = Metrics::default();
        let traces = settings.otlp.map(|otlp| {
            let dropped = metrics.spans_dropped();
            Exporter::new(otlp, &environment, dropped)
        });
        let (traces, exporter) = traces.transpose()?.unzip();
        let ops = Arc::new(Ops {
            pool: Arc::default(),
            metrics: metrics.of_pool(&Arc::default()),
            access: Arc::new(access.with_health(settings.log_health)),
            log: log.clone(),
        });
        let own = Arc::downgrade(&ops);
        let shared = Shared::new(log.clone());
        let pools = Arc::new(Pools::default());
        let (requests, asked) = mpsc::unbounded_channel();
        let workers = settings
            .pools
            .iter()
            .map(|pool| pool.source.workers().max)
            .fold(0, u32::saturating_add)
            .min(settings.max_workers.unwrap_or(u32::MAX));
        let ca = settings.agent.as_ref().and_then(|agent| agent.ca.clone());
        let known = environment.clone();
        let mut server = Self {
            shared: shared.clone(),
            pools: pools.clone(),
            ops: own,
            resources: Weak::new(),
            requests,
            next_request: 0,
            max_workers: settings.max_workers,
            environment,
            endpoint: endpoints.first().cloned(),
            is_tls: tls.is_some(),
            admin: admin.as_ref().map(|admin| admin.endpoint().clone()),
            gates,
            workers: doors
                .as_ref()
                .map(Doors::workers)
                .or(door.as_ref().map(Door::endpoint))
                .cloned(),
            hubs: offers.as_ref().map(|offers| offers.status().clone()),
            redirect: fetches.as_ref().map(|port| port.endpoint().clone()),
            pothead: doors.as_ref().and_then(|doors| doors.pothead().cloned()),
            abandoned: false,
        };
        let mut prepared = Vec::new();
        // Until the thread has it.
        let mut resources = None;
        for settings in settings.pools {
            let pool = settings.pool(&ops, &metrics)?;
            pools.add(pool.clone(), Membership::Routed);
            let settings = server.prepare(settings)?;
            if let Some(shared) = settings.source.resources() {
                resources = Some(shared.clone());
            }
            prepared.push((pool, settings));
        }
        let agent = match settings.agent {
            None => None,
            Some(agent) => {
                let shared = server.resources().map_err(system)?;
                let endpoint = server.endpoint.clone();
                Some(Agent::open(agent, shared, endpoint, log.clone())?)
            }
        };
        let proxy = match settings.proxy {
            None => None,
            Some(proxy) => Some((Proxy::open(proxy, &log)?, door)),
        };
        drop(resources);

        let finished = ops.clone();
        let admin_hosts = Hosts::new(&settings.admin_host, &settings.admin_hosts);
        let main = move || {
            // Before all else, so that it is dropped after all else.
            let _ending = Ending(shared.clone());
            let _lines = tracing::subscriber::set_default(log.subscriber());
            let runtime = match tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .thread_name("faucet-blocking")
                .thread_stack_size(signals::STACK)
                .build()
            {
                Ok(runtime) => runtime,
                Err(error) => {
                    shared.set_phase(Phase::Failed(system(error)));
                    return;
                }
            };
            let limits = settings.limits;
            let descriptors = Descriptors::of_process(limits.max_connections, workers as usize);
            let store = match Store::new(limits.total_body_memory, descriptors, Store::THREADS) {
                Ok(store) => store,
                Err(error) => {
                    shared.set_phase(Phase::Failed(system(error)));
                    return;
                }
            };
            let front = Arc::new(Front {
                pools,
                limits,
                store,
                trusted: settings.trusted,
                fronts: Fronts::new(settings.fronts),
                ops,
                metrics,
                connections: Connections::default(),
                tls,
                lifecycle: Lifecycle::default(),
                management: OnceLock::new(),
                rpc: RpcSeat::default(),
                direct: Direct::new(ca, known),
                traces: traces.clone(),
            });
            if is_passed.0 {
                for endpoint in endpoints {
                    tracing::info!(
                        "listens on {}, which systemd has opened: `host` and `port` do not count",
                        endpoint.url(front.tls.is_some())
                    );
                }
            }
            if is_passed.1 {
                tracing::info!("the admin port is one that systemd has opened: `admin_host` and `admin_port` do not count");
            }
            let (task, events) = ServerTask::new(
                shared,
                front,
                settings.max_workers,
                settings.config,
                doors.is_some() || agent.is_some() || proxy.is_some(),
                notify,
            );
            let sockets = Sockets {
                clients: listeners,
                admin: admin.map(|listener| (listener, admin_hosts)),
                doors,
                fetches,
            };
            let keepers = Keepers { agent, proxy };
            runtime.block_on(async {
                let exporter = exporter.map(|exporter| tokio::spawn(exporter.run()));
                task.run(prepared, events, asked, sockets, offers, keepers)
                    .await;
                if let Some((traces, exporter)) = traces.zip(exporter) {
                    traces.close();
                    // A collector that hangs must not, either.
                    let _ = tokio::time::timeout(LAST_SPANS, exporter).await;
                }
            });
            // A connection that hangs must not keep the server from ending.
            runtime.shutdown_timeout(Duration::from_millis(100));
            finished.access.finish(LAST_LINES);
        };
        // Nobody joins the thread: its end shows in what is shared.
        match signals::start_thread("faucet", signals::STACK, main) {
            Ok(_) => Ok(server),
            Err(error) => {
                server.abandoned = true;
                Err(system(error))
            }
        }
    }

    /// A pool with what it needs from the system. Reads the environment: to be called on R's thread.
    ///
    /// # Errors
    /// Class `system`.
    pub fn prepare(&mut self, settings: PoolSettings) -> Result<PreparedPool, Failure> {
        let mut source = settings.source.clone();
        if let Some(endpoint) = &self.endpoint {
            source = source.listening_at(endpoint);
        }
        let source = source.prepare(|| self.resources());
        Ok(PreparedPool {
            settings,
            source: source.map_err(system)?,
        })
    }

    /// What pools of processes share. Reads the environment: to be called on R's thread.
    fn resources(&mut self) -> io::Result<Arc<Resources>> {
        if let Some(resources) = self.resources.upgrade() {
            return Ok(resources);
        }
        let resources = Arc::new(Resources::prepare(&self.environment, self.max_workers)?);
        self.resources = Arc::downgrade(&resources);
        Ok(resources)
    }

    /// Where clients connect: a URL, in which a wildcard address is shown as loopback, or `unix:` and a path. `None` if it has
    /// no clients of its own.
    pub fn url(&self) -> Option<String> {
        let endpoint = self.endpoint.as_ref()?;
        Some(endpoint.url(self.is_tls))
    }

    /// Where operators connect.
    pub fn admin_url(&self) -> Option<String> {
        self.admin.as_ref().map(Endpoint::to_string)
    }

    /// What R says of one of its gates, by its place among all: see [`Gates::answer`].
    pub fn answer_gate(&self, gate: usize, open: bool) {
        if let Some(gates) = &self.gates {
            gates.answer(gate, open);
        }
    }

    /// Where workers dial in: a host and a port.
    pub fn worker_address(&self) -> Option<String> {
        self.workers.as_ref().and_then(Endpoint::authority)
    }

    /// Where workers of POTHEAD dial in.
    pub fn pothead_address(&self) -> Option<String> {
        self.pothead.as_ref().and_then(Endpoint::authority)
    }

    /// The hubs that its workers' slots are offered to.
    pub fn hubs(&self) -> Vec<HubStatus> {
        self.hubs.as_ref().map(HubsStatus::get).unwrap_or_default()
    }

    /// Where bodies are fetched that do not go through a hub: a host and a port.
    pub fn redirect_address(&self) -> Option<String> {
        self.redirect.as_ref().and_then(Endpoint::authority)
    }

    pub fn phase(&self) -> Phase {
        self.shared.phase()
    }

    /// The pools, now, with their workers' memory.
    pub fn status(&self) -> Vec<PoolStatus> {
        let pools = self.pools.all();
        pools.iter().map(|pool| pool.status_with_memory()).collect()
    }

    /// The lookups of the pools that are found by a name, and the names of these pools.
    pub fn lookups(&self) -> Vec<(Arc<str>, LookupStatus)> {
        let pools = self.pools.all();
        let lookup = |pool: &Arc<Pool>| Some((pool.name().clone(), pool.roster.lookup_status()?));
        pools.iter().filter_map(lookup).collect()
    }

    /// How many workers there are now, for those who ask often.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for pool in self.pools.all() {
            let counts = pool.roster.counts();
            sum.serving += counts.serving;
            sum.total += counts.total;
        }
        sum
    }

    /// Asks for something; its end is told by [`result`](Self::result) under the returned number. A reload reads the
    /// environment again, for its workers and those after them: to be called on R's thread.
    pub fn ask(&mut self, request: Request) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        let ends = request.ends();
        self.shared.begin(id, ends);
        if matches!(request, Request::Reload(_) | Request::Configure(..)) {
            self.environment.refresh();
        }
        if ends {
            // From this moment on, not from when the server's thread gets to it.
            for pool in self.pools.all() {
                pool.roster.set_draining();
            }
        }
        if self.requests.send((id, request)).is_err() {
            self.shared.settle(id, too_late(ends));
        }
        id
    }

    /// Whether the configuration file has changed since the last call.
    pub fn take_config_change(&self) -> bool {
        self.shared.take_config_change()
    }

    /// The end of a request, once: `None` while it lasts.
    pub fn result(&self, id: u64) -> Option<Result<(), Failure>> {
        self.shared.result(id)
    }

    /// Its log.
    pub fn log(&self) -> &Arc<Log> {
        self.shared.log()
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
        self.shared.log().wait(patience);
    }

    /// Log lines since the last call, and how many were dropped.
    pub fn take_lines(&self) -> (Vec<Line>, u64) {
        self.shared.log().take()
    }

    /// Opens the access log's file again, which someone may have moved.
    pub fn reopen_logs(&self) {
        if let Some(ops) = self.ops.upgrade() {
            ops.access.reopen();
        }
    }

    /// Whether anything of it is left.
    pub fn is_running(&self) -> bool {
        !self.shared.is_over()
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
