//! Calls by gRPC: who serves them, and what they are told of whom they serve.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hyper::{Request, Response};

use super::cause::Cause;
use super::connection_state::ConnectionState;
use super::reply::Reply;
use super::request_body::RequestBody;
use super::within::Origin;
use super::Front;

/// Answer to a call that is on its way.
pub(crate) type Answering = Pin<Box<dyn Future<Output = Response<Reply>> + Send>>;

/// Whom a call is served for, and where.
pub(crate) struct Caller {
    pub(crate) front: Arc<Front>,
    pub(crate) connection: Arc<ConnectionState>,
    pub(crate) origin: Origin,
}

/// Who serves gRPC, on the port of all else.
pub(crate) trait Rpc: Send + Sync {
    /// Whether a path is that of a service here.
    fn is_for(&self, path: &str) -> bool;

    /// Answers a call, whose input may still arrive. To drop the answer, or its body before its end, is to leave.
    fn serve(&self, caller: Caller, request: Request<RequestBody>) -> Answering;

    /// What a call is answered with that nothing comes of.
    fn refuse(&self, cause: Cause) -> Response<Reply>;

    /// The server is about to end: answers that go on end.
    fn close(&self);
}

/// Who serves gRPC, once that is known.
#[derive(Default)]
pub struct RpcSeat(std::sync::OnceLock<Arc<dyn Rpc>>);

impl RpcSeat {
    /// The first is taken, and no other after it.
    pub(crate) fn take(&self, rpc: Arc<dyn Rpc>) {
        let _ = self.0.set(rpc);
    }

    pub(crate) fn get(&self) -> Option<&Arc<dyn Rpc>> {
        self.0.get()
    }
}
