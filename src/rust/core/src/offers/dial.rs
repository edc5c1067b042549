//! Dialling a hub: the connection, and the one request before the roles turn round.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{HeaderValue, AUTHORIZATION, CONNECTION, HOST, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{HubAddress, OffersSettings};
use crate::client::{told, unfit};
use crate::client_stream::ClientStream;
use crate::ops::printable;
use crate::sources::hub::{NAME, PATH, PROTOCOL, ROUTE};
use crate::tls::ClientTls;
use crate::worker::watch_slot;

/// How long it may take until a slot is offered.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest explanation of a refusal that is read, in bytes.
const LONGEST_EXPLANATION: usize = 4096;

/// A connection on which the hub asks from now on.
pub struct Slot {
    pub stream: ClientStream,
    /// What it has asked already.
    pub unread: Bytes,
}

/// Offers a slot at `address`.
///
/// # Errors
/// Why there is none, in few words.
pub async fn dial(
    address: SocketAddr,
    hub: &HubAddress,
    tls: Option<&ClientTls>,
    settings: &OffersSettings,
) -> Result<Slot, String> {
    match tokio::time::timeout(PATIENCE, offer(address, hub, tls, settings)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn offer(
    address: SocketAddr,
    hub: &HubAddress,
    tls: Option<&ClientTls>,
    settings: &OffersSettings,
) -> Result<Slot, String> {
    let stream = connect(address).await.map_err(|error| told(&error))?;
    let stream = match tls.filter(|_| hub.tls) {
        None => ClientStream::Tcp(stream),
        Some(tls) => tls
            .connect(&hub.host, stream)
            .await
            .map_err(|error| format!("TLS: {}", told(&error)))?,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = request(hub, settings)?;
    let exchange = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| unfit(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        let upgraded = hyper::upgrade::on(response).await;
        let upgraded = upgraded.map_err(|error| unfit(&error))?;
        let parts = upgraded
            .downcast::<TokioIo<ClientStream>>()
            .map_err(|_| "the connection is of another kind".to_owned())?;
        Ok(Slot {
            stream: parts.io.into_inner(),
            unread: parts.read_buf,
        })
    };
    tokio::pin!(exchange);
    let mut connection = std::pin::pin!(connection.with_upgrades());
    let mut over = false;
    loop {
        tokio::select! {
            biased;
            outcome = exchange.as_mut() => return outcome,
            // What it came to, the exchange tells.
            _ = connection.as_mut(), if !over => over = true,
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    watch_slot((&stream).into());
    Ok(stream)
}

fn request(hub: &HubAddress, settings: &OffersSettings) -> Result<Request<Empty<Bytes>>, String> {
    let value = |text: &str, what: &str| {
        HeaderValue::from_str(text).map_err(|_| format!("{what} cannot be sent in a header"))
    };
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = PATH.parse().map_err(|_| "there is no such path")?;
    let headers = request.headers_mut();
    headers.insert(HOST, value(&hub.authority(), "the hub's name")?);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    headers.insert(NAME, value(&settings.name, "the worker's name")?);
    if &**settings.route.name() != "/" {
        headers.insert(ROUTE, value(settings.route.name(), "the route")?);
    }
    if let Some(token) = &settings.token {
        let mut bearer = value(&format!("Bearer {}", token.reveal()), "the token")?;
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    Ok(request)
}

async fn refusal(response: Response<Incoming>) -> String {
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST_EXPLANATION);
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let explained = serde_json::from_slice::<serde_json::Value>(&body);
    let explained = explained.ok().and_then(|body| {
        let error = body.get("error")?.as_str()?;
        Some(printable::one_line(error.to_owned()))
    });
    explained.unwrap_or_else(|| format!("it answers {status}, as no hub does"))
}
