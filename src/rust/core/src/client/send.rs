//! One request, and its answer as it comes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HeaderName, HeaderValue, AUTHORIZATION, HOST};
use hyper::{HeaderMap, Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;

use super::address::Place;
use super::body::Unreadable;
use super::{told, unfit, ClientError, RequestBody, ServerAddress};
use crate::client_stream::ClientStream;
use crate::sources::replicas::{look_up, Host, Target};
use crate::tls::ClientTls;
use crate::token::Token;

/// A server, and how it is reached.
pub struct Client {
    pub address: ServerAddress,
    /// Whose certificates are believed, if the server speaks TLS.
    pub tls: Option<Arc<ClientTls>>,
    pub token: Option<Token>,
    /// How long lookup, connecting and the handshake of TLS may take together.
    pub connect_timeout: Duration,
}

/// A request.
pub struct Outgoing {
    pub method: Method,
    /// The target's path, from the server's base on, and its query: ASCII, begins with `/`.
    pub path: String,
    pub headers: HeaderMap,
    pub body: RequestBody,
}

impl Outgoing {
    /// From texts.
    ///
    /// # Errors
    /// What of it no request may hold.
    pub fn new(
        method: &str,
        path: String,
        headers: &[(&str, &str)],
        body: RequestBody,
    ) -> Result<Self, String> {
        let method = Method::from_bytes(method.as_bytes());
        let mut sent = HeaderMap::new();
        for (name, value) in headers {
            let unfit = || format!("header `{name}`");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?;
            let value = HeaderValue::from_str(value).map_err(|_| unfit())?;
            sent.append(name, value);
        }
        Ok(Self {
            method: method.map_err(|_| "this method".to_owned())?,
            path,
            headers: sent,
            body,
        })
    }
}

/// The head of an answer, and its body as it comes. To drop it closes the connection.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    body: Incoming,
    _connection: Connected,
}

/// The task that reads and writes; it ends with this.
struct Connected(AbortHandle);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Client {
    /// Sends a request and waits for its answer's head. There is no limit to its time but that for connecting.
    ///
    /// # Errors
    /// There is none; see [`ClientError`].
    pub async fn send(&self, outgoing: Outgoing) -> Result<Answer, ClientError> {
        let stream = tokio::time::timeout(self.connect_timeout, self.connect())
            .await
            .unwrap_or_else(|_| {
                let seconds = self.connect_timeout.as_secs_f64();
                Err(format!("there was no connection within {seconds} s"))
            })
            .map_err(ClientError::Connect)?;
        let request = self.request(outgoing)?;
        let unfit = |error: hyper::Error| ClientError::Answer(unfit(&error));
        let (mut sender, connection) = http1::Builder::new()
            .max_headers(1000)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(unfit)?;
        // What becomes of it, the exchange tells.
        let task = tokio::spawn(async move { drop(connection.await) });
        let connected = Connected(task.abort_handle());
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| match unreadable(&error) {
            Some(problem) => ClientError::File(problem),
            None => unfit(error),
        })?;
        let (head, body) = response.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
            _connection: connected,
        })
    }

    fn request(&self, outgoing: Outgoing) -> Result<Request<RequestBody>, ClientError> {
        let bad = |what: &str| ClientError::Answer(format!("{what} cannot be sent"));
        let mut request = Request::new(outgoing.body);
        *request.method_mut() = outgoing.method;
        let target = format!("{}{}", self.address.base, outgoing.path);
        *request.uri_mut() = target.parse::<Uri>().map_err(|_| bad("such a path"))?;
        *request.headers_mut() = outgoing.headers;
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(&self.address.authority);
        headers.insert(HOST, host.map_err(|_| bad("such a host"))?);
        if let Some(token) = &self.token {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", token.reveal()));
            let mut bearer = bearer.map_err(|_| bad("such a token"))?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        Ok(request)
    }

    async fn connect(&self) -> Result<ClientStream, String> {
        let socket = match &self.address.place {
            Place::Callers(callers) => return callers.take().await.map_err(|e| told(&e)),
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|e| told(&e))?;
                return Ok(ClientStream::Unix(stream));
            }
            Place::Tcp { host, port } => connect_to(&addresses(host, *port).await?).await?,
        };
        // Costs at most some latency.
        let _ = socket.set_nodelay(true);
        if !self.address.tls {
            return Ok(ClientStream::Tcp(socket));
        }
        let Some(tls) = &self.tls else {
            return Err("nobody vouches for its certificate".into());
        };
        tls.connect(self.address.host_name(), socket)
            .await
            .map_err(|error| format!("TLS: {}", told(&error)))
    }
}

async fn addresses(host: &Host, port: u16) -> Result<Vec<SocketAddr>, String> {
    let at = |address: IpAddr| SocketAddr::new(address, port);
    Ok(match host {
        Host::Address(address) => vec![at(*address)],
        Host::Loopback => vec![
            at(Ipv4Addr::LOCALHOST.into()),
            at(Ipv6Addr::LOCALHOST.into()),
        ],
        Host::Name(name) | Host::Service(name) => {
            let target = Target::parse(&format!("http://{name}:{port}"))?;
            let found = look_up(&target, None).await;
            let found = found.map_err(|error| error.to_string())?;
            found.addresses.into_iter().collect()
        }
    })
}

/// At the first of them that takes it.
async fn connect_to(addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut first = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            // The others are second choice: why the first does not is what matters.
            Err(error) => first = first.or(Some(told(&error))),
        }
    }
    Err(first.unwrap_or_else(|| "the name has no addresses".into()))
}

impl Answer {
    /// The next bytes of the body; `None` at its end.
    ///
    /// # Errors
    /// The connection is lost before the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        loop {
            return match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) => Some(Ok(data)),
                    // Trailers.
                    Err(_) => continue,
                },
                Err(_) => Some(Err(ClientError::Answer("its answer was broken off".into()))),
            };
        }
    }

    /// The whole body, of `most` bytes at most.
    ///
    /// # Errors
    /// It is longer, or the connection is lost before the end.
    pub async fn whole(mut self, most: u64) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(data) = self.next().await {
            let data = data?;
            if (body.len() + data.len()) as u64 > most {
                return Err(ClientError::TooLarge(most));
            }
            body.extend_from_slice(&data);
        }
        Ok(body)
    }
}

/// Why the request's own file could not be read, if that is what went wrong.
fn unreadable(error: &hyper::Error) -> Option<String> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(unreadable) = error.downcast_ref::<Unreadable>() {
            return Some(unreadable.to_string());
        }
        cause = error.source();
    }
    None
}
