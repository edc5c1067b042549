//! Where a server listens.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use crate::front;
use crate::sources::Failure;

/// Listens on a host, by name or address. The names of both settings begin with `prefix`. To be called on R's thread.
#[allow(clippy::disallowed_methods)]
pub(super) fn listen(
    prefix: &str,
    host: &str,
    port: u16,
) -> Result<std::net::TcpListener, Failure> {
    let named = |error: io::Error| {
        let (class, hint) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                "port_in_use",
                format!("Another program listens there: choose another `{prefix}port`, or 0 for any free one."),
            ),
            io::ErrorKind::PermissionDenied => (
                "listen",
                format!("Ports below 1024 need privileges: choose another `{prefix}port`."),
            ),
            _ => (
                "listen",
                format!("Is `{prefix}host` an address of this machine?"),
            ),
        };
        Failure {
            class,
            message: format!("Cannot listen on {host}:{port}: {error}. {hint}"),
            lines: Vec::new(),
        }
    };
    let address = match host.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, port),
        Err(_) => (host, port)
            .to_socket_addrs()
            .map_err(named)?
            .next()
            .ok_or_else(|| named(io::ErrorKind::AddrNotAvailable.into()))?,
    };
    front::bind(address).map_err(named)
}

/// An address that a client on this machine can use.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
    } else {
        address
    }
}
