//! What the stub saw: requests, connections, and how many requests were ever in flight at once.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub struct Counts {
    pub connections: u64,
    /// The most requests that one connection ever had unanswered.
    most_per_connection: usize,
    ports: Vec<Port>,
    clock: Clock,
}

/// One of the addresses that the stub listens on.
#[derive(Debug)]
struct Port {
    address: SocketAddr,
    requests: u64,
    in_flight: usize,
    /// The most requests that ever were in flight here, however many the connections.
    most: usize,
    /// When the first and the last request arrived.
    seen: Option<(Instant, Instant)>,
}

/// Tells the time of day of an instant: what another process can compare.
#[derive(Debug)]
struct Clock {
    start: Instant,
    since_1970: f64,
}

impl Counts {
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        Self {
            connections: 0,
            most_per_connection: 0,
            ports: addresses.into_iter().map(Port::new).collect(),
            clock: Clock::now(),
        }
    }

    /// `requests` more came to `port`, on a connection that has `waiting` of them now.
    pub fn arrived(&mut self, port: usize, requests: usize, waiting: usize, now: Instant) {
        self.most_per_connection = self.most_per_connection.max(waiting);
        let port = &mut self.ports[port];
        port.requests += requests as u64;
        port.in_flight += requests;
        port.most = port.most.max(port.in_flight);
        let first = port.seen.map_or(now, |(first, _)| first);
        port.seen = Some((first, now));
    }

    /// `requests` of `port` were answered, or will never be.
    pub fn left(&mut self, port: usize, requests: usize) {
        self.ports[port].in_flight -= requests;
    }

    /// What was seen since the last call of this or [`take_each`](Self::take_each).
    pub fn take(&mut self) -> String {
        let requests: u64 = self.ports.iter().map(|port| port.requests).sum();
        let most = self.ports.iter().map(|port| port.most).max();
        let seen = format!(
            r#"{{"requests":{requests},"connections":{},"most_per_connection":{},"most_per_port":{},"ports":{}}}"#,
            self.connections,
            self.most_per_connection,
            most.unwrap_or_default(),
            self.asked().count(),
        );
        self.begin_anew();
        seen
    }

    /// The same for each address that had requests: how many, the most in flight, and when the first and the last
    /// arrived, in seconds since 1970.
    pub fn take_each(&mut self) -> String {
        let fields: Vec<String> = self
            .asked()
            .filter_map(|port| {
                let (first, last) = port.seen?;
                Some(format!(
                    r#""{}":{{"requests":{},"most":{},"first":{:.6},"last":{:.6}}}"#,
                    port.address,
                    port.requests,
                    port.most,
                    self.clock.tell(first),
                    self.clock.tell(last),
                ))
            })
            .collect();
        self.begin_anew();
        format!("{{{}}}", fields.join(","))
    }

    fn asked(&self) -> impl Iterator<Item = &Port> {
        self.ports.iter().filter(|port| port.requests > 0)
    }

    /// Only what is in flight stays.
    fn begin_anew(&mut self) {
        self.connections = 0;
        self.most_per_connection = 0;
        for port in &mut self.ports {
            port.requests = 0;
            port.most = port.in_flight;
            port.seen = None;
        }
    }
}

impl Port {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            requests: 0,
            in_flight: 0,
            most: 0,
            seen: None,
        }
    }
}

impl Clock {
    fn now() -> Self {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            start: Instant::now(),
            since_1970: since_1970.unwrap_or_default().as_secs_f64(),
        }
    }

    fn tell(&self, then: Instant) -> f64 {
        self.since_1970 + then.saturating_duration_since(self.start).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Counts {
        Counts::new(vec![
            SocketAddr::from(([127, 0, 0, 1], 80)),
            SocketAddr::from(([127, 0, 0, 2], 80)),
        ])
    }

    fn most(counts: &Counts) -> (usize, Vec<usize>) {
        let each = counts.ports.iter().map(|port| port.most).collect();
        (counts.most_per_connection, each)
    }

    #[test]
    fn overlap_is_seen_only_until_the_answer() {
        let (mut counts, now) = (counts(), Instant::now());
        counts.arrived(0, 1, 1, now);
        counts.left(0, 1);
        counts.arrived(0, 1, 1, now);
        counts.arrived(1, 1, 1, now);
        assert_eq!(most(&counts), (1, vec![1, 1]));
        counts.arrived(1, 1, 1, now);
        assert_eq!(most(&counts), (1, vec![1, 2]));
    }

    #[test]
    fn what_is_in_flight_outlives_a_look() {
        let (mut counts, now) = (counts(), Instant::now());
        counts.arrived(0, 1, 1, now);
        assert!(counts.take().contains(r#""requests":1,"#));
        assert_eq!(counts.take_each(), "{}");
        counts.arrived(0, 1, 1, now);
        assert_eq!(most(&counts).1, [2, 0]);
    }

    #[test]
    fn tells_of_each_address_that_was_asked() {
        let mut counts = counts();
        counts.arrived(1, 1, 1, Instant::now());
        let told = counts.take_each();
        assert!(told.starts_with(r#"{"127.0.0.2:80":{"requests":1,"most":1,"first":"#));
        assert!(!told.contains("127.0.0.1:80"));
    }
}
