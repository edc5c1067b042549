//! gRPC on the port of all else: functions are called and managed by it, as `inst/protocol/functions.proto` says. Each call
//! becomes requests that this server makes of itself by HTTP: whatever holds for those holds for it.

mod answers;
mod ask;
mod deadline;
mod functions;
mod health;
mod invoke;
mod json;
mod logs;
mod message_meter;
mod messages;
mod reflection;
mod status;

/// What is generated from `inst/protocol/functions.proto`, by `tools/rpc/generate`.
#[allow(clippy::all, clippy::pedantic)]
mod proto {
    include!("generated/faucet.v1.rs");

    /// Its description, for reflection: a `FileDescriptorSet`.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/faucet.v1.binpb");
}

use std::future::Future;
use std::sync::Arc;

use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::server::NamedService;
use tonic::Status;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::pb::{v1, v1alpha};

use self::ask::Asking;
use self::deadline::Deadline;
use self::functions::Functions;
use self::health::Health;
use self::messages::Messages;
use self::proto::functions_server::FunctionsServer;
use self::reflection::{Descriptions, Reflection};
use crate::front::{Answering, Arriving, Caller, Cause, Reply, RequestBody, Rpc};

/// A message may have so many bytes, in either direction: as much as gRPC's clients take if nobody tells them otherwise.
const LARGEST_MESSAGE: usize = 4 * 1024 * 1024;

const FUNCTIONS: &str = <FunctionsServer<Functions> as NamedService>::NAME;
const HEALTH: &str = <HealthServer<Health> as NamedService>::NAME;
const REFLECTION: &str =
    <v1::server_reflection_server::ServerReflectionServer<Reflection> as NamedService>::NAME;
const REFLECTION_ALPHA: &str =
    <v1alpha::server_reflection_server::ServerReflectionServer<Reflection> as NamedService>::NAME;

/// What is served here.
const SERVICES: [&str; 4] = [FUNCTIONS, HEALTH, REFLECTION, REFLECTION_ALPHA];

/// The services of a server that keeps functions.
pub(crate) struct Services {
    descriptions: Arc<Descriptions>,
    /// Set when the server is about to end.
    closing: watch::Sender<bool>,
}

impl Services {
    pub(crate) fn new() -> Self {
        Self {
            descriptions: Arc::new(Descriptions::new()),
            closing: watch::channel(false).0,
        }
    }
}

/// The service of a path like `/faucet.v1.Functions/List`.
fn service_of(path: &str) -> Option<&str> {
    Some(path.strip_prefix('/')?.split_once('/')?.0)
}

/// Whether it is gRPC with messages as protoc has them.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    let end = kind.iter().position(|byte| matches!(byte, b';' | b' '));
    let kind = &kind[..end.unwrap_or(kind.len())];
    [&b"application/grpc"[..], b"application/grpc+proto"].contains(&kind)
}

impl Rpc for Services {
    fn is_for(&self, path: &str) -> bool {
        service_of(path).is_some_and(|service| SERVICES.contains(&service))
    }

    fn serve(&self, caller: Caller, request: Request<RequestBody>) -> Answering {
        if request.method() != Method::POST || !is_grpc(request.headers()) {
            return Box::pin(std::future::ready(no_grpc(request.method())));
        }
        let deadline = match Deadline::of(request.headers()) {
            Ok(deadline) => deadline,
            Err(status) => return Box::pin(std::future::ready(replied(status.into_http()))),
        };
        let front = caller.front.clone();
        let store = front.store.clone();
        let patience = front.limits.idle_timeout;
        let connection = caller.connection.clone();
        let asking = Asking::new(caller, &request, deadline);
        let request = request.map(|body| {
            let body = Arriving::new(body, connection, patience);
            Messages::new(body, store)
        });
        let closing = self.closing.subscribe();
        match service_of(request.uri().path()) {
            Some(HEALTH) => answered(
                HealthServer::new(Health::new(front, closing)).call(request),
                deadline,
            ),
            Some(REFLECTION) => {
                let service = Reflection::new(self.descriptions.clone(), closing);
                let mut server = v1::server_reflection_server::ServerReflectionServer::new(service);
                answered(server.call(request), deadline)
            }
            Some(REFLECTION_ALPHA) => {
                let service = Reflection::new(self.descriptions.clone(), closing);
                let mut server =
                    v1alpha::server_reflection_server::ServerReflectionServer::new(service);
                answered(server.call(request), deadline)
            }
            _ => answered(
                FunctionsServer::new(Functions::new(asking))
                    .max_decoding_message_size(LARGEST_MESSAGE)
                    .call(request),
                deadline,
            ),
        }
    }

    fn refuse(&self, cause: Cause) -> Response<Reply> {
        let status = match cause {
            // Not that something is missing where it was looked for: there is nobody to look.
            Cause::NoRoute => Status::unimplemented("no such service is here"),
            cause => status::of_cause(cause),
        };
        replied(status.into_http())
    }

    fn close(&self) {
        self.closing.send_replace(true);
    }
}

/// What such an answer becomes, within its deadline if there is one.
fn answered<E: Send + 'static>(
    answer: impl Future<Output = Result<Response<Body>, E>> + Send + 'static,
    deadline: Option<Deadline>,
) -> Answering {
    let answer = async {
        // tonic's services answer errors, too.
        let none = |_| Status::internal("this has no answer").into_http();
        answer.await.unwrap_or_else(none)
    };
    match deadline {
        None => Box::pin(async { replied(answer.await) }),
        Some(deadline) => Box::pin(async move { replied(deadline.bound(answer).await) }),
    }
}

fn replied(response: Response<Body>) -> Response<Reply> {
    response.map(answers::reply)
}

/// Whoever speaks something else has no use for a status of gRPC's (gRPC over HTTP/2, "Requests").
fn no_grpc(method: &Method) -> Response<Reply> {
    let mut response = Response::new(Reply::empty());
    *response.status_mut() = match *method {
        Method::POST => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        _ => StatusCode::METHOD_NOT_ALLOWED,
    };
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_calls_are_served_here() {
        let services = Services::new();
        for path in [
            "/faucet.v1.Functions/Invoke",
            "/faucet.v1.Functions/NoSuchMethod",
            "/grpc.health.v1.Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(services.is_for(path), "{path}");
        }
        for path in ["/faucet.v1.Functions", "/a/b", "/", "*", "/functions/a"] {
            assert!(!services.is_for(path), "{path}");
        }
        for (kind, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc+json", false),
            ("application/json", false),
        ] {
            let headers = HeaderMap::from_iter([(
                CONTENT_TYPE,
                hyper::header::HeaderValue::from_static(kind),
            )]);
            assert_eq!(is_grpc(&headers), grpc, "{kind}");
        }
    }
}
