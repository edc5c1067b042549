//! The stub upstream: one thread that answers every request at once, with the same bytes.
//!
//! It stands in for R when the cost of a proxy is measured, so it does as little as a server can. In each round
//! of the event loop it first reads from every connection that is ready and only then answers, so that requests
//! which travelled at the same time are seen to overlap.

mod connection;
mod counts;
mod request;

use std::collections::HashMap;
use std::io::{ErrorKind, Result};
use std::net::SocketAddr;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use connection::Connection;
use counts::Counts;

#[derive(Debug)]
pub struct Stub {
    poll: Poll,
    listeners: Vec<TcpListener>,
    connections: HashMap<usize, Connection>,
    next_token: usize,
    counts: Counts,
    answer: Vec<u8>,
}

impl Stub {
    /// Listens on `ports` free ports of the loopback and will answer with `body` bytes.
    pub fn bind(ports: usize, body: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let mut listeners = Vec::with_capacity(ports);
        for index in 0..ports {
            let mut listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            poll.registry()
                .register(&mut listener, Token(index), Interest::READABLE)?;
            listeners.push(listener);
        }
        Ok(Self {
            poll,
            connections: HashMap::new(),
            next_token: listeners.len(),
            counts: Counts::new(listeners.len()),
            listeners,
            answer: answer("text/plain", &"x".repeat(body)),
        })
    }

    pub fn addresses(&self) -> Result<Vec<SocketAddr>> {
        self.listeners.iter().map(TcpListener::local_addr).collect()
    }

    /// Serves until the process ends.
    pub fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut ready = Vec::new();
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token().0 {
                    listener if listener < self.listeners.len() => self.accept(listener)?,
                    token => self.read(token, &mut ready),
                }
            }
            self.counts.end_of_round();
            for token in ready.drain(..) {
                self.reply(token);
            }
        }
    }

    fn accept(&mut self, listener: usize) -> Result<()> {
        loop {
            let mut stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The client left before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let token = self.next_token;
            self.next_token += 1;
            self.poll
                .registry()
                .register(&mut stream, Token(token), Interest::READABLE)?;
            self.connections
                .insert(token, Connection::new(stream, listener));
            self.counts.connections += 1;
        }
    }

    fn read(&mut self, token: usize, ready: &mut Vec<usize>) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        match connection.read() {
            Ok(0) => {}
            Ok(requests) => {
                self.counts.arrived(connection.listener(), requests);
                ready.push(token);
            }
            Err(_) => {
                self.connections.remove(&token);
            }
        }
    }

    fn reply(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let counts = &mut self.counts;
        let sent = connection.reply(&self.answer, || answer("application/json", &counts.take()));
        if !matches!(sent, Ok(true)) {
            self.connections.remove(&token);
        }
    }
}

fn answer(content_type: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
