//! One client for HTTP/1.1, HTTP/2 and gRPC: a connection, and requests on it one after another.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::str::FromStr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::{CONTENT_TYPE, HOST, TE};
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::grpc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Http1,
    Http2,
    /// Unary, over HTTP/2.
    Grpc,
}

/// What is asked, again and again. Its answer must be what was sent.
#[derive(Debug, Clone)]
pub struct Asked {
    pub kind: Kind,
    pub address: SocketAddr,
    /// Of HTTP, the path with its query; of gRPC, the chain.
    pub path: String,
    pub media_type: String,
    pub body: Bytes,
}

/// A connection for requests of one kind. Dropping it closes it.
pub struct Connection {
    sender: Sender,
    /// Ends with the sender.
    driver: tokio::task::JoinHandle<()>,
}

enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "http1" => Ok(Self::Http1),
            "http2" => Ok(Self::Http2),
            "grpc" => Ok(Self::Grpc),
            _ => Err(format!("{text}: not http1, http2 or grpc")),
        }
    }
}

impl Connection {
    /// To be called in a runtime, which then drives it.
    pub async fn open(kind: Kind, address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let io = TokioIo::new(stream);
        let (sender, driver) = match kind {
            Kind::Http1 => {
                let (sender, connection) = http1::handshake(io).await.map_err(Error::other)?;
                let driver = tokio::spawn(async { drop(connection.await) });
                (Sender::Http1(sender), driver)
            }
            Kind::Http2 | Kind::Grpc => {
                let executor = TokioExecutor::new();
                let made = http2::handshake(executor, io).await;
                let (sender, connection) = made.map_err(Error::other)?;
                let driver = tokio::spawn(async { drop(connection.await) });
                (Sender::Http2(sender), driver)
            }
        };
        Ok(Self { sender, driver })
    }

    /// Anything but the body that was sent is an error.
    pub async fn exchange(&mut self, asked: &Asked) -> Result<()> {
        let response = self.send(asked.request()).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(Error::other)?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let bytes = body.to_bytes();
        if head.status != StatusCode::OK {
            let told = String::from_utf8_lossy(&bytes);
            return Err(Error::other(format!("status {}: {told}", head.status)));
        }
        let answer = match asked.kind {
            Kind::Http1 | Kind::Http2 => &bytes[..],
            Kind::Grpc => {
                // An answer without a message has them in its head.
                let status = trailers
                    .get("grpc-status")
                    .or(head.headers.get("grpc-status"));
                if status.map_or(true, |status| status != "0") {
                    let message = trailers
                        .get("grpc-message")
                        .or(head.headers.get("grpc-message"));
                    return Err(Error::other(format!("gRPC status {status:?}: {message:?}")));
                }
                grpc::data(&bytes)?
            }
        };
        if answer == &asked.body[..] {
            return Ok(());
        }
        let told = String::from_utf8_lossy(answer);
        Err(Error::new(
            ErrorKind::InvalidData,
            format!("another answer: {told}"),
        ))
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let sent = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await.map_err(Error::other)?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => sender.send_request(request).await,
        };
        sent.map_err(Error::other)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Asked {
    fn request(&self) -> Request<Full<Bytes>> {
        let request = Request::post(self.uri());
        let request = match self.kind {
            Kind::Http1 => request
                .header(HOST, self.address.to_string())
                .header(CONTENT_TYPE, &self.media_type),
            Kind::Http2 => request
                .version(Version::HTTP_2)
                .header(CONTENT_TYPE, &self.media_type),
            Kind::Grpc => request
                .version(Version::HTTP_2)
                .header(CONTENT_TYPE, grpc::CONTENT_TYPE)
                .header(TE, "trailers"),
        };
        let body = match self.kind {
            Kind::Grpc => grpc::request(&self.path, &self.media_type, &self.body).into(),
            Kind::Http1 | Kind::Http2 => self.body.clone(),
        };
        request.body(Full::new(body)).expect("paths are checked")
    }

    fn uri(&self) -> String {
        match self.kind {
            Kind::Http1 => self.path.clone(),
            Kind::Http2 => format!("http://{}{}", self.address, self.path),
            Kind::Grpc => format!("http://{}{}", self.address, grpc::CALL),
        }
    }
}
