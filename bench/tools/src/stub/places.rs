//! Where the stub listens.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use mio::net::TcpListener;

/// How often to look for a port that is free on all hosts.
const ATTEMPTS: usize = 20;

/// On `count` free ports of 127.0.0.1.
pub fn ports(count: usize) -> Result<Vec<TcpListener>> {
    (0..count)
        .map(|_| bind(Ipv4Addr::LOCALHOST, 0))
        .collect::<Result<_>>()
}

/// On one port of `count` addresses, from `first` on: as the replicas of a service are.
pub fn hosts(first: Ipv4Addr, count: usize) -> Result<Vec<TcpListener>> {
    for _ in 0..ATTEMPTS {
        let listener = bind(first, 0)?;
        let port = listener.local_addr()?.port();
        let others = (1..count as u32).map(|step| bind(after(first, step), port));
        match others.collect::<Result<Vec<_>>>() {
            Err(error) if error.kind() == ErrorKind::AddrInUse => continue,
            others => {
                let mut listeners = vec![listener];
                listeners.extend(others?);
                return Ok(listeners);
            }
        }
    }
    Err(Error::new(
        ErrorKind::AddrInUse,
        "no port is free on all hosts",
    ))
}

fn bind(host: Ipv4Addr, port: u16) -> Result<TcpListener> {
    TcpListener::bind(SocketAddr::V4(SocketAddrV4::new(host, port)))
}

fn after(host: Ipv4Addr, steps: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(host).wrapping_add(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_on_where_a_byte_is_full() {
        let first = Ipv4Addr::new(127, 1, 0, 255);
        assert_eq!(after(first, 1), Ipv4Addr::new(127, 1, 1, 0));
    }
}
