//! The client's side: listener, limits, deadlines, buffering, header hygiene, upgrades, and errors
//! as responses.

mod authority;
mod cause;
mod check;
mod chunks;
mod client_io;
mod connection;
mod connection_state;
mod deadline;
mod departure;
mod exchange;
mod frames;
mod fronts;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod headers;
mod http2;
mod http2_io;
mod in_flight;
mod incoming;
mod limits;
mod listener;
mod networks;
mod pump;
mod queue;
mod raw_head;
mod record;
mod reply;
mod request_id;
mod sendable;
mod service;
mod streams;
mod tunnel;
mod turn;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use cause::{Cause, FAUCET_ERROR};
pub use connection_state::Shutdown;
pub use fronts::Fronts;
pub use headers::TrustedProxies;
pub use limits::Limits;
pub use listener::{accept, bind, Connections};
pub use networks::{Networks, NotAnAddress};
pub use queue::expire;

use crate::body::Store;
use crate::lock::Table;
use crate::ops::access::Entry;
use crate::ops::status::Status;
use crate::ops::Ops;
use crate::sources::Roster;
use crate::worker::Worker;

/// One front door: everything that its connections share.
pub struct Front {
    pub table: Arc<Table<Worker>>,
    pub roster: Arc<Roster>,
    pub limits: Limits,
    /// What its connections and bodies take.
    pub store: Store,
    pub trusted: TrustedProxies,
    pub fronts: Fronts,
    pub ops: Arc<Ops>,
    pub connections: Connections,
}

impl Front {
    /// The server's state now.
    pub fn status(&self) -> Status {
        self.roster.status()
    }

    /// Counts and logs a request that could not be read, and renders its answer (HTTP/1.1).
    fn reject(&self, cause: Cause, client: IpAddr) -> Vec<u8> {
        let id = request_id::new_request_id();
        let id = id.to_str().unwrap_or_default();
        let (response, bytes) = cause.raw_response(id);
        let status = cause.status().as_u16();
        self.ops
            .metrics
            .request(status, cause.name(), Duration::ZERO, Duration::ZERO);
        self.ops.access.write(&Entry {
            time: SystemTime::now(),
            id,
            client,
            method: "-",
            path: "-",
            status,
            cause: cause.name(),
            bytes,
            total: Duration::ZERO,
            queue: Duration::ZERO,
            in_worker: None,
            worker: None,
        });
        response
    }

    /// The metrics as OpenMetrics.
    pub fn render_metrics(&self) -> String {
        self.ops.metrics.render(
            &self.status(),
            self.connections.count(),
            self.ops.log.dropped_ever(),
        )
    }
}
