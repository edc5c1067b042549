//! One running server: its thread, its runtime, and the handle that others hold.

mod activation;
mod agent;
mod changes;
mod drain;
mod execute;
mod handle;
mod hub;
mod kept;
mod listen;
mod notify;
mod proxy;
mod redirects;
mod request;
mod running;
mod shared;
mod task;
mod watching;

pub use agent::AgentSettings;
pub use handle::Server;
pub use proxy::ProxySettings;
pub use request::{PreparedPool, Request};
pub use shared::Phase;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::environment::SystemError;
use crate::front::{Limits, Networks, TrustedProxies};
use crate::offers::OffersSettings;
use crate::ops::access::Format;
use crate::ops::log_file::LogFile;
use crate::ops::metrics::Metrics;
use crate::ops::Ops;
use crate::pool::{Pool, PoolLimits, Route};
use crate::sessions::SessionLimits;
use crate::sources::hub::HubSettings;
use crate::sources::{Failure, Source};
use crate::tls::TlsSettings;
use crate::traces::TraceSettings;

/// Everything that a server is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A name, an address, or `unix:` and the path of a socket or `@` and a name.
    pub host: String,
    /// 0 for any free port, `None` for no clients of its own. Nothing for a Unix socket.
    pub port: Option<u16>,
    /// Where the admin port is.
    pub admin_host: String,
    /// 0 for any free port. Where `admin_host` is a Unix socket, there needs to be none.
    pub admin_port: Option<u16>,
    /// Names by which the admin port may be asked, besides those of this machine.
    pub admin_hosts: Vec<String>,
    /// What clients' connections are encrypted by; not those on a Unix socket.
    pub tls: Option<TlsSettings>,
    pub limits: Limits,
    pub trusted: TrustedProxies,
    /// Which peers are other faucets' fronts.
    pub fronts: Networks,
    pub access_log: Option<Format>,
    /// Where the access log goes instead of to [`Server::take_lines`].
    pub log_file: Option<LogFile>,
    /// Whether it holds health checks.
    pub log_health: bool,
    /// The collector that is told of requests, as spans.
    pub otlp: Option<TraceSettings>,
    /// Workers of all pools together, on this machine; `None` is what memory allows.
    pub max_workers: Option<u32>,
    /// The file that R has read all this from, if it is to read it again when it changes.
    pub config: Option<PathBuf>,
    /// No two with the same route.
    pub pools: Vec<PoolSettings>,
    /// If workers dial in.
    pub hub: Option<HubSettings>,
    /// If its workers' slots are offered to hubs.
    pub offers: Option<OffersSettings>,
    /// If functions are deployed here.
    pub agent: Option<AgentSettings>,
    /// If functions are deployed to agents by this server.
    pub proxy: Option<ProxySettings>,
}

/// On a free port of this machine alone, without an admin port, logs and pools.
impl Default for Settings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            port: Some(0),
            admin_host: "127.0.0.1".into(),
            admin_port: None,
            admin_hosts: Vec::new(),
            limits: Limits::default(),
            trusted: TrustedProxies::default(),
            fronts: Networks::default(),
            access_log: None,
            log_file: None,
            log_health: false,
            otlp: None,
            max_workers: None,
            config: None,
            tls: None,
            pools: Vec::new(),
            hub: None,
            offers: None,
            agent: None,
            proxy: None,
        }
    }
}

/// Everything that a pool is told at its start.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolSettings {
    pub route: Route,
    pub limits: PoolLimits,
    pub source: Source,
    /// If its clients stay with one worker each.
    pub sessions: Option<SessionLimits>,
}

impl PoolSettings {
    /// A pool without workers.
    ///
    /// # Errors
    /// Class `system`.
    fn pool(&self, ops: &Ops, metrics: &Metrics) -> Result<Arc<Pool>, Failure> {
        let ops = ops.of_pool(self.route.name(), metrics);
        let (route, limits) = (self.route.clone(), self.limits.clone());
        match &self.sessions {
            None if self.source.keeps_path() => {
                let services = self.source.services().map(<[String]>::to_vec);
                Ok(Pool::keeping_path(route, limits, ops, services))
            }
            None => {
                let destination = self.source.destination().cloned();
                Ok(Pool::toward(route, limits, ops, destination))
            }
            Some(sessions) => Pool::sticky(route, limits, ops, sessions.clone()).map_err(system),
        }
    }
}

/// Whether there may be as many workers as each pool has at least: `least` are their numbers.
///
/// # Errors
/// There may not: class `option`.
fn check_max_workers(most: Option<u32>, least: impl Iterator<Item = u32>) -> Result<(), Failure> {
    let least = least.fold(0, u32::saturating_add);
    match most {
        Some(most) if least > most => Err(Failure::new(
            "option",
            format!(
                "`max_workers` is {most}, but the pools have at least {least} workers together."
            ),
        )),
        _ => Ok(()),
    }
}

fn system(error: io::Error) -> Failure {
    Failure {
        class: "system",
        message: format!("The server cannot be started: {}", SystemError(&error)),
        lines: Vec::new(),
    }
}
