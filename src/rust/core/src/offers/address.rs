//! How operators write the addresses of hubs, and of this machine for clients that come for a body.

use std::fmt;

use super::{HubAddress, RedirectSettings};
use crate::sources::replicas::Host;

/// Where hubs take workers unless told otherwise.
pub const PORT: u16 = 4040;

impl HubAddress {
    /// Reads `host`, `host:port`, or `tls://` and one of these. The host is a name or an address, of IPv6 in brackets.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (tls, authority) = match text.split_once("://") {
            None => (false, text),
            Some(("tls", rest)) => (true, rest),
            Some(_) => {
                return Err(
                    "A hub has an address such as hub:4040, or with TLS tls://hub:4040.".into(),
                )
            }
        };
        if authority.contains('/') {
            return Err("A hub's address has no path.".into());
        }
        let (host, port) = Host::of_authority(authority)?;
        Ok(Self {
            host: plain(&host),
            port: port.unwrap_or(PORT),
            tls,
        })
    }

    /// Whether what is sent there in clear text can be read by others.
    pub fn is_exposed(&self) -> bool {
        !self.tls && !is_loopback(&self.host)
    }
}

/// As `parse` reads it.
impl fmt::Display for HubAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls://" } else { "" };
        write!(f, "{scheme}{}", self.authority())
    }
}

impl RedirectSettings {
    /// Reads the URL that clients are told. Unless told otherwise, this machine listens on the URL's port, and on all its
    /// addresses, but on loopback alone for a URL of loopback.
    ///
    /// # Errors
    /// What is wrong with the URL, as a sentence.
    pub fn parse(url: &str, host: Option<String>, port: Option<u16>) -> Result<Self, String> {
        let (standard, rest) = match url.split_once("://") {
            Some(("http", rest)) => (80, rest),
            Some(("https", rest)) => (443, rest),
            _ => return Err("It must begin with http:// or https://.".into()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#', '@']) {
            return Err("It is a scheme, a host and a port, and nothing else.".into());
        }
        let (at, told) = Host::of_authority(authority)?;
        let all = if at.is_loopback() {
            "127.0.0.1"
        } else {
            "0.0.0.0"
        };
        Ok(Self {
            url: url.strip_suffix('/').unwrap_or(url).to_owned(),
            host: host.unwrap_or_else(|| all.to_owned()),
            port: port.unwrap_or(told.unwrap_or(standard)),
        })
    }
}

/// Whether only this machine reaches a host: a name, or an address without brackets.
pub fn is_loopback(host: &str) -> bool {
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => Host::of_authority(host).is_ok_and(|(host, _)| host.is_loopback()),
    }
}

fn plain(host: &Host) -> String {
    match host {
        Host::Address(address) => address.to_string(),
        Host::Loopback => "localhost".into(),
        Host::Name(name) | Host::Service(name) => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_hubs_address() {
        for (text, shown, exposed) in [
            ("hub", "hub:4040", true),
            ("Hub.example.com:5", "hub.example.com:5", true),
            ("tls://hub", "tls://hub:4040", false),
            ("tls://10.0.0.1:443", "tls://10.0.0.1:443", false),
            ("10.0.0.1", "10.0.0.1:4040", true),
            ("127.0.0.1:4041", "127.0.0.1:4041", false),
            ("localhost", "localhost:4040", false),
            ("[::1]:4041", "[::1]:4041", false),
            ("[fd00::7]", "[fd00::7]:4040", true),
        ] {
            let address = HubAddress::parse(text).expect(text);
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.is_exposed(), exposed, "{text}");
            assert_eq!(HubAddress::parse(shown).as_ref(), Ok(&address));
        }
        for text in [
            "",
            ":4040",
            "hub:0",
            "hub:x",
            "http://hub:4040",
            "https://hub",
            "tls://",
            "hub:4040/x",
            "a b",
            "me@hub",
            "::1",
            "a,b",
        ] {
            assert!(HubAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn where_bodies_are_fetched() {
        let parse = |url: &str| RedirectSettings::parse(url, None, None);
        let all = |url: &str, host: &str, port| {
            assert_eq!(
                parse(&format!("{url}/")),
                Ok(RedirectSettings {
                    url: url.into(),
                    host: host.into(),
                    port
                })
            );
        };
        all("http://worker:8081", "0.0.0.0", 8081);
        all("https://worker", "0.0.0.0", 443);
        all("http://127.0.0.1:8081", "127.0.0.1", 8081);
        let other = RedirectSettings::parse("https://files", Some("::".into()), Some(0));
        assert!(other.is_ok_and(|other| (&*other.host, other.port) == ("::", 0)));
        for url in ["worker:8081", "ftp://worker", "http://worker/x", "http://"] {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn what_only_this_machine_reaches() {
        for host in [
            "127.0.0.1",
            "127.1.2.3",
            "::1",
            "localhost",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["0.0.0.0", "::", "10.0.0.1", "worker", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
