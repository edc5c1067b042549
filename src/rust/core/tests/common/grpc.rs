//! gRPC on the wire: a client and a service that do what a test says.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::BoxBody;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Notify;

use super::agent::Agent;
use super::within;

type Body = Channel<Bytes, std::io::Error>;
pub type Client = SendRequest<Body>;
pub type Input = Sender<Bytes, std::io::Error>;

pub async fn connect(agent: &Agent) -> Client {
    connect_to(&agent.url()).await
}

pub async fn connect_to(url: &str) -> Client {
    let stream = tokio::net::TcpStream::connect(url.trim_start_matches("http://"))
        .await
        .expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    client
}

/// A message of these fields: numbers below 16, and bytes.
pub fn message(fields: &[(u8, &[u8])]) -> Bytes {
    let mut content = Vec::new();
    for (number, bytes) in fields {
        content.push(number << 3 | 2);
        let mut length = bytes.len();
        while length > 127 {
            content.push(length as u8 | 128);
            length >>= 7;
        }
        content.push(length as u8);
        content.extend_from_slice(bytes);
    }
    let length = u32::try_from(content.len()).expect("small").to_be_bytes();
    [&[0][..], &length, &content].concat().into()
}

/// Begins a call; its input is what the test sends.
pub async fn begin(
    client: &mut Client,
    path: &str,
    more: &[(&'static str, &str)],
) -> (
    Input,
    impl Future<Output = hyper::Result<Response<Incoming>>>,
) {
    client.ready().await.expect("it is connected");
    let (sender, body) = Channel::new(8);
    let mut request = Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    let response = client.send_request(request.body(body).expect("a request"));
    (sender, response)
}

/// The code of an answer, its trailers and the bytes before them.
pub async fn ended(
    answer: impl Future<Output = hyper::Result<Response<Incoming>>>,
) -> (u32, HeaderMap, Bytes) {
    let response = within("an answer", answer).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let (parts, body) = response.into_parts();
    let body = within("its end", body.collect()).await.expect("an end");
    // An answer without messages is trailers alone.
    let trailers = body.trailers().cloned().unwrap_or(parts.headers);
    let code = trailers["grpc-status"].to_str().expect("a code");
    (code.parse().expect("a number"), trailers, body.to_bytes())
}

pub async fn send(sender: &mut Input, bytes: Bytes) {
    within("room", sender.send_data(bytes))
        .await
        .expect("it is read");
}

/// Calls with all of the input.
pub async fn call(client: &mut Client, path: &str, input: Bytes) -> (u32, HeaderMap, Bytes) {
    let (mut sender, answer) = begin(client, path, &[]).await;
    // Who is refused early is answered before all is read.
    let _ = within("room", sender.send_data(input)).await;
    drop(sender);
    ended(answer).await
}

/// A service: `Echo` answers each message as it comes, `Fail` with trailers alone, and `Hold` when the test says so.
pub struct Service {
    pub url: String,
    pub seen: Arc<Seen>,
    task: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
pub struct Seen {
    now: AtomicUsize,
    pub most: AtomicUsize,
    /// Calls that were given up before they were answered.
    pub given_up: AtomicUsize,
    pub calls: AtomicUsize,
    pub go_on: Notify,
}

/// Counts a call while it lasts.
struct Busy(Arc<Seen>, bool);

impl Busy {
    fn new(seen: &Arc<Seen>) -> Self {
        seen.calls.fetch_add(1, Ordering::SeqCst);
        let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now, Ordering::SeqCst);
        Self(seen.clone(), false)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        if !self.1 {
            self.0.given_up.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Service {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let url = format!("grpc://{}", listener.local_addr().expect("an address"));
        let seen = Arc::new(Seen::default());
        let for_all = seen.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("a socket");
                let seen = for_all.clone();
                let service = hyper::service::service_fn(move |request| {
                    let seen = seen.clone();
                    async move { Ok::<_, std::io::Error>(serve(request, seen).await) }
                });
                connections.spawn(async move {
                    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    // Broken off by whoever is done.
                    let _ = server.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { url, seen, task }
    }

    /// Ends it, and its connections.
    pub async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn serve(
    request: Request<Incoming>,
    seen: Arc<Seen>,
) -> Response<BoxBody<Bytes, std::io::Error>> {
    let mut busy = Busy::new(&seen);
    let path = request.uri().path().to_owned();
    let told: Vec<_> = ["x-request-id", "grpc-timeout", "te"]
        .into_iter()
        .filter_map(|name| Some((name, request.headers().get(name)?.clone())))
        .collect();
    let mut response = Response::builder().header("content-type", "application/grpc");
    for (name, value) in told {
        response = response.header(format!("told-{name}"), value);
    }
    let trailers = |code: &str| {
        HeaderMap::from_iter([(
            "grpc-status".parse().expect("a name"),
            code.parse().expect("a value"),
        )])
    };
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    match path.rsplit('/').next() {
        Some("Fail") => {
            busy.1 = true;
            response = response.header("grpc-status", "9");
            let body = http_body_util::Empty::new().map_err(|never| match never {});
            return response.body(body.boxed()).expect("an answer");
        }
        Some("Hold") => {
            seen.go_on.notified().await;
            busy.1 = true;
            tokio::spawn(async move { sender.send_trailers(trailers("0")).await });
        }
        _ => {
            let mut input = request.into_body();
            tokio::spawn(async move {
                // All of it, and not what is assigned to alone.
                let mut busy = busy;
                while let Some(frame) = input.frame().await {
                    let Ok(Ok(data)) = frame.map(|frame| frame.into_data()) else {
                        return;
                    };
                    if sender.send_data(data).await.is_err() {
                        return;
                    }
                }
                if !input.is_end_stream() {
                    return;
                }
                busy.1 = sender.send_trailers(trailers("0")).await.is_ok();
            });
        }
    }
    response.body(body.boxed()).expect("an answer")
}
