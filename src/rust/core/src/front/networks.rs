//! Addresses in CIDR notation, and `unix:`: who is meant by a setting.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::client_address::{ClientAddress, UNIX};

/// Some addresses, or none.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    nets: Vec<IpNet>,
    /// Whether whoever connects to a Unix socket is meant, too.
    unix: bool,
}

/// An entry that is neither an address nor a CIDR range.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is neither an IP address, nor a CIDR range such as 10.0.0.0/8, nor `unix:`")]
pub struct NotAnAddress(pub(super) String);

impl Networks {
    /// # Errors
    /// The first entry that is none.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, NotAnAddress> {
        let mut networks = Self::default();
        for entry in entries {
            let entry = entry.as_ref().trim();
            if entry == UNIX {
                networks.unix = true;
                continue;
            }
            let net = entry
                .parse::<IpNet>()
                .or_else(|_| entry.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| NotAnAddress(entry.to_owned()))?;
            networks.nets.push(net);
        }
        Ok(networks)
    }

    pub fn contains(&self, address: ClientAddress) -> bool {
        match address {
            ClientAddress::Ip(ip) => self.nets.iter().any(|net| net.contains(&ip)),
            ClientAddress::Unix => self.unix,
        }
    }
}
