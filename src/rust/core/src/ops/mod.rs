//! What operators see: health, status, metrics and logs.

pub mod access;
mod admin;
mod escape;
mod exposition;
mod health;
mod history;
mod line;
pub mod log;
pub mod log_file;
pub mod metrics;
mod news;
pub mod outlet;
pub mod printable;
mod rotation;
pub mod routes;
pub mod status;

pub use admin::{serve_admin, Hosts};
pub use exposition::Exposition;
pub use health::{answer, is_check, PREFIX};
pub use history::History;
pub use line::pool_span;
pub use news::News;

use std::sync::Arc;

/// A pool's name, if lines for people show it: the root's goes without saying, as most servers have no other.
pub fn shown(pool: &str) -> Option<&str> {
    (!matches!(pool, "" | "/")).then_some(pool)
}

/// What the requests of one pool report to.
pub struct Ops {
    /// Its name; empty for requests that are no pool's.
    pub pool: Arc<str>,
    pub metrics: metrics::PoolMetrics,
    pub access: Arc<access::AccessLog>,
    pub log: Arc<log::Log>,
}

impl Ops {
    /// What belongs to this pool, in a line: with the pool's name where that is shown.
    pub fn name_of(&self, what: &str) -> String {
        match shown(&self.pool) {
            None => what.to_owned(),
            Some(pool) => format!("{pool} {what}"),
        }
    }

    /// The same for a pool.
    pub fn of_pool(&self, name: &Arc<str>, metrics: &metrics::Metrics) -> Arc<Self> {
        Arc::new(Self {
            pool: name.clone(),
            metrics: metrics.of_pool(name),
            access: self.access.clone(),
            log: Arc::new(self.log.of_pool(name)),
        })
    }
}
