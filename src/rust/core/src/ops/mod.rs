//! What operators see: health, status, metrics and logs.

pub mod access;
mod admin;
mod health;
mod line;
pub mod log;
pub mod metrics;
pub mod outlet;
pub mod printable;
pub mod status;

pub use admin::serve_admin;
pub use health::{answer, PREFIX};

use std::sync::Arc;

/// What every request reports to.
pub struct Ops {
    pub metrics: metrics::Metrics,
    pub access: access::AccessLog,
    pub log: Arc<log::Log>,
}
