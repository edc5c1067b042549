//! The one request that a worker sends before the roles turn round: see `inst/protocol/slot.md`.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    HeaderMap, HeaderName, HeaderValue, CONNECTION, CONTENT_TYPE, UPGRADE, WWW_AUTHENTICATE,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::oneshot;

use super::Token;
use crate::client_stream::ClientStream;
use crate::front::FAUCET_ERROR;
use crate::pool::Route;

/// What the connection becomes.
pub const PROTOCOL: &str = "faucet-slot/1";

/// Where slots are offered.
pub const PATH: &str = "/slot";

/// In the request: what the worker calls itself.
pub const NAME: HeaderName = HeaderName::from_static("faucet-worker");

/// In the request: the path prefix that the slot serves; without it, all paths.
pub const ROUTE: HeaderName = HeaderName::from_static("faucet-route");

/// The longest name, in bytes.
pub const LONGEST_NAME: usize = 64;

/// The longest head of a handshake, in bytes. hyper takes no less.
const LONGEST_HEAD: usize = 8192;

/// A slot that is offered.
pub struct Hello {
    pub name: Arc<str>,
    pub route: Route,
}

/// Why one is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The token is wrong, or missing.
    Unauthorized,
    /// It is no handshake; what is wrong with it.
    Malformed(String),
    /// The hub is shutting down, or has no room.
    Unavailable(&'static str),
}

impl Refusal {
    /// For the `Faucet-Error` header and the metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unauthorized => "unauthorized",
            Self::Malformed(_) => "malformed",
            Self::Unavailable(_) => "unavailable",
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        let (status, text) = match self {
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "the token is missing, or not the hub's",
            ),
            Self::Malformed(why) => (StatusCode::BAD_REQUEST, why.as_str()),
            Self::Unavailable(why) => (StatusCode::SERVICE_UNAVAILABLE, *why),
        };
        let text = format!(
            "{} - {}: {text}",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        );
        let body = serde_json::json!({ "error": text }).to_string();
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        headers.insert(FAUCET_ERROR, HeaderValue::from_static(self.name()));
        if *self == Self::Unauthorized {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Speaks with a worker that has just connected. The slot and its connection; or why there is none, which the worker has been
/// told.
///
/// # Errors
/// The connection broke.
pub async fn shake_hands(
    stream: ClientStream,
    token: Option<&Token>,
    unavailable: Option<&'static str>,
) -> io::Result<Result<(Hello, ClientStream), Refusal>> {
    let (tell, told) = oneshot::channel();
    // hyper asks once; nothing says so.
    let tell = Mutex::new(Some(tell));
    let service = service_fn(|mut request: Request<Incoming>| {
        let (outcome, response) = match read(&request, token, unavailable) {
            Err(refusal) => (Err(refusal.clone()), refusal.response()),
            Ok(hello) => {
                let upgrade = hyper::upgrade::on(&mut request);
                (Ok((hello, upgrade)), switching())
            }
        };
        if let Some(tell) = tell.lock().ok().and_then(|mut tell| tell.take()) {
            // Its other end is below.
            let _ = tell.send(outcome);
        }
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .max_buf_size(LONGEST_HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
        .map_err(io::Error::other)?;
    match told.await {
        Ok(Ok((hello, upgrade))) => Ok(match take_over(upgrade).await? {
            Some(stream) => Ok((hello, stream)),
            None => Err(Refusal::Malformed(
                "it speaks without being asked".to_owned(),
            )),
        }),
        Ok(Err(refusal)) => Ok(Err(refusal)),
        Err(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The connection beneath; none if the worker has said something already.
async fn take_over(upgrade: OnUpgrade) -> io::Result<Option<ClientStream>> {
    let upgraded = upgrade.await.map_err(io::Error::other)?;
    let parts = upgraded
        .downcast::<TokioIo<ClientStream>>()
        .map_err(|_| io::Error::other("the connection is of another kind"))?;
    Ok(parts.read_buf.is_empty().then(|| parts.io.into_inner()))
}

fn switching() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

fn read<B>(
    request: &Request<B>,
    token: Option<&Token>,
    unavailable: Option<&'static str>,
) -> Result<Hello, Refusal> {
    let malformed = |why: &str| Err(Refusal::Malformed(why.to_owned()));
    let headers = request.headers();
    // First: who does not know it learns nothing else.
    if !token.map_or(true, |token| token.is_shown_in(headers)) {
        return Err(Refusal::Unauthorized);
    }
    if *request.method() != Method::GET || request.uri().path() != PATH {
        return malformed("slots are offered by `GET /slot`");
    }
    if !is_upgrade(headers) {
        return malformed("it lacks `Connection: Upgrade` and `Upgrade: faucet-slot/1`");
    }
    let Some(name) = headers.get(NAME).and_then(name_of) else {
        return malformed("`Faucet-Worker` must be a name of 1 to 64 visible ASCII characters");
    };
    let route = match headers.get(ROUTE) {
        None => Route::root(),
        Some(route) => {
            let route = std::str::from_utf8(route.as_bytes())
                .ok()
                .filter(|route| route.starts_with('/'));
            let Some(route) = route else {
                return malformed("`Faucet-Route` must be a path, such as `/model-a`");
            };
            match Route::parse(route) {
                Ok(route) => route,
                Err(problem) => return malformed(&format!("`Faucet-Route`: {problem}")),
            }
        }
    };
    match unavailable {
        Some(why) => Err(Refusal::Unavailable(why)),
        None => Ok(Hello { name, route }),
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| {
        headers.get_all(name).iter().any(|value| {
            let value = value.to_str().unwrap_or_default();
            value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case(wanted))
        })
    };
    has(CONNECTION, "upgrade") && has(UPGRADE, PROTOCOL)
}

fn name_of(value: &HeaderValue) -> Option<Arc<str>> {
    let name = value.to_str().ok()?;
    let fits = (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| name.into())
}
