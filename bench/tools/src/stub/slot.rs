//! Offering a slot to a hub: the connection that is dialled, on which the hub asks from then on.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};

const HANDSHAKE: &[u8] = b"GET /slot HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\n\
    Upgrade: faucet-slot/1\r\nFaucet-Worker: stub\r\n\r\n";

/// A connection that does not block any more.
pub fn offer(hub: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(hub)?;
    stream.write_all(HANDSHAKE)?;
    let mut head = Vec::new();
    // One byte at a time: what follows is the first request.
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 101 ") {
        let head = String::from_utf8_lossy(&head).into_owned();
        return Err(Error::new(ErrorKind::ConnectionRefused, head));
    }
    stream.set_nonblocking(true)?;
    Ok(stream)
}
