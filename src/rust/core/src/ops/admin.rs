//! The admin port: `/metrics` and `/status`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::front::Front;

/// How long an operator's client may take for a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the admin port until dropped.
pub async fn serve_admin(listener: TcpListener, front: Arc<Front>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("admin port cannot accept: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let front = front.clone();
        let service = service_fn(move |request| {
            let response = respond(&front, &request);
            async move { Ok::<_, Infallible>(response) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service);
        // An operator's broken connection concerns nobody else.
        tokio::spawn(async move { connection.await.ok() });
    }
}

fn respond(front: &Front, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, kind, body) = if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let error = r#"{"error":"405 - Method Not Allowed"}"#.to_owned();
        (StatusCode::METHOD_NOT_ALLOWED, "application/json", error)
    } else {
        match request.uri().path() {
            "/metrics" => (
                StatusCode::OK,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                front.render_metrics(),
            ),
            "/status" => (
                StatusCode::OK,
                "application/json",
                front.roster.status_with_memory().to_json().to_string(),
            ),
            path => match super::answer(path, || front.status()) {
                Some((status, body)) => (status, "application/json", body.to_string()),
                None => (
                    StatusCode::NOT_FOUND,
                    "application/json",
                    r#"{"error":"404 - Resource Not Found: this port serves /metrics and /status"}"#
                        .to_owned(),
                ),
            },
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
