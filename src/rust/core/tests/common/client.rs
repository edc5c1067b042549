//! A client that writes and reads HTTP/1 by hand.

use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// A complete response.
#[derive(Debug)]
pub struct Response {
    pub version: String,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Interim responses that came before it.
    pub interim: Vec<u16>,
}

/// What came before the connection ended.
#[derive(Debug)]
pub struct Incomplete {
    pub head: Option<u16>,
    pub bytes: usize,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub fn trailer(&self, name: &str) -> Option<&str> {
        find(&self.trailers, name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    /// Why faucet answered itself; checks that it says so in both ways.
    pub fn cause(&self) -> &str {
        let cause = self
            .header("faucet-error")
            .unwrap_or_else(|| panic!("no Faucet-Error in {self:?}"));
        assert_eq!(self.header("content-type"), Some("application/json"));
        if !self.body.is_empty() {
            let body: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
            let error = body["error"].as_str().expect("an error");
            assert!(error.starts_with(&self.status.to_string()), "{error}");
        }
        cause
    }
}

pub fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.as_str())
}

/// Name and value of each header line, names in lower case.
pub fn parse_headers(lines: &str) -> Vec<(String, String)> {
    lines
        .split("\r\n")
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').expect("a header line");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        })
        .collect()
}

pub struct Client<S = TcpStream> {
    pub stream: S,
    pub unread: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = within("connecting", TcpStream::connect(address))
            .await
            .expect("the front listens");
        stream.set_nodelay(true).expect("a live socket");
        Self::over(stream)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("sending", self.stream.write_all(bytes.as_ref()))
            .await
            .expect("the front reads");
    }

    /// Sends as much as is taken: the other side may have closed.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("sending", self.stream.write_all(bytes.as_ref()))
            .await
            .is_ok()
    }

    pub async fn get(&mut self, target: &str) -> Response {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .await;
        self.response().await
    }

    pub async fn post(&mut self, target: &str, body: &[u8]) -> Response {
        self.start_post(target, body).await;
        self.response().await
    }

    pub async fn start_get(&mut self, target: &str) {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .await;
    }

    pub async fn start_post(&mut self, target: &str, body: &[u8]) {
        let mut request = format!(
            "POST {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.send(request).await;
    }

    /// Reads more; `false` at the end, whether it was a proper one or not.
    pub async fn fill(&mut self) -> bool {
        let read = within("reading", self.stream.read_buf(&mut self.unread)).await;
        matches!(read, Ok(count) if count > 0)
    }

    /// Everything until the connection ends.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.unread)
    }

    /// Whether the connection ends without another byte.
    pub async fn is_closed(&mut self) -> bool {
        self.rest().await.is_empty()
    }

    pub async fn response(&mut self) -> Response {
        self.try_response(false).await.expect("a complete response")
    }

    /// The response to a HEAD.
    pub async fn response_to_head(&mut self) -> Response {
        self.try_response(true).await.expect("a complete response")
    }

    async fn line(&mut self, taken: usize) -> Result<Vec<u8>, Incomplete> {
        loop {
            if let Some(at) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.unread.drain(..at + 2).take(at).collect();
                return Ok(line);
            }
            if !self.fill().await {
                return Err(Incomplete {
                    head: None,
                    bytes: taken + self.unread.len(),
                });
            }
        }
    }

    async fn head(&mut self) -> Result<(String, u16, Vec<(String, String)>), Incomplete> {
        let mut head = String::new();
        loop {
            let line = self.line(head.len()).await?;
            if line.is_empty() {
                break;
            }
            head.push_str(&String::from_utf8(line).expect("text"));
            head.push_str("\r\n");
        }
        let (first, headers) = head.split_once("\r\n").expect("a status line");
        let mut words = first.split(' ');
        let version = words.next().expect("a version").to_owned();
        let status = words.next().expect("a status").parse().expect("a number");
        Ok((version, status, parse_headers(headers)))
    }

    async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, usize> {
        while self.unread.len() < count {
            if !self.fill().await {
                return Err(self.unread.len());
            }
        }
        Ok(self.unread.drain(..count).collect())
    }

    pub async fn try_response(&mut self, bodiless: bool) -> Result<Response, Incomplete> {
        let mut interim = Vec::new();
        let (version, status, headers) = loop {
            let (version, status, headers) = self.head().await?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
            } else {
                break (version, status, headers);
            }
        };
        let broken = |bytes| Incomplete {
            head: Some(status),
            bytes,
        };
        let mut response = Response {
            version,
            status,
            headers,
            body: Vec::new(),
            trailers: Vec::new(),
            interim,
        };
        let chunked = response.header("transfer-encoding") == Some("chunked");
        let length = response
            .header("content-length")
            .map(|length| length.parse().expect("a length"));
        if bodiless || matches!(status, 101 | 204 | 304) {
            return Ok(response);
        }
        if chunked {
            loop {
                let line = self
                    .line(response.body.len())
                    .await
                    .map_err(|_| broken(response.body.len()))?;
                let text = String::from_utf8(line).expect("a chunk's size");
                let size = usize::from_str_radix(&text, 16).expect("a chunk's size");
                if size == 0 {
                    break;
                }
                let chunk = self
                    .exactly(size + 2)
                    .await
                    .map_err(|_| broken(response.body.len()))?;
                response.body.extend_from_slice(&chunk[..size]);
            }
            let mut trailers = String::new();
            loop {
                let line = self
                    .line(0)
                    .await
                    .map_err(|_| broken(response.body.len()))?;
                if line.is_empty() {
                    break;
                }
                trailers.push_str(&String::from_utf8(line).expect("text"));
                trailers.push_str("\r\n");
            }
            response.trailers = parse_headers(&trailers);
        } else if let Some(length) = length {
            response.body = self.exactly(length).await.map_err(broken)?;
        } else {
            response.body = self.rest().await;
        }
        Ok(response)
    }
}
