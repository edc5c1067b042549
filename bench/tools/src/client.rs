//! One blocking HTTP/1.1 client: a connection, and requests on it one after another.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    acknowledging: Acknowledging,
    buffer: Vec<u8>,
    chunk: Box<[u8]>,
}

/// When the kernel acknowledges what it received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledging {
    /// As for any client: after up to 40 ms, if nothing is sent sooner.
    Delayed,
    /// At once. The kernel forgets `TCP_QUICKACK` again and again, so every read asks for it anew.
    AtOnce,
}

const CHUNK: usize = 64 * 1024;

/// A request, written once and sent as often as needed.
#[derive(Debug, Clone)]
pub struct Request {
    bytes: Vec<u8>,
    /// Which status its answer is to have.
    status: u16,
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: usize,
    body_at: usize,
}

impl Request {
    pub fn kept_alive(path: &str) -> Self {
        Self::new(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").into_bytes())
    }

    pub fn posting(path: &str, media_type: &str, body: &[u8]) -> Self {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Self::new([head.as_bytes(), body].concat())
    }

    pub fn closing(path: &str) -> Self {
        Self::new(
            format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").into_bytes(),
        )
    }

    fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, status: 200 }
    }

    /// The same, but its answer is to have this status.
    pub fn answered_with(self, status: u16) -> Self {
        Self { status, ..self }
    }
}

impl Client {
    /// Connects; no later step may block for longer than `timeout` either.
    pub fn connect(address: SocketAddr, timeout: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self {
            stream,
            acknowledging: Acknowledging::Delayed,
            buffer: Vec::new(),
            chunk: vec![0; CHUNK].into(),
        })
    }

    pub fn acknowledging(self, acknowledging: Acknowledging) -> Self {
        Self {
            acknowledging,
            ..self
        }
    }

    /// Sends `request`, whose answer is then to be read. What is left of the last answer is forgotten.
    pub fn send(&mut self, request: &Request) -> Result<()> {
        self.buffer.clear();
        self.stream.write_all(&request.bytes)
    }

    /// Reads until `find` finds something in all that was read since the last request.
    pub fn read_until<T>(&mut self, find: impl Fn(&[u8]) -> Result<Option<T>>) -> Result<T> {
        loop {
            if let Some(found) = find(&self.buffer)? {
                return Ok(found);
            }
            self.fill()?;
        }
    }

    /// Sends `request` and reads its answer to the last byte; any other status than is expected is an error.
    pub fn exchange(&mut self, request: &Request) -> Result<()> {
        self.read_answer(request).map(drop)
    }

    /// The same, for the answer's body.
    pub fn answer(&mut self, request: &Request) -> Result<Vec<u8>> {
        let head = self.read_answer(request)?;
        Ok(self.buffer[head.body_at..][..head.length].to_vec())
    }

    fn read_answer(&mut self, request: &Request) -> Result<Head> {
        self.send(request)?;
        let head = self.read_until(head)?;
        while self.buffer.len() < head.body_at + head.length {
            self.fill()?;
        }
        match head.status {
            status if status == request.status => Ok(head),
            status => Err(Error::other(format!("status {status}"))),
        }
    }

    /// Whether the other side still holds this connection, while no request is on it.
    pub fn is_open(&self) -> Result<bool> {
        self.stream.set_nonblocking(true)?;
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false)?;
        Ok(matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock))
    }

    fn fill(&mut self) -> Result<()> {
        if self.acknowledging == Acknowledging::AtOnce {
            SockRef::from(&self.stream).set_tcp_quickack(true)?;
        }
        match self.stream.read(&mut self.chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            n => {
                self.buffer.extend_from_slice(&self.chunk[..n]);
                Ok(())
            }
        }
    }
}

/// The head of a response, once it is complete. Every server compared here answers with a `Content-Length`.
fn head(buffer: &[u8]) -> Result<Option<Head>> {
    let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else {
        return Ok(None);
    };
    let invalid = |what| Error::new(ErrorKind::InvalidData, what);
    let text = std::str::from_utf8(&buffer[..end]).map_err(|_| invalid("head is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1)?.parse().ok())
        .ok_or_else(|| invalid("no status"))?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| invalid("no Content-Length"))?;
    Ok(Some(Head {
        status,
        length,
        body_at: end + 4,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_head_when_it_is_complete() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        assert_eq!(head(&bytes[..20]).unwrap(), None);
        assert_eq!(
            head(bytes).unwrap(),
            Some(Head {
                status: 200,
                length: 5,
                body_at: 38
            })
        );
    }

    #[test]
    fn needs_a_length() {
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
