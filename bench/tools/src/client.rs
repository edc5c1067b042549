//! One blocking HTTP/1.1 client: a connection, and requests on it one after another.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A GET, written once and sent as often as needed.
#[derive(Debug, Clone)]
pub struct Request(Vec<u8>);

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    length: usize,
    body_at: usize,
}

impl Request {
    pub fn kept_alive(path: &str) -> Self {
        Self(format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").into_bytes())
    }

    pub fn closing(path: &str) -> Self {
        Self(
            format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").into_bytes(),
        )
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
            buffer: Vec::new(),
        })
    }

    /// Sends `request` and reads its answer to the last byte; anything but a 200 is an error.
    pub fn exchange(&mut self, request: &Request) -> Result<()> {
        self.stream.write_all(&request.0)?;
        self.buffer.clear();
        let head = loop {
            self.fill()?;
            if let Some(head) = head(&self.buffer)? {
                break head;
            }
        };
        while self.buffer.len() < head.body_at + head.length {
            self.fill()?;
        }
        match head.status {
            200 => Ok(()),
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
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            n => {
                self.buffer.extend_from_slice(&chunk[..n]);
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
