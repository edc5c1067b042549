//! One connection of the stub: what it sent so far, and the requests on it that wait for their answer.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Result};
use std::time::Instant;

use mio::net::TcpStream;

use super::request::{self, Asks};

#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    listener: usize,
    /// Bytes that are not a whole request yet.
    unread: Vec<u8>,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    asks: Asks,
    close: bool,
    due: Instant,
}

/// What became of the requests that waited.
#[derive(Debug, PartialEq, Eq)]
pub enum Replied {
    All,
    /// The next is due then.
    Until(Instant),
    /// The connection is to be closed.
    Closing,
}

impl Connection {
    pub fn new(stream: TcpStream, listener: usize) -> Self {
        Self {
            stream,
            listener,
            unread: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    pub fn listener(&self) -> usize {
        self.listener
    }

    /// Requests without an answer. Those for what the stub saw are none.
    pub fn waiting(&self) -> usize {
        let usual = |waiting: &&Waiting| waiting.asks == Asks::Answer;
        self.waiting.iter().filter(usual).count()
    }

    /// Reads what there is. An error means the connection is over.
    pub fn read(&mut self, now: Instant) -> Result<()> {
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
            self.waiting.push_back(Waiting {
                asks: request.asks,
                close: request.close,
                due: now + request.sleep,
            });
        }
        self.unread.drain(..parsed);
        Ok(())
    }

    /// Answers every request that is due, in the order in which they came.
    pub fn reply(
        &mut self,
        now: Instant,
        mut answer: impl FnMut(Asks, &mut TcpStream) -> Result<()>,
    ) -> Result<Replied> {
        while let Some(next) = self.waiting.front() {
            if next.due > now {
                return Ok(Replied::Until(next.due));
            }
            let (asks, close) = (next.asks, next.close);
            self.waiting.pop_front();
            // Answers are small. A client that leaves so many unread that the socket is full is cut off.
            answer(asks, &mut self.stream)?;
            if close {
                return Ok(Replied::Closing);
            }
        }
        Ok(Replied::All)
    }
}
