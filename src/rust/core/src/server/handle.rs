//! The handle of a running server.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;

use super::listen::{listen, reachable};
use super::request::Request;
use super::shared::{Ending, Phase, Shared};
use super::task::ServerTask;
use super::{system, Settings};
use crate::body::{self, Store};
use crate::descriptors::Descriptors;
use crate::environment::{Environment, SystemError};
use crate::front::{Connections, Front, Fronts};
use crate::lock::Table;
use crate::ops::access::AccessLog;
use crate::ops::log::{Line, Log};
use crate::ops::metrics::Metrics;
use crate::ops::status::Status;
use crate::ops::{Hosts, Ops};
use crate::signals;
use crate::sources::{Counts, Failure, Prepared, Roster, SourceContext};

/// How long the last lines of the access log may take to be written.
const LAST_LINES: Duration = Duration::from_millis(500);

/// A server on a thread of its own. Dropping it kills its workers.
pub struct Server {
    shared: Arc<Shared>,
    roster: Arc<Roster>,
    /// The server's own: what it keeps open ends with it, not with the handle.
    ops: Weak<Ops>,
    requests: mpsc::UnboundedSender<(u64, Request)>,
    next_request: u64,
    environment: Environment,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    abandoned: bool,
}

impl Server {
    /// Binds the ports, starts the thread and returns; the workers start meanwhile. Reads the environment: to be called
    /// on R's thread.
    ///
    /// # Errors
    /// Class `port_in_use` or `listen` for the ports, `option` for the log file, `system` otherwise.
    pub fn start(settings: Settings) -> Result<Self, Failure> {
        let environment = Environment::read();
        body::set_directory(environment.temporary_directory());
        let listener = listen("", &settings.host, settings.port)?;
        let admin = settings
            .admin_port
            .map(|port| listen("admin_", &settings.admin_host, port))
            .transpose()?;
        let address = listener.local_addr().map_err(system)?;
        let admin_address = admin
            .as_ref()
            .map(std::net::TcpListener::local_addr)
            .transpose()
            .map_err(system)?;

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
        let ops = Arc::new(Ops {
            metrics: Metrics::default(),
            access: access.with_health(settings.log_health),
            log: log.clone(),
        });
        let own = Arc::downgrade(&ops);
        let table = Table::new(settings.queue);
        let roster = Arc::new(Roster::new(table.clone()));
        let shared = Shared::new(log.clone());
        let (requests, asked) = mpsc::unbounded_channel();
        let workers = settings.source.workers() as usize;

        let finished = ops.clone();
        let admin_hosts = Hosts::new(&settings.admin_host, &settings.admin_hosts);
        let main = {
            let (shared, roster) = (shared.clone(), roster.clone());
            move |source: Prepared| {
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
                let descriptors = Descriptors::of_process(limits.max_connections, workers);
                let store = match Store::new(limits.total_body_memory, descriptors, Store::THREADS)
                {
                    Ok(store) => store,
                    Err(error) => {
                        shared.set_phase(Phase::Failed(system(error)));
                        return;
                    }
                };
                let front = Arc::new(Front {
                    table: table.clone(),
                    roster: roster.clone(),
                    limits,
                    store,
                    trusted: settings.trusted,
                    fronts: Fronts::new(settings.fronts),
                    ops: ops.clone(),
                    connections: Connections::default(),
                });
                let (notify, events) = mpsc::unbounded_channel();
                let context = SourceContext {
                    table,
                    roster,
                    ops,
                    notify,
                };
                let (source, handle) = source.start(context);
                let task = ServerTask {
                    shared: shared.clone(),
                    front,
                    source: handle,
                };
                let admin = admin.map(|listener| (listener, admin_hosts));
                runtime.block_on(task.run(source, events, asked, listener, admin));
                // A connection that hangs must not keep the server from ending.
                runtime.shutdown_timeout(Duration::from_millis(100));
                finished.access.finish(LAST_LINES);
            }
        };
        // Nobody joins the thread: its end shows in what is shared.
        let source = settings.source.listening_at(address);
        let prepared = source.prepare(&environment).map_err(system)?;
        signals::start_thread("faucet", signals::STACK, move || main(prepared)).map_err(system)?;
        Ok(Self {
            shared,
            roster,
            ops: own,
            requests,
            next_request: 0,
            environment,
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
        self.admin
            .map(|address| format!("http://{}", reachable(address)))
    }

    pub fn phase(&self) -> Phase {
        self.shared.phase()
    }

    /// The workers, now, but their memory.
    pub fn status(&self) -> Status {
        self.roster.status()
    }

    /// How many workers there are now, for those who ask often.
    pub fn counts(&self) -> Counts {
        self.roster.counts()
    }

    /// The workers, now, with their memory.
    pub fn status_with_memory(&self) -> Status {
        self.roster.status_with_memory()
    }

    /// Asks for something; its end is told by [`result`](Self::result) under the returned number. A reload reads the
    /// environment again, for its workers and those after them: to be called on R's thread.
    pub fn ask(&mut self, request: Request) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        self.shared.begin(id, request);
        if matches!(request, Request::Reload) {
            self.environment.refresh();
        }
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
