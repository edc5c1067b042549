//! Who is at the other end of a client's connection.

use std::fmt;
use std::net::{AddrParseError, IpAddr};
use std::str::FromStr;

/// How a client without an address is called, as nginx calls it.
pub const UNIX: &str = "unix:";

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClientAddress {
    /// In its one form: an IPv4 address is no IPv6 address.
    Ip(IpAddr),
    /// Some process on this machine that may open the Unix socket.
    Unix,
}

impl From<IpAddr> for ClientAddress {
    /// A dual-stack listener sees IPv4 peers as ::ffff:a.b.c.d.
    fn from(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }
}

impl FromStr for ClientAddress {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, AddrParseError> {
        if text == UNIX {
            return Ok(Self::Unix);
        }
        text.parse::<IpAddr>().map(Self::from)
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix => f.write_str(UNIX),
        }
    }
}
