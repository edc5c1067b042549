//! The admin port: `/metrics` and `/status`, for those who ask by a name that is its own.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, CONTENT_TYPE, HOST, VARY};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::Exposition;
use crate::app_metrics;
use crate::client_stream::ClientStream;
use crate::environment::SystemError;
use crate::front::{Front, Listener};

/// Connections at a time. For one more, the one that asked for nothing for the longest time is closed.
const MOST: usize = 64;

/// How long a connection may ask for nothing where clients may do so for ever.
const IDLE: Duration = Duration::from_secs(75);

/// The names by which the port may be asked. A page in an operator's browser can have any name of its own lead to this
/// address (DNS rebinding), and read what it serves; it cannot make the browser ask by another name.
#[derive(Clone, Debug)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// `own` is what the port is bound to, `further` what else leads to it. Names of this machine and the address that
    /// a connection arrives at always do.
    pub fn new(own: &str, further: &[String]) -> Self {
        let unspecified = |host: &str| host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
        let hosts = further.iter().map(String::as_str).chain([own]).map(host_of);
        Self(hosts.filter(|host| !unspecified(host)).collect())
    }

    fn allow(&self, authority: &str, arrived_at: Option<IpAddr>) -> bool {
        let host = host_of(authority);
        let own = match host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback() || arrived_at.is_some_and(|own| own == ip.to_canonical()),
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        };
        own || self.0.contains(&host)
    }
}

/// The host of `host:port`, in one form.
fn host_of(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        // Not a part of an IPv6 address.
        Some((host, port))
            if port.bytes().all(|byte| byte.is_ascii_digit())
                && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    };
    let host = host.trim_matches(['[', ']']);
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().to_string(),
        Err(_) => host.to_ascii_lowercase(),
    }
}

/// Counts what happens on the port: who has the lower number asked for something longer ago.
#[derive(Default)]
struct Count(AtomicU64);

impl Count {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// A connection, and when it last asked for something.
struct Open {
    asked: Arc<AtomicU64>,
    task: AbortHandle,
}

/// What its connections share.
struct Port {
    hosts: Hosts,
    front: Arc<Front>,
    count: Count,
}

/// Serves the admin port until dropped.
pub async fn serve_admin(listener: impl Into<Listener>, hosts: Hosts, front: Arc<Front>) {
    let listener = listener.into();
    let port = Arc::new(Port {
        hosts,
        front,
        count: Count::default(),
    });
    let mut open: Vec<Open> = Vec::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("admin port cannot accept: {}", SystemError(&error));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        open.retain(|open| !open.task.is_finished());
        if open.len() >= MOST {
            let asked = |index: &usize| open[*index].asked.load(Ordering::Relaxed);
            if let Some(oldest) = (0..open.len()).min_by_key(asked) {
                open.swap_remove(oldest).task.abort();
            }
        }
        let asked = Arc::new(AtomicU64::new(port.count.next()));
        let conversation = converse(stream, port.clone(), asked.clone());
        let task = tokio::spawn(conversation).abort_handle();
        open.push(Open { asked, task });
    }
}

/// Ends when the client leaves, or asks for nothing for too long.
async fn converse(stream: ClientStream, port: Arc<Port>, asked: Arc<AtomicU64>) {
    let arrived_at = stream.own_address();
    // No page leads a browser there.
    let is_local = matches!(stream, ClientStream::Unix(_));
    let service = service_fn(|request| {
        asked.store(port.count.next(), Ordering::Relaxed);
        let hosts = (!is_local).then_some((&port.hosts, arrived_at));
        let refused = refused(hosts, &request);
        let front = port.front.clone();
        async move {
            Ok::<_, Infallible>(match refused {
                Some(response) => response,
                None => respond(&front, request).await,
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(port.front.limits.header_timeout)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let patience = port.front.limits.idle_timeout.unwrap_or(IDLE);
    loop {
        let before = asked.load(Ordering::Relaxed);
        tokio::select! {
            // An operator's broken connection concerns nobody else.
            _ = &mut connection => return,
            () = tokio::time::sleep(patience) => {
                if asked.load(Ordering::Relaxed) == before {
                    return;
                }
            }
        }
    }
}

/// The answer to those who do not ask by a name of this port. `hosts` are these, with the address that they have asked.
fn refused(
    hosts: Option<(&Hosts, Option<IpAddr>)>,
    request: &Request<Incoming>,
) -> Option<Response<Full<Bytes>>> {
    let mut named = request.headers().get_all(HOST).iter();
    let host = named.next();
    if named.next().is_some() || (host.is_none() && request.version() == Version::HTTP_11) {
        let error = "400 - Bad Request: a request has exactly one Host header";
        return Some(failure(StatusCode::BAD_REQUEST, error));
    }
    let (hosts, arrived_at) = hosts?;
    let allows = |name: Option<&str>| name.is_some_and(|name| hosts.allow(name, arrived_at));
    let by_header = host.map_or(true, |host| allows(host.to_str().ok()));
    let authority = request.uri().authority();
    let by_target = authority.map_or(true, |authority| allows(Some(authority.as_str())));
    if by_header && by_target {
        return None;
    }
    let error = "421 - Misdirected Request: this port is asked by its address, as localhost, or by a name in `admin_hosts`";
    Some(failure(StatusCode::MISDIRECTED_REQUEST, error))
}

fn failure(status: StatusCode, error: &str) -> Response<Full<Bytes>> {
    let body = serde_json::json!({ "error": error }).to_string();
    answer(status, "application/json", body)
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Those of faucet and of the apps. The latter are many, perhaps, and in as many files as there are processes.
async fn metrics(front: &Front, exposition: Exposition) -> String {
    let own = front.render_metrics();
    let apps = front.metrics.apps().clone();
    let all = app_metrics::aside(&Handle::current(), move || {
        exposition.of(app_metrics::insert(own, &apps.render()))
    });
    match all.await {
        Ok(text) => text,
        // It failed, and said so.
        Err(_) => exposition.of(front.render_metrics()),
    }
}

async fn respond(front: &Front, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return failure(StatusCode::METHOD_NOT_ALLOWED, "405 - Method Not Allowed");
    }
    match request.uri().path() {
        "/metrics" => {
            let exposition = Exposition::accepted(request.headers());
            let text = metrics(front, exposition).await;
            let mut response = answer(StatusCode::OK, exposition.content_type(), text);
            response
                .headers_mut()
                .insert(VARY, HeaderValue::from_static("accept"));
            response
        }
        "/status" => {
            let status = front.status_with_memory().to_json().to_string();
            answer(StatusCode::OK, "application/json", status)
        }
        path => match super::answer(path, || front.status()) {
            Some((status, body)) => answer(status, "application/json", body.to_string()),
            None => failure(
                StatusCode::NOT_FOUND,
                "404 - Resource Not Found: this port serves /metrics and /status",
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_answers_to_its_own_names() {
        let further = ["Metrics.example.:9180".to_owned(), "192.0.2.1".to_owned()];
        let hosts = Hosts::new("front.internal", &further);
        let arrived_at = "10.0.0.7".parse().ok();
        for own in [
            "localhost",
            "LOCALHOST:9180",
            "a.localhost",
            "127.0.0.1:9180",
            "127.0.0.2",
            "[::1]:9180",
            "[::1]",
            "10.0.0.7:9180",
            "10.0.0.7",
            "[::ffff:10.0.0.7]:1",
            "front.internal",
            "metrics.example",
            "metrics.example.:80",
            "192.0.2.1:9180",
        ] {
            assert!(hosts.allow(own, arrived_at), "{own}");
        }
        for other in [
            "",
            "evil.example",
            "10.0.0.8",
            "10.0.0.7.evil.example",
            "localhost.evil.example",
            "evil.example:9180",
            "metrics.example.evil",
            "0.0.0.0",
            "[::2]:9180",
            "evillocalhost",
            "127.0.0.1.nip.io",
        ] {
            assert!(!hosts.allow(other, arrived_at), "{other}");
        }
        assert!(!Hosts::new("0.0.0.0", &[]).allow("0.0.0.0", arrived_at));
    }
}
