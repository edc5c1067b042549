//! What a worker machine is told of the hubs that it offers its slots to.

use std::path::PathBuf;

use crate::gates::GateSettings;
use crate::pool::Route;
use crate::sources::hub::Token;

/// To whom slots are offered, and on which terms.
#[derive(Clone, Debug, PartialEq)]
pub struct OffersSettings {
    /// At least one.
    pub hubs: Vec<HubAddress>,
    pub token: Option<Token>,
    /// What the hubs call this machine.
    pub name: String,
    /// The path prefix that its slots serve; the root for all paths.
    pub route: Route,
    /// When they are offered.
    pub gates: GateSettings,
    /// Certificates (PEM) of those who vouch for the hubs', in place of the system's.
    pub ca: Option<PathBuf>,
    /// Where clients fetch bodies that do not go through the hub.
    pub redirect: Option<RedirectSettings>,
}

/// Where a hub takes workers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HubAddress {
    /// A name, which may have several addresses, or an address.
    pub host: String,
    pub port: u16,
    pub tls: bool,
}

impl HubAddress {
    /// Host and port, as in a URL.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Where clients fetch bodies that do not go through the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedirectSettings {
    /// What clients are told: `http://worker-host:8081`, without a `/` at its end.
    pub url: String,
    /// Where this machine listens for them: a name or an address.
    pub host: String,
    /// 0 for any free port: then the URL's has to be forwarded to it.
    pub port: u16,
}
