//! Has a worker begun to accept connections, and where?

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpStream, UnixStream};

use crate::worker::{native, Address};

/// Between two looks. R needs hundreds of milliseconds to start.
pub const LOOK: Duration = Duration::from_millis(20);

/// A port that is the worker's alone.
///
/// The socket stays bound, without listening, for the worker's lifetime: `SO_REUSEADDR` on both lets
/// the worker bind and listen there, while the system gives the port to nobody who asks for any free
/// one. A port that is picked and released can be taken by another process in between.
pub struct ReservedPort {
    _socket: Socket,
    pub address: SocketAddr,
}

impl ReservedPort {
    /// # Errors
    /// There is no free port.
    pub fn take() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::other("a TCP socket without an address"))?;
        Ok(Self {
            _socket: socket,
            address,
        })
    }
}

/// Resolves once one of `addresses` accepts connections, to the first that does.
pub async fn accepts(addresses: &[Address], look: Duration) -> Address {
    loop {
        for address in addresses {
            let open = match address {
                Address::Tcp(address) => TcpStream::connect(address).await.is_ok(),
                Address::Unix(path) => match UnixStream::connect(path).await {
                    Ok(stream) => native::check_peer(&stream, path).is_ok(),
                    Err(_) => false,
                },
                Address::Dialled(_) | Address::Callers(_) => false,
            };
            if open {
                return address.clone();
            }
        }
        tokio::time::sleep(look).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_can_be_listened_on_and_is_not_given_to_others() {
        let reserved = ReservedPort::take().expect("a free port");
        for _ in 0..200 {
            let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            assert_ne!(other.local_addr().ok(), Some(reserved.address));
        }
        let worker = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        worker.set_reuse_address(true).expect("an option");
        worker
            .bind(&reserved.address.into())
            .expect("the port is ours");
        worker.listen(1).expect("nobody else listens");
    }
}
