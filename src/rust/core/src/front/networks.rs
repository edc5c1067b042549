//! Addresses in CIDR notation: who is meant by a setting.

use std::net::IpAddr;

use ipnet::IpNet;

/// Some addresses, or none.
#[derive(Clone, Debug, Default)]
pub struct Networks(Vec<IpNet>);

/// An entry that is neither an address nor a CIDR range.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is neither an IP address nor a CIDR range such as 10.0.0.0/8")]
pub struct NotAnAddress(String);

impl Networks {
    /// # Errors
    /// The first entry that is none.
    pub fn parse<S: AsRef<str>>(entries: &[S]) -> Result<Self, NotAnAddress> {
        entries
            .iter()
            .map(|entry| {
                let entry = entry.as_ref().trim();
                entry
                    .parse::<IpNet>()
                    .or_else(|_| entry.parse::<IpAddr>().map(IpNet::from))
                    .map_err(|_| NotAnAddress(entry.to_owned()))
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        // A dual-stack listener sees IPv4 peers as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }
}
