//! The client's side: listener, limits, deadlines, buffering, header hygiene, upgrades, and errors
//! as responses.

mod answers;
mod arriving;
mod authority;
mod cause;
mod check;
mod chunks;
mod client_io;
mod connection;
mod connection_state;
mod deadline;
mod departure;
mod direct;
mod draining;
mod exchange;
mod fetch;
mod forward;
mod frames;
mod fronts;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod grpc;
mod handshake;
mod headers;
mod http2;
mod http2_io;
mod in_flight;
mod incoming;
mod invoke;
mod limits;
mod listener;
mod listening;
mod management;
mod networks;
mod offer;
mod one_time;
mod pass_through;
mod pump;
mod queue;
mod raw_head;
mod record;
mod redirects;
mod reply;
mod request_body;
mod request_id;
mod route;
mod rpc;
mod sendable;
mod service;
mod session_request;
mod streams;
mod tunnel;
mod turn;
mod within;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

pub(crate) use arriving::Arriving;
pub use cause::{Cause, FAUCET_ERROR};
pub use connection::serve_dialled;
pub use connection_state::{ConnectionState, Phase, Shutdown};
pub(crate) use deadline::{deadline_value, DEADLINE};
pub use direct::Direct;
pub use fronts::Fronts;
pub(crate) use grpc::timeout as grpc_timeout;
pub use headers::TrustedProxies;
pub(crate) use headers::X_REQUEST_ID;
pub(crate) use invoke::refusal;
pub use limits::Limits;
pub use listener::{
    accept, accept_fetchers, enter_dialled, is_the_other_sides, Connections, Entered,
};
pub use listening::{bind, Bound, Listener};
pub use management::{Admission, Managed, Management, Told};
pub use networks::{Networks, NotAnAddress};
pub use offer::Offer;
pub use queue::expire;
pub use redirects::Redirects;
pub(crate) use reply::Reply;
pub(crate) use request_body::RequestBody;
pub use rpc::RpcSeat;
pub(crate) use rpc::{Answering, Caller, Rpc};
pub(crate) use within::Origin;

use crate::body::Store;
use crate::client_address::ClientAddress;
use crate::ops::access::Entry;
use crate::ops::metrics::Metrics;
use crate::ops::status::{PoolStatus, ServerStatus};
use crate::ops::Ops;
use crate::pool::{Pool, Pools};
use crate::tls::ServerTls;
use crate::traces::Traces;

/// One front door: everything that its connections share.
pub struct Front {
    pub pools: Arc<Pools>,
    pub limits: Limits,
    /// What its connections and bodies take.
    pub store: Store,
    pub trusted: TrustedProxies,
    pub fronts: Fronts,
    /// Of requests that are no pool's.
    pub ops: Arc<Ops>,
    pub metrics: Metrics,
    pub connections: Connections,
    /// If its clients on TCP are to speak TLS.
    pub tls: Option<Arc<ServerTls>>,
    pub lifecycle: Lifecycle,
    /// If functions are deployed here.
    pub management: OnceLock<Arc<dyn Management>>,
    /// If functions are called and deployed by gRPC, too.
    pub rpc: RpcSeat,
    /// What flows between agents past their proxy.
    pub direct: Direct,
    /// If requests are told a collector as spans.
    pub traces: Option<Arc<Traces>>,
}

/// What readiness has to know of the server as a whole.
#[derive(Default)]
pub struct Lifecycle {
    /// Some pool has not come so far that its start has succeeded or failed.
    pub starting: AtomicBool,
    pub draining: AtomicBool,
}

impl Front {
    /// The server's state now.
    pub fn status(&self) -> ServerStatus {
        self.status_by(Pool::status)
    }

    /// The same with the memory of each process.
    pub fn status_with_memory(&self) -> ServerStatus {
        self.status_by(Pool::status_with_memory)
    }

    fn status_by(&self, look: impl Fn(&Pool) -> PoolStatus) -> ServerStatus {
        ServerStatus {
            pools: self.pools.all().iter().map(|pool| look(pool)).collect(),
            starting: self.lifecycle.starting.load(Ordering::Relaxed),
            draining: self.lifecycle.draining.load(Ordering::Relaxed),
            manages: self.management.get().is_some(),
        }
    }

    /// Counts and logs a request that could not be read, and renders its answer (HTTP/1.1).
    fn reject(&self, cause: Cause, client: ClientAddress) -> Vec<u8> {
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
            pool: "",
            status,
            cause: cause.name(),
            bytes,
            total: Duration::ZERO,
            queue: Duration::ZERO,
            in_worker: None,
            worker: None,
            input: None,
            grpc_status: None,
        });
        response
    }

    /// The metrics as OpenMetrics.
    pub fn render_metrics(&self) -> String {
        self.metrics.render(
            &self.status(),
            self.connections.count(),
            self.ops.log.dropped_ever(),
        )
    }
}
