//! What operators see: health, status, metrics and logs.

pub mod access;
mod admin;
mod escape;
mod exposition;
mod health;
mod line;
pub mod log;
pub mod log_file;
pub mod metrics;
pub mod outlet;
pub mod printable;
mod rotation;
pub mod status;

pub use admin::{serve_admin, Hosts};
pub use exposition::Exposition;
pub use health::{answer, is_check, PREFIX};

use std::sync::Arc;

/// What every request reports to.
pub struct Ops {
    pub metrics: metrics::Metrics,
    pub access: access::AccessLog,
    pub log: Arc<log::Log>,
}
