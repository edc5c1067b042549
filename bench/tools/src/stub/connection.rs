//! One connection of the stub: what it sent so far, and the requests on it that wait for their answer.

use std::io::{ErrorKind, Read, Result, Write};

use mio::net::TcpStream;

use super::request::{self, Request};

#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    listener: usize,
    /// Bytes that are not a whole request yet.
    unread: Vec<u8>,
    waiting: Vec<Request>,
}

impl Connection {
    pub fn new(stream: TcpStream, listener: usize) -> Self {
        Self {
            stream,
            listener,
            unread: Vec::new(),
            waiting: Vec::new(),
        }
    }

    pub fn listener(&self) -> usize {
        self.listener
    }

    /// Reads what there is, and says how many requests it completed. An error means the connection is over.
    pub fn read(&mut self) -> Result<usize> {
        let mut chunk = [0; 16 * 1024];
        loop {
            let n = match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            self.unread.extend_from_slice(&chunk[..n]);
            // A short read emptied the socket: epoll's edge comes again, and a second read would only cost.
            if n < chunk.len() {
                break;
            }
        }
        let mut parsed = 0;
        while let Some(request) = request::parse(&self.unread[parsed..])? {
            parsed += request.length;
            self.waiting.push(request);
        }
        self.unread.drain(..parsed);
        Ok(self.waiting.len())
    }

    /// Answers every request that waits; false when the connection is to be closed.
    pub fn reply(&mut self, answer: &[u8], mut stats: impl FnMut() -> Vec<u8>) -> Result<bool> {
        for request in self.waiting.drain(..) {
            // Answers are small. A client that leaves so many unread that the socket is full is cut off.
            if request.stats {
                self.stream.write_all(&stats())?;
            } else {
                self.stream.write_all(answer)?;
            }
            if request.close {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
