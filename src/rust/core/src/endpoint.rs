//! Where a server listens.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
    /// A name without a file (Linux).
    Abstract(String),
}

impl Endpoint {
    /// What a setting says with `unix:/path` or `unix:@name`; none if it is the name of a host.
    pub fn unix(host: &str) -> Option<Self> {
        let path = host.strip_prefix("unix:")?;
        Some(match path.strip_prefix('@') {
            Some(name) => Self::Abstract(name.to_owned()),
            None => Self::Unix(path.into()),
        })
    }

    /// The address and port, as someone on this machine can use them; none of a Unix socket.
    pub fn authority(&self) -> Option<String> {
        match self {
            Self::Tcp(address) if address.ip().is_unspecified() => {
                Some(SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())).to_string())
            }
            Self::Tcp(address) => Some(address.to_string()),
            Self::Unix(_) | Self::Abstract(_) => None,
        }
    }

    /// As a client on this machine can use it, also one that is to speak TLS.
    pub fn url(&self, is_tls: bool) -> String {
        let url = self.to_string();
        match url.strip_prefix("http://") {
            Some(place) if is_tls => format!("https://{place}"),
            _ => url,
        }
    }

    pub fn is_unix(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }
}

/// As a client on this machine can use it: a wildcard address is shown as loopback.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) if address.ip().is_unspecified() => {
                write!(f, "http://{}:{}", Ipv4Addr::LOCALHOST, address.port())
            }
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
        }
    }
}
