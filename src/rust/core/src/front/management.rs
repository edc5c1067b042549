//! What is asked of the server itself on its clients' port: to deploy functions, and to tell of them. Whoever keeps the functions
//! answers; here is only how such a request is read and how its answer is written.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use hyper::body::Body;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use serde_json::Value;
use tokio::sync::mpsc;

use super::answers::json;
use super::cause::{Cause, FAUCET_ERROR};
use super::incoming::read_body;
use super::record::Call;
use super::reply::Reply;
use super::request_body::RequestBody;
use super::service::Peer;
use crate::body::{spool, Buffered, FileBody};
use crate::client_address::ClientAddress;
use crate::pool::Pool;

/// How much of an answer that goes on is kept in memory for a client that does not read it, in bytes.
const FOLLOWED: u64 = 64 * 1024;

/// A request for management, its body complete.
pub struct Managed {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Buffered,
    pub client: ClientAddress,
    /// `http://host:port`, as the client has called this server.
    pub base: String,
}

/// Whose a request is, by what it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Its body may have as many bytes.
    Admitted(u64),
    Refused(Cause),
}

/// What a request for management is answered with.
pub enum Told {
    /// `Faucet-Error` is set if there is a cause.
    Json(StatusCode, Option<&'static str>, Value),
    /// With headers of its own.
    Headed(StatusCode, Box<HeaderMap>, Value),
    /// A file, with headers of its own.
    File(Box<HeaderMap>, Box<FileBody>),
    /// Status alone.
    Nothing(StatusCode),
    /// Text that goes on while its writer has some.
    Text(mpsc::Receiver<Bytes>),
    /// The path is one of management's, and has these methods.
    WrongMethod(&'static str),
}

impl Told {
    pub fn ok(value: Value) -> Self {
        Self::Json(StatusCode::OK, None, value)
    }

    pub fn refused(status: StatusCode, cause: &'static str, message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self::Json(status, Some(cause), serde_json::json!({ "error": message }))
    }
}

/// Who answers requests for management, and says who may call functions.
pub trait Management: Send + Sync {
    /// Whether a request with this path is for management.
    fn is_for(&self, path: &str) -> bool;

    /// Whether it may be made, before its body is read.
    fn admit(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        client: ClientAddress,
    ) -> Admission;

    /// It was admitted, but its body was not taken.
    fn refused(&self, method: &Method, uri: &Uri, client: ClientAddress, cause: Cause);

    /// Answers it.
    fn manage(&self, request: Managed) -> Pin<Box<dyn Future<Output = Told> + Send + '_>>;

    /// Whether a chain of functions may be called.
    ///
    /// # Errors
    /// It may not.
    fn admit_invocation(&self, headers: &HeaderMap, client: ClientAddress) -> Result<(), Cause>;

    /// Whether a call of a pool's function may be made; takes from the headers what is not for the function.
    ///
    /// # Errors
    /// It may not.
    fn admit_call(
        &self,
        pool: &Pool,
        headers: &mut HeaderMap,
        client: ClientAddress,
    ) -> Result<(), Cause>;

    /// A worker says that it has refused something of a call.
    fn refused_in_worker(&self, pool: &Pool, what: &HeaderValue, client: ClientAddress);

    /// The server is about to end: answers that go on end.
    fn close(&self);

    /// Resolves when nothing is in flight that no client waits for. To be awaited after [`close`](Self::close).
    fn idle(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;

    /// What is in flight is ended now.
    fn cut(&self);

    /// No worker is left.
    fn end(&self);
}

/// Serves a request for management.
pub async fn manage(
    peer: &Peer,
    management: &dyn Management,
    request: &mut Request<RequestBody>,
    call: &Call,
) -> Result<Response<Reply>, Cause> {
    let admission = management.admit(
        request.method(),
        request.uri(),
        request.headers(),
        peer.address,
    );
    let most = match admission {
        Admission::Admitted(most) => most,
        Admission::Refused(cause) => return Err(cause),
    };
    let body = if request.body().is_end_stream() {
        Buffered::default()
    } else {
        match read_body(peer, most, request.body_mut(), call, None).await {
            Ok(body) => body,
            Err(cause) => {
                management.refused(request.method(), request.uri(), peer.address, cause);
                return Err(cause);
            }
        }
    };
    let base = base_of(peer, request);
    let told = management
        .manage(Managed {
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: std::mem::take(request.headers_mut()),
            client: peer.address,
            base,
            body,
        })
        .await;
    let head = *request.method() == Method::HEAD;
    let written = |status, cause: Option<&'static str>, value: Value| {
        let body = if head {
            String::new()
        } else {
            value.to_string()
        };
        let mut response = json(status, body);
        if let Some(cause) = cause {
            let cause = HeaderValue::from_static(cause);
            response.headers_mut().insert(FAUCET_ERROR, cause);
        }
        response
    };
    Ok(match told {
        Told::Json(status, cause, value) => written(status, cause, value),
        Told::Headed(status, headers, value) => {
            let mut response = written(status, None, value);
            response.headers_mut().extend(*headers);
            response
        }
        Told::File(headers, file) => {
            let length = file.rest();
            let mut response = Response::new(match head {
                true => Reply::empty(),
                false => Reply::file(*file),
            });
            *response.headers_mut() = *headers;
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_LENGTH, length.into());
            response
        }
        Told::WrongMethod(allowed) => {
            let message = format!("this cannot be asked by that method, but by {allowed}");
            let value = serde_json::json!({ "error": message });
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let mut response = written(status, Some("method_not_allowed"), value);
            let allowed = HeaderValue::from_static(allowed);
            response.headers_mut().insert(header::ALLOW, allowed);
            response
        }
        Told::Nothing(status) => {
            let mut response = Response::new(Reply::empty());
            *response.status_mut() = status;
            response
        }
        Told::Text(lines) => text(peer, lines),
    })
}

/// Pushes what comes for as long as the client is there.
fn text(peer: &Peer, mut lines: mpsc::Receiver<Bytes>) -> Response<Reply> {
    let (writer, reader) = spool(&peer.front.store, FOLLOWED, None);
    tokio::spawn(async move {
        loop {
            let chunk = tokio::select! {
                chunk = lines.recv() => chunk,
                () = writer.left() => return,
            };
            let Some(chunk) = chunk else {
                return writer.finish(None);
            };
            if writer.push(chunk).await.is_err() {
                return;
            }
            tokio::select! {
                () = writer.room() => {}
                () = writer.left() => return,
            }
        }
    });
    let mut response = Response::new(Reply::spool(reader));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// How the client has called this server.
fn base_of(peer: &Peer, request: &Request<RequestBody>) -> String {
    let scheme = peer.scheme.to_str().unwrap_or("http");
    let authority = match request.uri().authority() {
        Some(authority) => Some(authority.as_str()),
        None => {
            let host = request.headers().get(header::HOST);
            host.and_then(|host| host.to_str().ok())
        }
    };
    format!("{scheme}://{}", authority.unwrap_or("localhost"))
}
