//! The stub upstream: one thread that answers every request with the same bytes, at once or after a sleep.
//!
//! It stands in for R when the cost of a proxy is measured, so it does as little as a server can. In each round
//! of the event loop it first reads from every connection that is ready and only then answers, so that requests
//! which travelled at the same time are seen to overlap.

mod alarms;
mod connection;
mod counts;
pub mod places;
mod request;
mod slot;

use std::collections::HashMap;
use std::io::{ErrorKind, Result, Write};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use alarms::Alarms;
use connection::{Connection, Replied};
use counts::Counts;
use request::Asks;

#[derive(Debug)]
pub struct Stub {
    poll: Poll,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    connections: HashMap<usize, Connection>,
    next_token: usize,
    alarms: Alarms,
    counts: Counts,
    answer: Vec<u8>,
    /// Where each of the connections that were dialled leads.
    dialled: HashMap<usize, SocketAddr>,
}

impl Stub {
    /// Takes connections from `listeners` (see [`places`]) and will answer with `body` bytes.
    pub fn new(mut listeners: Vec<TcpListener>, body: usize) -> Result<Self> {
        let poll = Poll::new()?;
        for (index, listener) in listeners.iter_mut().enumerate() {
            poll.registry()
                .register(listener, Token(index), Interest::READABLE)?;
        }
        let addresses = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<Vec<_>>>()?;
        Ok(Self {
            poll,
            connections: HashMap::new(),
            next_token: listeners.len(),
            alarms: Alarms::default(),
            counts: Counts::new(addresses.clone()),
            listeners,
            addresses,
            answer: answer("text/plain", &"x".repeat(body)),
            dialled: HashMap::new(),
        })
    }

    /// Offers `slots` slots to a hub, as a worker that dials in, and each again when it is closed. They count as connections of
    /// the first port.
    pub fn dial(&mut self, hub: SocketAddr, slots: usize) -> Result<()> {
        for _ in 0..slots {
            let token = self.add(TcpStream::from_std(slot::offer(hub)?), 0)?;
            self.dialled.insert(token, hub);
        }
        Ok(())
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until the process ends.
    pub fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut ready = Vec::new();
        loop {
            match self.poll.poll(&mut events, self.alarms.wait()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let now = Instant::now();
            for event in &events {
                match event.token().0 {
                    listener if listener < self.listeners.len() => self.accept(listener)?,
                    token => self.read(token, now, &mut ready),
                }
            }
            while let Some(token) = self.alarms.pop(now) {
                ready.push(token);
            }
            for token in ready.drain(..) {
                self.reply(token, now);
            }
        }
    }

    fn accept(&mut self, listener: usize) -> Result<()> {
        loop {
            let stream = match self.listeners[listener].accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The client left before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            self.add(stream, listener)?;
        }
    }

    fn add(&mut self, mut stream: TcpStream, listener: usize) -> Result<usize> {
        stream.set_nodelay(true)?;
        let token = self.next_token;
        self.next_token += 1;
        self.poll
            .registry()
            .register(&mut stream, Token(token), Interest::READABLE)?;
        self.connections
            .insert(token, Connection::new(stream, listener));
        self.counts.connections += 1;
        Ok(token)
    }

    fn read(&mut self, token: usize, now: Instant, ready: &mut Vec<usize>) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let before = connection.waiting();
        let read = connection.read(now);
        let (listener, waiting) = (connection.listener(), connection.waiting());
        if waiting > before {
            self.counts
                .arrived(listener, waiting - before, waiting, now);
        }
        match read {
            Ok(()) => ready.push(token),
            Err(_) => self.remove(token),
        }
    }

    fn reply(&mut self, token: usize, now: Instant) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let (counts, usual) = (&mut self.counts, &self.answer);
        let listener = connection.listener();
        let replied = connection.reply(now, |asks, stream| match asks {
            Asks::Answer => {
                counts.left(listener, 1);
                stream.write_all(usual)
            }
            Asks::Stats => stream.write_all(&answer("application/json", &counts.take())),
            Asks::StatsOfEach => stream.write_all(&answer("application/json", &counts.take_each())),
        });
        match replied {
            Ok(Replied::All) => {}
            Ok(Replied::Until(due)) => self.alarms.set(due, token),
            Ok(Replied::Closing) | Err(_) => self.remove(token),
        }
    }

    fn remove(&mut self, token: usize) {
        if let Some(connection) = self.connections.remove(&token) {
            self.counts
                .left(connection.listener(), connection.waiting());
        }
        if let Some(hub) = self.dialled.remove(&token) {
            // One that is gone for good is not dialled again.
            let _ = self.dial(hub, 1);
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
